"""What counts as a signal: pairs not seen before, each once, and judged neither too early nor against proof."""

from typing import Any

import pytest

from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence

SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True}


def said(
    *,
    accuracy: float,
    held_out: float,
    steps: int = 60,
    max_steps: int | None = None,
    pairs: int = 20,
    rows: int = 10_000,
    batch: int = 8,
    losses: tuple[float, float] = (0.69, 0.695),
    held_out_losses: tuple[float, ...] = (0.6931, 0.694, 0.70),
    margin: float = 0.2,
    chosen_longer: int | None = None,
    **settings: Any,
) -> list[str]:
    """The rules on a run with one accuracy in training and one held out."""
    first, last = losses
    lines: list[dict[str, Any]] = [
        {
            "step": step,
            "loss": first + (last - first) * step / steps,
            "rewards/accuracies": accuracy,
            "rewards/margins": margin,
        }
        for step in range(1, steps + 1)
    ]
    places = [round(steps * number / (len(held_out_losses) - 1)) for number in range(len(held_out_losses))]
    lines += [
        {"step": place, "eval_loss": loss, "eval_rewards/accuracies": held_out}
        for place, loss in zip(places, held_out_losses, strict=True)
    ]
    lines.sort(key=lambda line: line["step"])
    data = {"train": rows, "held_out": pairs} | ({} if chosen_longer is None else {"chosen_longer": chosen_longer})
    receipt = {"data": data, "effective_batch": batch}
    evidence = Evidence(SETTINGS | settings, lines, receipt, max_steps=max_steps or steps, over=max_steps is None)
    return [advice.rule for advice in apply_rules(evidence)]


def test_each_pair_counts_once_whether_held_out_or_of_the_first_pass() -> None:
    assert said(accuracy=0.70, held_out=0.5, pairs=20) == ["unclear"], "240 pairs at 70 %, 20 at 50 %: 68 %"
    assert said(accuracy=0.70, held_out=0.5, pairs=200, batch=1) == ["weak-signal"], "30 at 70 %, 200 at 50 %: 53 %"


def test_unseen_pairs_that_are_surely_above_chance_are_no_weak_signal() -> None:
    """Held-out pairs alone do not tell, all unseen ones together do: 300 pairs at 63 %, and not 75 of them."""
    assert said(accuracy=0.64, held_out=0.6, pairs=60) == ["unclear"]
    assert said(accuracy=0.62, held_out=0.55, pairs=20, batch=1) == ["weak-signal"]


def test_what_was_learnt_by_heart_is_no_signal_if_the_held_out_loss_never_fell() -> None:
    """Many passes over few pairs: training accuracy says nothing of other pairs."""
    by_heart: dict[str, Any] = {"accuracy": 0.95, "held_out": 0.5, "pairs": 48, "rows": 40, "losses": (0.69, 0.2)}
    assert said(**by_heart, held_out_losses=(0.6931, 0.70, 0.73, 0.80))[0] == "weak-signal"
    assert said(**by_heart, held_out_losses=(0.6931, 0.66, 0.73, 0.80))[0] == "over-fitting"
    assert "weak-signal" not in said(**by_heart | {"held_out": 0.75}, held_out_losses=(0.6931, 0.70, 0.73, 0.80))
    assert "weak-signal" not in said(**by_heart | {"pairs": 9}, held_out_losses=(0.6931, 0.70, 0.73, 0.80))


@pytest.mark.parametrize(
    ("steps", "max_steps", "judged"),
    [(60, 1000, False), (199, 1000, False), (200, 1000, True), (39, 80, False), (40, 80, True), (31, 34, True),
     (29, 34, False), (19, 20, False)],
)  # fmt: skip
def test_a_long_run_is_judged_when_its_rate_has_warmed_up_and_a_short_one_at_its_end(
    steps: int, max_steps: int, judged: bool
) -> None:
    found = said(accuracy=0.5, held_out=0.5, steps=steps, max_steps=max_steps, pairs=48)
    assert ("weak-signal" in found) is judged


