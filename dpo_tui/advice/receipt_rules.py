"""Rules on the receipt and the events of a run: leaks, copies, dropped rows, memory, gradient spikes, data loading."""

import math
from collections.abc import Mapping
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.curve_statistics import mean, median, part, standard_error
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.held_out import held_out_of
from dpo_tui.strategies.metric_expectations import SPIKE, SPIKE_PREDECESSORS

TEMPLATE_WARNINGS = frozenset({
    "no-end-token", "other-end-token", "generation-prompt", "prompt-rewritten", "no-message-written", "content-dropped",
    "answer-changed", "tool-calls-ignored", "tools-ignored", "empty-when-rendered", "alike-when-rendered",
    "template-variable",
})  # fmt: skip
"""Findings of the check of the chat template that change the trained text against the sense of the data."""
LEAKED_SHARE = 0.1
"""Share of the held-out prompts that are also trained on."""
DUPLICATE_SHARE = 0.3
"""Share of the training pairs that are copies of others."""
DROPPED_SHARE = 0.1
"""Share of the pairs that were dropped because their prompt alone fills ``max_seq_length``."""
CUT_SHARE = 0.1
"""Share of the training pairs of which an answer is cut at ``max_seq_length``: the same tenth as of dropped ones."""
LONG_WARMUP = 0.2
"""Share of the steps over which to warm up after spikes: twice the usual one."""
SPIKES_SHARE = 0.05
"""Share of the steps with a spike up to which single batches are at fault, and not the training."""
DATA_WAIT_SHARE = 0.3
"""Share of the time for which the device waits for batches; above it data loading limits the throughput."""


def length_share(run: Evidence) -> float | None:
    """The share of the training pairs that the answers' lengths alone tell apart; None where nobody counted them."""
    data = run.receipt.get("data")
    if not isinstance(data, dict) or not data.get("train") or not isinstance(data.get("chosen_longer"), int):
        return None
    longer = data["chosen_longer"] / data["train"]
    return float(max(longer, 1 - longer))


def length(run: Evidence) -> Advice | None:
    """The longer answer is the chosen one as often as the policy is right, so that nothing shows more than length.

    A note: preference data often has longer chosen answers, and a policy may learn more than that from it.
    """
    share, held_out = length_share(run), held_out_of(run)
    if share is None or held_out is None or held_out.accuracy is None or not held_out.proves_learning:
        return None
    if share < held_out.accuracy:
        return None
    which = "longer" if run.receipt["data"]["chosen_longer"] * 2 > run.receipt["data"]["train"] else "shorter"
    return Advice(
        "length",
        "info",
        f"In {share:.0%} of the training pairs the chosen answer is the {which} one, and the policy is right in "
        f"{held_out.accuracy:.0%} of the held-out ones: it may have learnt the length. Compare the lengths of its "
        "answers with those of the base model.",
        {},
        f"receipt: chosen_longer {run.receipt['data']['chosen_longer']} of {run.receipt['data']['train']}",
    )


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
        # Without a share of its own nothing would be held out any more.
        {"eval_dataset": None} | ({} if run.setting("eval_split", 0.1) > 0 else {"eval_split": 0.1}),
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


def trained_text(run: Evidence) -> Advice | None:
    """The chat template writes another text than the data has, as the worker's check of it found.

    A model that never sees an end of an answer, or sees another prompt than at generation, shows it in no metric: both
    answers of a pair have the fault, and accuracy and loss compare the two.
    """
    event = next((event for event in run.events if event.get("rule") in TEMPLATE_WARNINGS and _is_warning(event)), None)
    if event is None:
        return None
    message = str(event.get("message", ""))
    return Advice(
        str(event["rule"]), "warning", message[:1].upper() + message[1:], {}, "the check of the chat template"
    )


def answers_cut(run: Evidence) -> Advice | None:
    """Many answers are cut at ``max_seq_length``: the model learns their beginning alone, and no end."""
    event = run.newest_event("answers-cut")
    if event is None or not _share_of_rows(event) >= CUT_SHARE:
        return None
    length = int(run.setting("max_seq_length", 1024))
    return Advice(
        "answers-cut",
        "warning",
        f"In {event['rows']} of {event['of']} training pairs an answer is cut at {length} tokens: what comes after is "
        "not trained, the end of the answer least of all. Raise max_seq_length if memory allows, or leave out the "
        "longest pairs.",
        {"max_seq_length": 2 * length},
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
    harm = (
        not _is_clipped(run) or len(spikes) > SPIKES_SHARE * len(norms) or any(_loss_rose(run, at) for at, _ in spikes)
    )
    reported = [event for event in run.events if event.get("rule") == "spike" and event.get("step") == step]
    rows = f" Its batch: {reported[-1]['batch']}." if reported and reported[-1].get("batch") else ""
    return Advice(
        "spikes",
        "warning" if harm else "info",
        f"The gradient jumped {len(spikes)} times, at step {step} to {norm:.0f}: look at the pairs of that batch"
        + (f", lower the rate, or warm up longer.{rows}" if harm else f". It was clipped, and the loss stayed.{rows}"),
        run.longer_warmup(LONG_WARMUP) if harm else {},
        f"{len(spikes)} steps above {SPIKE:g} and {SPIKE:g} times the median of the {SPIKE_PREDECESSORS} before",
    )


def _is_clipped(run: Evidence) -> bool:
    """Whether long gradients are shortened, so that a spike makes no longer step than others; TRL's default is 1."""
    return 0 < run.setting("max_grad_norm", 1.0) <= SPIKE


def _loss_rose(run: Evidence, step: int) -> bool:
    """Whether the loss of the steps after one is above that of as many before it by more than two standard errors."""
    before = [value for at, value in run.series("loss") if step - SPIKE_PREDECESSORS <= at < step]
    after = [value for at, value in run.series("loss") if step < at <= step + SPIKE_PREDECESSORS]
    if not before or not after:
        return True  # the last step of a run: nothing says that it did no harm
    error = math.hypot(standard_error(before), standard_error(after))
    return mean(after) - mean(before) > 2 * error


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


def _is_warning(event: Mapping[str, Any]) -> bool:
    return event.get("kind") == "warning"


def _share_of_rows(event: object) -> float:
    """Rows of an event as a share of those it counted; 0 where it lacks numbers."""
    try:
        return float(event["rows"]) / float(event["of"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0
