"""Checkpoints of ``save_only_model``: weights without optimizer, schedule and random state, and what a resume can do.

Trainer would resume from one with a new optimizer and with the schedule from its beginning, and say nothing. That is
another training, so a resume is refused while steps are left. After the last step only the weights are needed: then the
result is made from them.
"""

from pathlib import Path

from dpo_tui.runs.atomic_files import read_json

_STATE = "trainer_state.json"


def steps_left(checkpoint: Path) -> int | None:
    """Return how many steps a checkpoint's training had left; None where its Trainer's state does not say so."""
    state = read_json(checkpoint / _STATE) or {}
    step, last = state.get("global_step"), state.get("max_steps")
    return max(0, last - step) if isinstance(step, int) and isinstance(last, int) else None


def resume_refusal(checkpoint: Path | None) -> tuple[str, str] | None:
    """Return why a run of ``save_only_model`` cannot be resumed from a checkpoint, and what to do; None if it can be.

    Args:
        checkpoint: the newest complete one; None where the run begins anew.
    """
    left = steps_left(checkpoint) if checkpoint is not None else 0
    if checkpoint is None or left == 0:
        return None
    steps = "its last step" if left is None else f"{left:,} steps"
    return (
        f"{checkpoint.name} holds the weights alone (save_only_model = true), and {steps} are left: without optimizer "
        "and schedule they would be those of another training",
        f"train anew; or go on from the weights with a schedule of its own: model_name = {str(checkpoint)!r} in a copy "
        "of the config",
    )