@pytest.mark.parametrize(("batch", "trivial"), [(1, False), (2, True)])
def test_perfect_accuracy_of_a_few_pairs_is_not_trivial(batch: int, trivial: bool) -> None:
    """Twenty steps have ten lines in their second half: ten pairs, or twenty."""
    found = said(
        accuracy=1.0, held_out=0.9, steps=60, batch=batch, losses=(0.3, 0.1), held_out_losses=(0.6931, 0.5, 0.4)
    )
    assert ("trivial" in found) is trivial


@pytest.mark.parametrize(
    ("accuracy", "held_out", "pairs", "trivial"),
    [(1.0, 1.0, 48, True), (1.0, 0.96, 48, False), (0.99, 1.0, 48, False), (1.0, 1.0, 15, False)],
)
def test_pairs_none_of_which_is_wrong_at_the_end_are_trivial_too(
    accuracy: float, held_out: float, pairs: int, trivial: bool
) -> None:
    """Slower than twenty steps, but annotators disagree on more."""
    slow = said(
        accuracy=accuracy, held_out=held_out, pairs=pairs, losses=(0.69, 0.5), held_out_losses=(0.6931, 0.6, 0.5)
    )
    assert ("trivial" in slow) is trivial


def test_memorised_pairs_of_many_passes_are_not_called_trivial() -> None:
    again = said(accuracy=1.0, held_out=1.0, pairs=48, rows=40, losses=(0.69, 0.5), held_out_losses=(0.6931, 0.6, 0.5))
    assert "trivial" not in again


@pytest.mark.parametrize(("batch", "trivial"), [(1, False), (2, True)])
def test_sixteen_pairs_in_a_row_are_enough(batch: int, trivial: bool) -> None:
    """Sixteen steps have eight lines in their second half, which is as many as the run has made."""
    quick: dict[str, Any] = {"steps": 16, "losses": (0.3, 0.1), "held_out_losses": (0.6931, 0.5, 0.4)}
    assert ("trivial" in said(accuracy=1.0, held_out=0.9, batch=batch, **quick)) is trivial


@pytest.mark.parametrize(
    ("accuracy", "held_out", "chosen_longer", "trivial"),
    [
        (0.96, 0.94, 9_900, True),
        (0.96, 0.94, 100, True),  # the shorter answer is the better one
        (0.96, 0.94, 9_800, False),
        (0.96, 0.94, None, False),
        (0.92, 0.90, 9_900, False),  # 240 pairs of 288 in the second half: 88 % to 95 %
    ],
)
def test_lengths_that_tell_pairs_apart_need_no_perfect_accuracy(
    accuracy: float, held_out: float, chosen_longer: int | None, trivial: bool
) -> None:
    found = said(
        accuracy=accuracy,
        held_out=held_out,
        pairs=48,
        chosen_longer=chosen_longer,
        losses=(0.69, 0.5),
        held_out_losses=(0.6931, 0.6, 0.5),
    )
    assert ("trivial" in found) is trivial


@pytest.mark.parametrize(
    ("rate", "margin", "judged"),
    [(5e-6, 0.004, False), (5e-6, 0.006, True), (5e-6, -0.006, True), (5e-7, 0.006, False), (5e-7, 0.2, True)],
)
def test_a_policy_that_has_hardly_moved_is_not_judged(rate: float, margin: float, judged: bool) -> None:
    """At β 0.1, a margin of 0.005 is 0.05 nats; at lower rates that may be rounding."""
    found = said(accuracy=0.5, held_out=0.5, steps=200, pairs=48, margin=margin, learning_rate=rate)
    assert ("weak-signal" in found) is judged


@pytest.mark.parametrize(("margin", "trivial"), [(0.9, False), (1.1, True)])
def test_a_loss_without_a_known_start_has_fallen_when_the_margin_is_far(margin: float, trivial: bool) -> None:
    """Ten nats at β 0.1."""
    found = said(accuracy=1.0, held_out=0.9, losses=(0.3, 0.1), margin=margin, loss_type=["of a later TRL"])
    assert ("trivial" in found) is trivial
