"""The overheads of GPU memory that part c's rows show, for dpo-tui's estimate on this machine."""

import json
from pathlib import Path
from statistics import median

import numpy as np

from dpo_tui.hardware.memory.overheads import Overheads

_FEWEST = 4
"""Rows from which three numbers are taken."""
_GB = 1e9


def measured_overheads(results: Path) -> Overheads | None:
    """Fit the overheads to the measured rows.

    Context: the median over the rows. Slack: least squares of reserved − allocated = a · fixed + b · (allocated −
    fixed), sizes of the allocator at its peak, with a and b no smaller than 0.

    Args:
        results: JSON lines of the benchmark.

    Returns:
        None where too few rows were measured, or by a dry run.
    """
    lines = [json.loads(text) for text in results.read_text(encoding="utf-8").splitlines()]
    about = next((line for line in lines if "machine" in line), None)
    rows = [line for line in lines if line.get("part") == "c" and isinstance(line.get("reserved"), (int, float))]
    if about is None or about["dry"] or len(rows) < _FEWEST:
        return None
    reserved, allocated, fixed = (np.array([row[name] for row in rows]) for name in ("reserved", "allocated", "fixed"))
    shares = _without_negatives(np.stack([fixed, allocated - fixed], axis=1), reserved - allocated)
    context = median(row["context"] for row in rows)
    gpu = "; ".join(about["machine"].get("gpus", [])) or "a GPU"
    return Overheads(int(context * _GB), shares[0], shares[1], f"measured on {gpu}, {about['date']}, {len(rows)} rows")


def _without_negatives(sizes: np.ndarray, lost: np.ndarray) -> tuple[float, float]:
    """Least squares of two shares; where one would be negative, it is 0 and the other alone is fitted."""
    first, second = np.linalg.lstsq(sizes, lost, rcond=None)[0]
    if first >= 0 and second >= 0:
        return float(first), float(second)
    alone = [max(0.0, float(column @ lost / (column @ column))) for column in sizes.T]
    errors = [float(np.square(lost - share * column).sum()) for share, column in zip(alone, sizes.T, strict=True)]
    return (alone[0], 0.0) if errors[0] < errors[1] else (0.0, alone[1])
