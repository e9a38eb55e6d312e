"""Saving and loading of a model and an optimizer that are divided among processes, in the files of a single process.

Trainer would write files that nothing but FSDP reads, with the frozen base model in them. Gathered on rank 0, tensor by
tensor, they are those of any other run: a run resumes with whatever number of processes, and everything else that
reads checkpoints and results needs to know nothing.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.distributed.tensor import DTensor
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from dpo_tui.errors import TrainingError
from dpo_tui.train.model.sharding import divided_like, full_tensors, is_sharded
from dpo_tui.train.worker.journal import Journal

_MOST_HELD = 0.75
"""Share of the weights above which a process does not hold a part of two or more."""


class ShardedState:
    """Mixin of a subclass of TRL's trainers, before TRL's class; without FSDP2 everything is Trainer's own."""

    # Of transformers' Trainer.
    accelerator: Any
    args: Any
    is_fsdp_enabled: bool
    journal: Journal
    lr_scheduler: Any
    model: Any
    optimizer: Any
    _save: Any

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Divide the model where that is asked for, and say how much of it this process has.

        Raises:
            TrainingError: it has been left whole.
        """
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        if not self.is_fsdp_enabled:
            return prepared
        weights = list(self.model.parameters())
        total = sum(weight.numel() for weight in weights)
        held = sum((weight.to_local() if isinstance(weight, DTensor) else weight).numel() for weight in weights)
        if not is_sharded(self.model) or held > total * _MOST_HELD:
            raise TrainingError(
                f'distributed = "fsdp2": this process still holds {held:,} of {total:,} weights',
                hint='accelerate has not divided the model; use distributed = "ddp"',
            )
        message = f"The model is divided among {self.accelerator.num_processes} processes (FSDP2)"
        self.journal.event("note", f"{message}: this one holds {held:,} of {total:,} weights", held=held, of=total)
        return prepared

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save adapter or model; a collective."""
        if not is_sharded(self.model):
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]
            return
        weights = _saved_weights(self.model)
        whole = full_tensors({id(weight): weight for weight in weights.values()}, keep=self.args.should_save)
        if self.args.should_save:
            self._save(output_dir, state_dict={name: whole[id(weight)] for name, weight in weights.items()})

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the optimizer's state as a single process does; a collective."""
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        state = self.optimizer.state_dict()
        keep = self.args.should_save
        state["state"] = {index: full_tensors(values, keep=keep) for index, values in state["state"].items()}
        if keep:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Give each process its part of the optimizer's state."""
        if checkpoint is None or not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        # Mapped, not read: a process touches little more than its own part.
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=True)
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        for index, parameter in enumerate(parameters):
            values = state["state"].get(index, {})
            for name, value in values.items():
                # Not the number of steps, which is a tensor without dimensions.
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[name] = divided_like(value, parameter)
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))


def _saved_weights(model: Any) -> dict[str, Any]:
    """Return what a save of the model needs by name: all of it, or of a base with an adapter what the training changes.

    Tied weights are one object under two names.
    """
    # Before the parameters are looked at: it divides again what the last forward pass has left whole (the outermost
    # group), which would be taken for weights that are not divided.
    names = model.state_dict().keys()
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    if not isinstance(model, PeftModel):
        return {name: named[name] for name in names if name in named}
    # PEFT saves an embedding that it adapts with its adapter where the vocabulary was resized.
    embeddings = [one for one in (model.get_input_embeddings(), model.get_output_embeddings()) if one is not None]
    adapted = {id(weight) for one in embeddings if isinstance(one, BaseTunerLayer) for weight in one.parameters()}
    return {name: weight for name, weight in named.items() if weight.requires_grad or id(weight) in adapted}
