"""What several dialects have in common: numbers that YAML reads as text, warm-up, trackers, reasons."""

from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.key_outcome import Conversion

OWN_FOLDER = "a run has a folder of its own; `dpo-tui paths` says where"
ONE_GPU = "a run uses one GPU"


def number(value: Any) -> Any:
    """Turn text such as 5e-7, which YAML does not read as a number, into one; leave all else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def warmup(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take a part of the steps; a number of steps has no place. Transformers 5 reads warmup_steps below 1 as a part."""
    part = number(value)
    if isinstance(part, (int, float)) and not isinstance(part, bool) and 0 <= part < 1:
        conversion.take(key, "warmup_ratio", float(part))
    else:
        conversion.drop(key, "a number of steps; warmup_ratio is a part of all steps, 0.1 is usual")
        conversion.values.setdefault("warmup_ratio", 0.1)


def trackers(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take the trackers that there are; none and all name none."""
    names = [value] if isinstance(value, str) else list(value or [])
    conversion.take(key, "report_to", [name for name in names if name not in {"none", "all"}])
