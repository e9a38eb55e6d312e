"""Rules on the receipt and the events of a run: leaks, copies, dropped rows, memory, gradient spikes, data loading."""

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part
from dpo_tui.advice.evidence import Evidence
from dpo_tui.runs.thresholds import SPIKE, SPIKE_PREDECESSORS

LEAKED_SHARE = 0.1
"""Share of the held-out prompts that are also trained on."""
DUPLICATE_SHARE = 0.3
"""Share of the training pairs that are copies of others."""
DROPPED_SHARE = 0.1
"""Share of the pairs that were dropped because their prompt alone fills ``max_seq_length``."""
DATA_WAIT_SHARE = 0.3
"""Share of the time for which the device waits for batches; above it data loading limits the throughput."""


def out_of_memory(run: Evidence) -> Advice | None:
    """The GPU ran out of memory; the supervisor started the run again with a smaller micro-batch."""
    event = next((event for event in reversed(run.events) if event.get("kind") == "out-of-memory"), None)
    if event is None:
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
        str(event.get("message", "")),
    )


def leak(run: Evidence) -> Advice | None:
    """Held-out prompts are trained on as well, so that held-out metrics say nothing about other prompts."""
    event = run.newest_event("leak")
    if event is None or not _share_of_rows(event) >= LEAKED_SHARE:
        return None
    return Advice(
        "leak",
        "warning",
        f"{event['rows']} of {event['of']} held-out prompts are in the training data too: held-out accuracy flatters. "
        "Evaluate on other pairs, or leave eval_dataset out: eval_split keeps prompts apart.",
        {"eval_dataset": None},
        str(event.get("message", "")),
    )


def duplicates(run: Evidence) -> Advice | None:
    """Many training pairs are copies of others."""
    event = run.newest_event("duplicates")
    if event is None or not _share_of_rows(event) >= DUPLICATE_SHARE:
        return None
    return Advice(
        "duplicates",
        "warning",
        f"{event['rows']} of {event['of']} training pairs are copies of others: the policy learns these few by heart. "
        "`dpo-tui inspect DATA --write OUT --drop duplicate-pair` leaves the copies out.",
        {},
        str(event.get("message", "")),
    )


def dropped_rows(run: Evidence) -> Advice | None:
    """Many pairs were dropped because their prompt alone fills the sequence; TRL drops such pairs without a message."""
    data = run.receipt.get("data")
    if not isinstance(data, dict) or not data.get("rows"):
        return None
    dropped = int(data.get("too_long") or 0)
    if dropped < DROPPED_SHARE * data["rows"]:
        return None
    length = int(run.setting("max_seq_length", 1024))
    return Advice(
        "dropped-rows",
        "warning",
        f"{dropped} of {data['rows']} pairs were dropped because the prompt alone fills {length} tokens: raise "
        "max_seq_length if memory allows.",
        {"max_seq_length": 2 * length},
        f"receipt: too_long {dropped} of {data['rows']} rows",
    )


def gradient_spikes(run: Evidence) -> Advice | None:
    """Single steps have a far larger gradient norm than the steps before them; unusual rows are the common cause."""
    norms = run.series("grad_norm")
    spikes = []
    for index in range(SPIKE_PREDECESSORS, len(norms)):
        step, norm = norms[index]
        usual = median([value for _, value in norms[index - SPIKE_PREDECESSORS : index]])
        if norm > SPIKE and norm > SPIKE * usual:
            spikes.append((step, norm))
    if not spikes:
        return None
    step, norm = max(spikes, key=lambda point: point[1])
    reported = [event for event in run.events if event.get("rule") == "spike" and event.get("step") == step]
    rows = f" Its batch: {reported[-1]['batch']}." if reported and reported[-1].get("batch") else ""
    return Advice(
        "spikes",
        "warning",
        f"The gradient jumped {len(spikes)} times, at step {step} to {norm:.0f}: look at the pairs of that batch, "
        f"lower the rate, or warm up longer.{rows}",
        {"warmup_ratio": 0.2} if run.setting("warmup_ratio", 0.1) < 0.2 else {},  # noqa: PLR2004
        f"{len(spikes)} steps above {SPIKE:g} and {SPIKE:g} times the median of the {SPIKE_PREDECESSORS} before",
    )


def data_bound(run: Evidence) -> Advice | None:
    """The device waits for batches, so that data loading limits the throughput."""
    waiting, working = run.values("data_seconds"), run.values("step_seconds")
    if len(working) < SPIKE_PREDECESSORS or not waiting:
        return None
    waits, works = mean(part(waiting, 0.5, 1)), mean(part(working, 0.5, 1))
    share = waits / max(waits + works, 1e-9)
    if share < DATA_WAIT_SHARE:
        return None
    loaders = int(run.setting("dataloader_num_workers", 0))
    return Advice(
        "data-bound",
        "warning",
        f"{share:.0%} of the time the device waits for its next batch ({waits:.2f} s a step): more loader processes.",
        {"dataloader_num_workers": max(2, 2 * loaders)},
        f"data_seconds {waits:.3f}, step_seconds {works:.3f} in the second half",
    )


def _share_of_rows(event: object) -> float:
    """Rows of an event as a share of those it counted; 0 where it lacks numbers."""
    try:
        return float(event["rows"]) / float(event["of"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0
