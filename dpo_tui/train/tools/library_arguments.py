"""Child that says what a config's settings become: the arguments of TRL, PEFT, transformers and bitsandbytes."""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from dpo_tui.config.files import from_values
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.load import loading_options, lora_config
from dpo_tui.train.tools.json_service import Send, serve
from dpo_tui.train.trainer.trainer_registry import TRAINERS

_QUANTISATION = "quantization_config"


def list_arguments(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for the arguments.

    Args:
        request: ``settings`` (a whole config by name).
        send: not used: there is no progress to report.

    Returns:
        ``libraries``: by the name of a class or function, its arguments; and ``defaults``, those of them that have one.
        A value that JSON has no form for is text.

    Raises:
        TrainingError: the installed TRL has no trainer for the strategy, or a library refuses an argument.
    """
    config = from_values(request["settings"])
    entry = TRAINERS.get(config.strategy)
    if entry is None:
        raise TrainingError(f"the installed TRL has no trainer for strategy = {config.strategy}")
    device = choose_device(config)
    evaluates = config.eval_split > 0 or config.has_evaluation_data
    with tempfile.TemporaryDirectory() as scratch:
        arguments = entry.arguments(config, RunFolder(Path(scratch)), device, evaluates=evaluates, resumes=False)
    values = {one.name: getattr(arguments, one.name) for one in dataclasses.fields(arguments) if one.init}
    # A run's own folder, which is not made here.
    values["output_dir"] = "RUN/checkpoints"
    libraries: dict[str, Any] = {type(arguments).__name__: values}
    defaults: dict[str, Any] = {type(arguments).__name__: _defaults(type(arguments))}
    if (adapter := lora_config(config)) is not None:
        names = [one.name for one in dataclasses.fields(adapter)]
        libraries["LoraConfig"] = {name: getattr(adapter, name) for name in names}
        defaults["LoraConfig"] = _defaults(type(adapter))
    loading = loading_options(config, device)
    quantisation = loading.pop(_QUANTISATION, None)
    libraries["from_pretrained"] = loading
    if quantisation is not None:
        libraries["BitsAndBytesConfig"] = (
            quantisation if isinstance(quantisation, Mapping) else quantisation.to_diff_dict()
        )
    return {"libraries": _plain(libraries), "defaults": _plain(defaults)}


def _defaults(of_class: type[Any]) -> dict[str, Any]:
    return {one.name: one.default for one in dataclasses.fields(of_class) if one.default is not dataclasses.MISSING}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, str | int | float | bool | None) else str(value)


if __name__ == "__main__":
    sys.exit(serve(list_arguments))
