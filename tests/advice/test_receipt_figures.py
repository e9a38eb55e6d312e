"""Rules on receipt and events: from which share on something is said, and which settings the remedy changes."""

from typing import Any

import pytest

from dpo_tui.advice import receipt_rules
from dpo_tui.advice.advice import Advice
from dpo_tui.advice.evidence import Evidence


def memory_advice(**settings: Any) -> Advice:
    events = [
        {"kind": "out-of-memory", "message": "first"},
        {"kind": "out-of-memory", "message": "second"},
        {"kind": "phase", "message": "no such event"},
    ]
    found = receipt_rules.out_of_memory(Evidence({"strategy": "dpo", **settings}, events=events))
    assert found is not None and found.evidence == "second", "the newest"
    return found


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"use_lora": True, "use_4bit": False}, {"use_4bit": True}),
        ({}, {"use_4bit": True}),
        (
            {"use_4bit": True, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        ),
        (
            {"use_lora": False, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16},
        ),
        ({"use_4bit": True, "per_device_train_batch_size": 1, "max_seq_length": 2048}, {"max_seq_length": 1024}),
        ({"use_4bit": True, "per_device_train_batch_size": 1, "max_seq_length": 20}, {"max_seq_length": 16}),
    ],
)
def test_memory_that_ran_out_is_mended_by_the_cheapest_that_is_left(
    settings: dict[str, Any], remedy: dict[str, Any]
) -> None:
    """4 bits where there is an adapter; then a smaller batch of the same effective size; then shorter sequences."""
    assert dict(memory_advice(**settings).remedy) == remedy


@pytest.mark.parametrize(("rows", "said"), [(9, False), (10, True)])
def test_a_tenth_of_leaked_prompts_is_said(rows: int, said: bool) -> None:
    event = {"rule": "leak", "rows": rows, "of": 100, "message": "found"}
    found = receipt_rules.leak(Evidence(events=[event]))
    assert (found is not None) is said
    if found is not None:
        assert "10 of 100 held-out prompts" in found.message
        assert (dict(found.remedy), found.evidence) == ({"eval_dataset": None}, "found")


@pytest.mark.parametrize(("rows", "said"), [(29, False), (30, True)])
def test_three_tenths_of_copies_are_said(rows: int, said: bool) -> None:
    event = {"rule": "duplicates", "rows": rows, "of": 100}
    found = receipt_rules.duplicates(Evidence(events=[event]))
    assert (found is not None) is said
    assert receipt_rules.leak(Evidence(events=[event])) is None, "another rule's event"


@pytest.mark.parametrize("event", [{}, {"rows": 5}, {"rows": 5, "of": 0}, {"rows": "many", "of": 10}])
def test_an_event_without_its_numbers_says_nothing(event: dict[str, Any]) -> None:
    assert receipt_rules.leak(Evidence(events=[{"rule": "leak", **event}])) is None
    assert receipt_rules.duplicates(Evidence(events=[{"rule": "duplicates", **event}])) is None


@pytest.mark.parametrize(("dropped", "said"), [(0, False), (9, False), (10, True)])
def test_a_tenth_of_dropped_pairs_is_said_with_twice_the_length(dropped: int, said: bool) -> None:
    receipt = {"data": {"rows": 100, "too_long": dropped}}
    found = receipt_rules.dropped_rows(Evidence({"max_seq_length": 512}, receipt=receipt))
    assert (found is not None) is said
    if found is not None:
        assert "10 of 100 pairs were dropped because the prompt alone fills 512 tokens" in found.message
        assert dict(found.remedy) == {"max_seq_length": 1024}
    assert receipt_rules.dropped_rows(Evidence(receipt={"data": {"rows": 0, "too_long": 9}})) is None


def with_norms(norms: list[float], events: tuple[dict[str, Any], ...] = (), **settings: Any) -> Evidence:
    return Evidence(settings, [{"step": step, "grad_norm": norm} for step, norm in enumerate(norms, 1)], {}, events)


def test_a_gradient_that_jumps_names_the_highest_step_and_its_rows() -> None:
    norms = [1.0] * 20 + [12.0, 1.0, 30.0, 1.0]
    events = (
        {"rule": "spike", "step": 21, "batch": "rows 1, 2"},
        {"rule": "spike", "step": 23, "batch": "rows 5, 6"},
        {"rule": "leak", "step": 23, "batch": "rows 7"},
    )
    found = receipt_rules.gradient_spikes(with_norms(norms, events, warmup_ratio=0.1))
    assert found is not None
    assert found.message.startswith("The gradient jumped 2 times, at step 23 to 30:")
    assert found.message.endswith("Its batch: rows 5, 6.")
    assert dict(found.remedy) == {"warmup_ratio": 0.2}
    longer = receipt_rules.gradient_spikes(with_norms(norms, warmup_ratio=0.2))
    assert longer is not None and not longer.remedy and "batch:" not in longer.message


@pytest.mark.parametrize(
    "norms",
    [
        [1.0] * 20 + [10.0],
        [0.5] * 20 + [9.0],
        [5.0] * 20 + [50.0],
        [1.0] * 19 + [30.0],
        [30.0, 1.0] * 10 + [30.0],
    ],
    ids=["ten", "below ten", "ten times the usual", "too few before it", "as usual"],
)
def test_a_gradient_that_is_not_ten_times_the_usual_and_above_ten_is_no_jump(norms: list[float]) -> None:
    assert receipt_rules.gradient_spikes(with_norms(norms)) is None


def waiting(waits: float, *, lines: int = 20, loaders: int = 0) -> Advice | None:
    # The first half waits for nothing: only the second counts, when caches are warm.
    metrics = [
        {"step": step, "step_seconds": 1.0, "data_seconds": 0.0 if step <= lines / 2 else waits}
        for step in range(1, lines + 1)
    ]
    return receipt_rules.data_bound(Evidence({"dataloader_num_workers": loaders}, metrics))


def test_three_tenths_of_the_time_spent_waiting_are_said_with_more_loaders() -> None:
    assert waiting(0.42) is None, "29.6 %"
    assert waiting(0.9, lines=19) is None, "too few steps to tell"
    found, more = waiting(0.43), waiting(1.0, loaders=3)
    assert found is not None and more is not None
    assert found.message.startswith("30% of the time the device waits for its next batch (0.43 s a step)")
    assert dict(found.remedy) == {"dataloader_num_workers": 2}
    assert dict(more.remedy) == {"dataloader_num_workers": 6}
