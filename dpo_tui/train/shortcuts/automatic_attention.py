"""The attention implementation of a run: the one that its config names, else one of those that may be taken."""

from collections.abc import Sequence
from typing import Any

import torch

from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.device import varlen_obstacle
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.shortcuts.attention_choice import AttentionChoice, choose_attention, passes_of_choice
from dpo_tui.train.shortcuts.check_budget import CheckedRun, step_passes
from dpo_tui.train.shortcuts.equivalence_check import Switch
from dpo_tui.train.shortcuts.sharing_obstacles import sharing_obstacle
from dpo_tui.train.shortcuts.training_passes import (
    TrainingPasses,
    checkpointing,
    clock,
    release_memory,
    set_attention,
)
from dpo_tui.train.worker.distributed import values_of_ranks

LEFT_OUT = {
    "varlen": "no GPU has run its kernel yet; part f of benchmarks/gpu.py, which holds it against TRL, lifts this",
    "flex_attention": "no GPU has run its gradient yet (part f as well), and nothing bounds how long it compiles",
}
"""Implementations that ``auto`` does not take, with the reason. A config that names one gets it."""


def attention_of_run(run: CheckedRun, switch: Switch, obstacle: str | None) -> AttentionChoice:
    """Return the attention implementation of a run, and set it in the models.

    Where the config leaves it open and several may be taken, they are measured if that takes no more than the share of
    a run's work that checks have. All ranks call this.

    Args:
        run: within the context of its shortcuts' checks.
        switch: turns sharing on or off.
        obstacle: why prompts cannot be shared; None where they can.
    """
    own, asked = run.models[0].config._attn_implementation, run.trainer.config.attn_implementation
    if asked != "auto":
        return AttentionChoice(own, f'attn_implementation = "{asked}"')
    names, why = ([own], "prompts are not shared") if obstacle else candidates(run.trainer, run.models)
    # GPUs of two kinds may have other ones: only what every rank may take is a candidate.
    of_ranks = values_of_ranks(names)
    names = [name for name in names if all(name in others for others in of_ranks)]
    if len(names) < 2:  # noqa: PLR2004 - nothing to choose between
        return AttentionChoice(own, why)
    if is_sharded(run.trainer.model) or run.trainer.is_fsdp_enabled or run.trainer.is_deepspeed_enabled:
        return AttentionChoice(own, "the model is spread over several processes, and nothing was measured")
    arguments = run.trainer.args
    pairs = arguments.per_device_train_batch_size
    passes = passes_of_choice(len(names)) * step_passes(checkpointed=arguments.gradient_checkpointing)
    if passes * pairs * run.budget.cost.of(1, int(run.sizes.spans.mean())) > run.budget.share:
        return AttentionChoice(own, f"the run is too short to measure {', '.join(names)}")
    try:
        measured = TrainingPasses(run, switch)
    except ValueError as error:
        return AttentionChoice(own, str(error))
    with checkpointing(run.trainer, run.models[0]):
        choice = choose_attention(names, measured, clock)
    set_attention(run.models, choice.name)
    release_memory()
    return choice


def candidates(trainer: Any, models: Sequence[Any]) -> tuple[list[str], str]:
    """Return the implementations between which a run may choose, the model's own first.

    Args:
        trainer: TRL's DPOTrainer.
        models: the policy and, where there is one, the reference's model, without adapters.

    Returns:
        Their names, and as a clause why there are no others.
    """
    device = trainer.accelerator.device.type
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else models[0].dtype
    on_device = {
        varlen_attention.NAME: varlen_obstacle(device, dtype),
        "flex_attention": None if device == "cuda" else "torch has a gradient of it on GPUs only",
    }
    obstacles: dict[str, str] = {}
    for name, obstacle in on_device.items():
        of_models = (sharing_obstacle(model, trainer.args.max_length, name) for model in models)
        if why := obstacle or LEFT_OUT.get(name) or next((found for found in of_models if found), None):
            obstacles[name] = why
    own = models[0].config._attn_implementation
    if any(model.config._attn_implementation != own for model in models):
        return [own], "the reference's model has another"
    why = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items())
    return [own, *(name for name in on_device if name not in obstacles)], f"no other may be taken ({why})"
