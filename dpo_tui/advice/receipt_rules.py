"""Advice that rests on facts, not on curves: what the worker counted, how memory and data loading went."""

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.strategies.metric_expectations import SPIKE, SPIKE_PREDECESSORS

_LEAKED = 0.1
_COPIES = 0.3
_DROPPED = 0.1
_WAITING = 0.3
"""Share of the time that a device waits for batches above which loading the data is what limits the speed."""


def out_of_memory(run: Evidence) -> Advice | None:
    """The device ran out of memory, once or for good."""
    told = next((event for event in reversed(run.events) if event.get("kind") == "out-of-memory"), None)
    if told is None:
        return None
    micro = int(run.setting("per_device_train_batch_size", 2))
    fewest = run.strategy.smallest_micro_batch if run.strategy else 1
    remedy: dict[str, object] = {}
    if not run.settings.get("use_4bit") and run.settings.get("use_lora", True):
        remedy["use_4bit"] = True
    elif micro // 2 >= fewest:
        accumulate = int(run.setting("gradient_accumulation_steps", 4))
        remedy |= {"per_device_train_batch_size": micro // 2, "gradient_accumulation_steps": 2 * accumulate}
    else:
        remedy["max_seq_length"] = max(int(run.setting("max_seq_length", 1024)) // 2, 16)
    return Advice(
        "out-of-memory",
        "warning",
        "The GPU ran out of memory, and the run went on with smaller batches: 4-bit weights, a smaller batch with more "
        "accumulation, shorter sequences or a smaller model keep that from happening.",
        remedy,
        str(told.get("message", "")),
    )


def leak(run: Evidence) -> Advice | None:
    """Held-out prompts that are trained on say nothing about other prompts."""
    told = run.told("leak")
    if told is None or not _share(told) >= _LEAKED:
        return None
    return Advice(
        "leak",
        "warning",
        f"{told['rows']} of {told['of']} held-out prompts are in the training data too: held-out accuracy flatters. "
        "Evaluate on other pairs, or leave eval_dataset out: eval_split keeps prompts apart.",
        {"eval_dataset": None},
        str(told.get("message", "")),
    )


def duplicates(run: Evidence) -> Advice | None:
    """Few different pairs, again and again."""
    told = run.told("duplicates")
    if told is None or not _share(told) >= _COPIES:
        return None
    return Advice(
        "duplicates",
        "warning",
        f"{told['rows']} of {told['of']} training pairs are copies of others: the policy learns these few by heart. "
        "`dpo-tui inspect DATA --write OUT --drop duplicate-pair` leaves the copies out.",
        {},
        str(told.get("message", "")),
    )


def dropped_rows(run: Evidence) -> Advice | None:
    """Pairs whose prompt fills the sequence are dropped in silence."""
    data = run.receipt.get("data")
    if not isinstance(data, dict) or not data.get("rows"):
        return None
    lost = int(data.get("too_long") or 0)
    if lost < _DROPPED * data["rows"]:
        return None
    length = int(run.setting("max_seq_length", 1024))
    return Advice(
        "dropped-rows",
        "warning",
        f"{lost} of {data['rows']} pairs were dropped because the prompt alone fills {length} tokens: raise "
        "max_seq_length if memory allows.",
        {"max_seq_length": 2 * length},
        f"receipt: too_long {lost} of {data['rows']} rows",
    )


def spikes(run: Evidence) -> Advice | None:
    """Single steps whose gradient is far longer than its neighbours'; odd rows are the usual cause."""
    norms = run.series("grad_norm")
    found = []
    for place in range(SPIKE_PREDECESSORS, len(norms)):
        step, norm = norms[place]
        usual = median([value for _, value in norms[place - SPIKE_PREDECESSORS : place]])
        if norm > SPIKE and norm > SPIKE * usual:
            found.append((step, norm))
    if not found:
        return None
    step, norm = max(found, key=lambda point: point[1])
    named = [event for event in run.events if event.get("rule") == "spike" and event.get("step") == step]
    rows = f" Its batch: {named[-1]['batch']}." if named and named[-1].get("batch") else ""
    return Advice(
        "spikes",
        "warning",
        f"The gradient jumped {len(found)} times, at step {step} to {norm:.0f}: look at the pairs of that batch, lower "
        f"the rate, or warm up longer.{rows}",
        {"warmup_ratio": 0.2} if run.setting("warmup_ratio", 0.1) < 0.2 else {},  # noqa: PLR2004
        f"{len(found)} steps above {SPIKE:g} and {SPIKE:g} times the median of the {SPIKE_PREDECESSORS} before",
    )


def data_bound(run: Evidence) -> Advice | None:
    """A GPU that waits for batches."""
    waiting, working = run.values("data_seconds"), run.values("step_seconds")
    if len(working) < SPIKE_PREDECESSORS or not waiting:
        return None
    waits, works = mean(part(waiting, 0.5, 1)), mean(part(working, 0.5, 1))
    share = waits / max(waits + works, 1e-9)
    if share < _WAITING:
        return None
    loaders = int(run.setting("dataloader_num_workers", 0))
    return Advice(
        "data-bound",
        "warning",
        f"{share:.0%} of the time the device waits for its next batch ({waits:.2f} s a step): more loader processes.",
        {"dataloader_num_workers": max(2, 2 * loaders)},
        f"data_seconds {waits:.3f}, step_seconds {works:.3f} in the second half",
    )


def _share(told: object) -> float:
    try:
        return float(told["rows"]) / float(told["of"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0
