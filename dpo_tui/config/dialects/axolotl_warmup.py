"""Axolotl's warm-up where a file names none: a share of the steps, and at most a number of them."""

from dpo_tui.config.dialects.conversion import Conversion, KeyOutcome

# Its core/builders/base.py, 0.19.
_SHARE = 0.03
_MOST_STEPS = 100


def fill_in_warmup(conversion: Conversion) -> None:
    """Fill in the warm-up, in steps where the file says how many there are and the share of them would be too many.

    Args:
        conversion: with all keys of the file.
    """
    values = conversion.values
    if "warmup_steps" in values or "warmup_ratio" in values:
        return
    steps = values.get("max_steps")
    name: str
    value: float
    if isinstance(steps, int) and int(_SHARE * steps) > _MOST_STEPS:
        name, value = "warmup_steps", _MOST_STEPS
        why = f"Axolotl's default, {_SHARE:.0%} of the steps and at most {_MOST_STEPS}"
    else:
        name, value, why = "warmup_ratio", _SHARE, f"Axolotl's default, {_SHARE!r}"
        if not isinstance(steps, int):
            most = f"of more than {int(_MOST_STEPS / _SHARE):,} steps set warmup_steps = {_MOST_STEPS}"
            why += f", but {_MOST_STEPS} steps at most: {most}"
    values[name] = value
    conversion.outcomes.append(KeyOutcome(name, "filled in", name, why, value))
