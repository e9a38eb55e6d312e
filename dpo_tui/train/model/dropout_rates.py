"""Dropout rates of a model: in torch's modules, in attributes of the model's own modules, and in its config.

TRL's ``disable_dropout`` sets ``torch.nn.Dropout`` alone. Most models of transformers drop attention weights through a
function, at a rate that is an attribute of the attention module (``attention_dropout``), and some hidden states as well
(OPT, Seed-OSS, Falcon); a few read the rate from their config in every forward pass.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

# "resid_pdrop", "attention_dropout", "layerdrop", "drop_path_rate", "hidden_dropout_prob" ...
_RATE_NAME = re.compile("drop")


@dataclass(frozen=True)
class DropoutRate:
    """A rate of dropout that is above 0.

    Attributes:
        owner: the module or config that has it as an attribute.
        name: of the attribute.
        value: the rate, or the probability of leaving out a layer, above 0.
    """

    owner: Any
    name: str
    value: float


def module_rates(model: Any) -> list[DropoutRate]:
    """Return the rates above 0 of a model's modules: of torch's dropout modules, and of the model's own."""
    found = []
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            found += [DropoutRate(module, "p", float(module.p))] if module.p else []
        else:
            found += _rates_of(module)
    return found


def config_rates(model: Any) -> list[DropoutRate]:
    """Return the rates above 0 in a model's config and its parts; not all of them are used in a forward pass."""
    configs = {id(config): config for module in model.modules() if (config := _config_of(module)) is not None}
    parts = [
        part for config in configs.values() for part in vars(config).values() if isinstance(part, PreTrainedConfig)
    ]
    configs |= {id(part): part for part in parts}
    return [rate for config in configs.values() for rate in _rates_of(config)]


def disable_dropout(model: Any) -> list[DropoutRate]:
    """Set every rate of a model to 0.

    Args:
        model: a causal language model, with or without an adapter.

    Returns:
        The rates that its config had, for :func:`config_as_loaded`.
    """
    of_config = config_rates(model)
    for rate in [*module_rates(model), *of_config]:
        setattr(rate.owner, rate.name, 0.0)
    return of_config


@contextlib.contextmanager
def config_as_loaded(rates: Sequence[DropoutRate]) -> Iterator[None]:
    """Give configs their rates back while the context lasts: a model is saved with the config that it came with."""
    try:
        for rate in rates:
            setattr(rate.owner, rate.name, rate.value)
        yield
    finally:
        for rate in rates:
            setattr(rate.owner, rate.name, 0.0)


def _rates_of(owner: Any) -> list[DropoutRate]:
    return [
        DropoutRate(owner, name, float(value))
        for name, value in vars(owner).items()
        # A bool is an int. Above 1 it is no probability: DropBlock's block size, a count of dropped pairs.
        if _RATE_NAME.search(name) and isinstance(value, int | float) and value is not True and 0 < value <= 1
    ]


def _config_of(module: Any) -> Any:
    config = vars(module).get("config")
    return config if isinstance(config, PreTrainedConfig) else None
