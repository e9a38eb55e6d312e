"""Axolotl's warm-up where a file names none: a share of the steps, and at most a number of them."""

from dpo_tui.config.dialects.conversion import Conversion, KeyOutcome

_MOST_STEPS = 100
"""Its core/builders/base.py, 0.19."""


def fill_in_warmup(conversion: Conversion, share: float) -> None:
    """Fill in the warm-up, in steps where the file says how many there are and the share of them would be too many.

    Args:
        conversion: with all keys of the file.
        share: of the steps.
    """
    values = conversion.values
    if "warmup_steps" in values or "warmup_ratio" in values:
        return
    steps = values.get("max_steps")
    if isinstance(steps, int) and int(share * steps) > _MOST_STEPS:
        name, value = "warmup_steps", _MOST_STEPS
        why = f"Axolotl's default, {share:.0%} of the steps and at most {_MOST_STEPS}"
    else:
        name, value, why = "warmup_ratio", share, f"Axolotl's default, {share!r}"
        if not isinstance(steps, int):
            most = f"of more than {int(_MOST_STEPS / share):,} steps set warmup_steps = {_MOST_STEPS}"
            why += f", but {_MOST_STEPS} steps at most: {most}"
    values[name] = value
    conversion.outcomes.append(KeyOutcome(name, "filled in", name, why, value))
