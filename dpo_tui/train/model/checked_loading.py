"""Loading of weights that counts what was loaded, and refuses a model or adapter of which a part was not.

The names of weights in files need not be those in memory: transformers fuses the experts of a mixture, and renames the
parts of Gemma 3's wrapper or GPT-NeoX's output layer. ``load_state_dict(strict=False)`` of such a file loads a part or
nothing and is silent. Here everything goes through ``from_pretrained``, which knows the names of every family.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights

from dpo_tui.errors import TrainingError
from dpo_tui.train.model.sharding import copy_whole, is_sharded
from dpo_tui.train.model.verified_code import may_run_code_of

Report = Callable[[str], None]
"""Receives a sentence for the user."""
_SHOWN = 3
"""Names of weights in a message."""
_DAMAGED = "the folder is damaged or not of one piece: take another checkpoint or export, or copy it here again"


def load_checked(model_class: Any, source: str | Path, *, warn: Report | None = None, **options: Any) -> Any:
    """Load a model with ``model_class.from_pretrained``, and refuse it if a weight of it is in no file.

    transformers itself fills such a weight with random numbers.

    Args:
        model_class: with ``from_pretrained``: a model's own class or one of transformers' Auto classes.
        source: folder or hub id.
        warn: receives a sentence where files hold weights that the model does not have, such as those of a vision
            tower beside a text model; None refuses those too, which no model that was saved whole has.
        **options: of ``from_pretrained``.

    Raises:
        TrainingError: a weight is missing, of another shape, or cannot be converted.
    """
    try:
        # Mismatches are refused below, by name; transformers' own error does not name them.
        model, found = model_class.from_pretrained(
            source,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=may_run_code_of(source),
            **options,
        )
    except RuntimeError as error:
        if "automatic conversion" not in str(error):
            raise
        raise TrainingError(
            f"{source}: its weights do not fit together: transformers cannot convert them to the model that its "
            "config.json describes",
            hint=_DAMAGED,
        ) from error
    count = len(model.state_dict())
    mismatched = sorted(name for name, *_ in found["mismatched_keys"])
    if mismatched:
        raise TrainingError(
            f"{source}: {_some(mismatched, count)} have another shape in its files than config.json says",
            hint=_DAMAGED,
        )
    if found["missing_keys"]:
        raise TrainingError(
            f"{source}: {_some(found['missing_keys'], count)} are in none of its files, and would be random numbers",
            hint=_DAMAGED,
        )
    if found["unexpected_keys"]:
        unknown = f"{source}: its files hold {len(found['unexpected_keys'])} weights that the model does not have"
        message = f"{unknown} ({_names(found['unexpected_keys'])})"
        if warn is None:
            raise TrainingError(message, hint=_DAMAGED)
        warn(f"{message}; they are not loaded")
    return model


def load_result_into(model: Any, folder: Path) -> None:
    """Replace what a run trains, a model's adapter or all its weights, by what it has saved in a folder.

    Raises:
        TrainingError: the folder does not hold exactly that.
    """
    if isinstance(model, PeftModel):
        _load_adapter_into(model, folder)
    else:
        _load_weights_into(model, folder)


def _load_weights_into(model: Any, folder: Path) -> None:
    """Replace all weights of a model in memory by those of a folder that was saved from the same class of model.

    Holds a second copy of the weights in main memory meanwhile.

    Args:
        model: without an adapter, on any device; its parameters stay the same objects.
        folder: a checkpoint of full fine-tuning or its result.

    Raises:
        TrainingError: the folder does not hold exactly the weights of this model.
    """
    # The widest dtype of the model: nothing is rounded before it is copied.
    dtype = reduce(torch.promote_types, {parameter.dtype for parameter in model.parameters()})
    if is_sharded(model):
        # fully_shard has put a class of its own before the model's.
        saved = load_checked(type(model).__mro__[2], folder, dtype=dtype)
        _copy_divided(model.state_dict(), saved.state_dict(), folder)
        return
    saved = load_checked(type(model), folder, dtype=dtype)
    with _refusal(f"{folder}: is of another model than the one in memory"):
        # Strict, and from memory to memory: here both sides have the names of the same class, whatever those in the
        # files are. Copied into the parameters, since the optimizer holds on to these objects.
        model.load_state_dict(saved.state_dict())


def load_with_adapter(model: Any, folder: Path) -> PeftModel:
    """Return a base model with the adapter of a folder.

    Raises:
        TrainingError: the folder does not hold exactly the weights of the adapter that its config describes.
    """
    with _refusal(f"{folder}: its adapter is not whole"):
        adapted = PeftModel.from_pretrained(model, str(folder))
    # PEFT passes over tensors that it has no place for.
    _load_adapter_into(adapted, folder)
    return adapted


def _load_adapter_into(model: PeftModel, folder: Path) -> None:
    name = model.active_adapter
    stored = load_peft_weights(str(folder), device="cpu")
    if is_sharded(model):
        _copy_divided(get_peft_model_state_dict(model, adapter_name=name), stored, folder)
        return
    with _refusal(f"{folder}: its adapter is not the one that the run trains"):
        # Its result is that of load_state_dict(strict=False), of which PEFT's from_pretrained at most warns: an adapter
        # of which a part is missing would go on with B = 0 there.
        found = set_peft_model_state_dict(model, stored, adapter_name=name)
    # The result lists the weights of the base model too, as none of them is in the file.
    missing = [key for key in found.missing_keys if name in key.split(".")]
    if missing:
        raise TrainingError(
            f"{folder}: {_some(missing, len(stored) + len(missing), 'of the adapter')} are not in its file",
            hint=_DAMAGED,
        )
    if found.unexpected_keys:
        raise TrainingError(
            f"{folder}: its file holds {len(found.unexpected_keys)} weights for layers that the model does not adapt "
            f"({_names(found.unexpected_keys)})",
            hint="the adapter was trained on another model, or with other lora_target_modules",
        )


def _copy_divided(targets: dict[str, Any], stored: dict[str, Any], folder: Path) -> None:
    """Copy whole tensors into those of a model that is divided among processes; each process takes its part."""
    for names, what in ((targets.keys() - stored.keys(), "lacks"), (stored.keys() - targets.keys(), "holds")):
        if names:
            raise TrainingError(
                f"{folder}: {what} {_some(names, len(targets))}, unlike the model in memory", hint=_DAMAGED
            )
    with _refusal(f"{folder}: is of another model than the one in memory"):
        for name, target in targets.items():
            copy_whole(target, stored[name])


def check_checkpoint_loading(trainer: Any) -> None:
    """Make a trainer load the weights of checkpoints as here, where Trainer loads by names in files and is not strict.

    DeepSpeed loads sharded checkpoints by its own means, and is left to Trainer. Methods of the object are replaced,
    and not those of a subclass, so that every trainer has this, one that Unsloth has rewritten too.
    """
    load, load_best = trainer._load_from_checkpoint, trainer._load_best_model

    def load_from_checkpoint(resume_from_checkpoint: str, model: Any = None) -> None:
        if not trainer.is_deepspeed_enabled:
            load_result_into(trainer.model, Path(resume_from_checkpoint))
        if _also_loads(trainer):
            load(resume_from_checkpoint, model)

    def load_best_model() -> None:
        if not trainer.is_deepspeed_enabled:
            load_result_into(trainer.model, Path(trainer.state.best_model_checkpoint))
        if _also_loads(trainer):
            load_best()

    trainer._load_from_checkpoint, trainer._load_best_model = load_from_checkpoint, load_best_model


def _also_loads(trainer: Any) -> bool:
    """Whether Trainer loads too: it does more with an adapter, and cannot load whole files into a divided one."""
    if trainer.is_deepspeed_enabled:
        return True
    return isinstance(trainer.model, PeftModel) and not is_sharded(trainer.model)


@contextmanager
def _refusal(what: str) -> Iterator[None]:
    """Turn an error of torch or PEFT about weights, of a whole module that is absent or of shapes, into a refusal."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{what}: {str(error).strip()}", hint=_DAMAGED) from error


def _some(names: Collection[str], count: int, of_what: str = "") -> str:
    whole = f"{count} weights {of_what}".strip()
    return f"{len(names)} of {whole} ({_names(names)})"


def _names(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, …" if len(names) > _SHOWN else shown
