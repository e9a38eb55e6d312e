"""Routing of experts with shared prompts over NF4: the same at equal weights, and all that sends losses apart later.

TRL holds the adapters of a 4-bit base in bf16. A shared prompt rounds the sum of two gradients where plain TRL rounds
each, so a gradient near zero may change its sign; Adam's first steps follow the sign, that weight goes the other way,
and a token whose experts are nearly level is sent to another one.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.config.schema import Config
from dpo_tui.train.shortcuts import prefix_sharing
from dpo_tui.train.shortcuts.equivalence_check import collated, largest_difference, token_logps
from tests.support import trained_both_ways
from tests.support.families import FAMILIES, build
from tests.support.family_comparison import config_of, make_varied_pairs

_EXPERTS = 2
"""Experts that a token of this model goes to."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("gpt-oss")
    model, data = build("gpt-oss", folder / "model"), make_varied_pairs(folder / "train.jsonl", 12)
    rate = FAMILIES["gpt-oss"].rate / 2
    # Without checkpointing each forward pass routes once.
    return config_of(model, data, FAMILIES["gpt-oss"], use_4bit=True, learning_rate=rate, gradient_checkpointing=False)


class Untrained:
    """A trainer as it is before it trains."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer


def trainer_of(config: Config, monkeypatch: pytest.MonkeyPatch, *, plain: bool = False, fp32: bool = False) -> Any:
    monkeypatch.setattr(trained_both_ways, "Trained", Untrained)
    build_it = trained_both_ways.plain_trl if plain else trained_both_ways.ours
    trainer = build_it(config.model_copy(update={"precompute_ref_log_probs": "off"}) if plain else config).trainer
    for weight in trainer.model.parameters():
        if fp32 and weight.requires_grad:
            weight.data = weight.data.float()
    return trainer


@contextlib.contextmanager
def routing(trainer: Any, forced: list[torch.Tensor] | None = None) -> Iterator[list[torch.Tensor]]:
    """Yield the experts that each router chooses, ``[tokens, 2]`` a call, as it is called.

    Args:
        trainer: of the model.
        forced: take these choices instead, made in plain rows ``[N * L, 2]``; packed rows take those of their tokens.
    """
    chosen: list[torch.Tensor] = []
    layouts: list[Any] = [None]
    packed_outputs = prefix_sharing.PrefixSharing._packed_outputs

    def with_layout(sharing: Any, forward: Any, kwargs: Any, layout: Any, mask_of: Any) -> Any:
        layouts.append(layout)
        try:
            return packed_outputs(sharing, forward, kwargs, layout, mask_of)
        finally:
            layouts.pop()

    def route(router: Any, given: Any, output: Any) -> Any:
        logits, _, experts = output
        if forced is not None:
            experts = forced[len(chosen)]
            if layouts[-1] is not None:
                experts = experts[layouts[-1].source_RT.reshape(-1)]
            scores = logits.gather(-1, experts).softmax(dim=1)
            output = (logits, scores, experts)
        chosen.append(experts.detach().clone())
        return output

    routers = [module for module in trainer.model.modules() if type(module).__name__ == "GptOssTopKRouter"]
    hooks = [router.register_forward_hook(route) for router in routers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_sharing.PrefixSharing, "_packed_outputs", with_layout)
        yield chosen
    for hook in hooks:
        hook.remove()


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def apart(one: list[float], other: list[float]) -> float:
    assert len(one) == len(other) == 3
    return max(abs(first - second) for first, second in zip(one, other, strict=True))


def test_at_equal_weights_every_token_goes_to_the_same_experts_in_both_layouts(
    home: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(config, monkeypatch)
    assert trainer.shortcuts.report()["share_prefix"]["on"]
    layouts = []
    unpack = prefix_sharing.unpack_outputs

    def unpack_and_keep(outputs: Any, layout: Any) -> Any:
        layouts.append(layout)
        return unpack(outputs, layout)

    monkeypatch.setattr(prefix_sharing, "unpack_outputs", unpack_and_keep)
    for first in range(0, 12, 4):
        batch = collated(trainer, [trainer.train_dataset[index] for index in range(first, first + 4)])
        real = batch["attention_mask"].reshape(-1) == 1
        found = []
        for shared in (False, True):
            trainer.shortcuts.sharing.enabled = shared
            with trainer.shortcuts.checking(trainer.model), routing(trainer) as chosen:
                found.append((token_logps(trainer, batch), list(chosen)))
        (plain, plain_experts), (packed, packed_experts) = found
        assert largest_difference(plain, packed) < 1e-5
        places = layouts[-1].target_NL.reshape(-1)
        assert len(plain_experts) == len(packed_experts) == 2  # layers
        for one, other in zip(plain_experts, packed_experts, strict=True):
            assert one.shape == (len(real), _EXPERTS)
            assert torch.equal(one[real].sort(-1)[0], other[places][real].sort(-1)[0])


def test_with_the_same_experts_nf4_trains_as_plain_trl(
    home: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trainer_of(config, monkeypatch, plain=True)
    with routing(plain) as experts:
        expected = losses(plain)
    shared = trainer_of(config, monkeypatch)
    # The check before the training routes too, but not through these routers' hooks: they are not there yet.
    with routing(shared, forced=experts) as used:
        assert apart(losses(shared), expected) <= 5e-4
    assert len(used) == len(experts)


def test_with_adapters_in_fp32_no_routing_has_to_be_forced(
    home: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = losses(trainer_of(config, monkeypatch, plain=True, fp32=True))
    assert apart(losses(trainer_of(config, monkeypatch, fp32=True)), plain) <= 1e-5
