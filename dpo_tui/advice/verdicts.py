"""What is said about a run to which no rule applies: healthy, learning, not shown, too few to tell, too early.

*Healthy* needs evidence from held-out examples: an accuracy above chance by its own interval, and a loss below its
start; of a strategy without an accuracy, the loss alone.
"""

from dpo_tui.advice.advice import FEW_HELD_OUT, HEALTHY, LEARNING, TOO_EARLY, UNCLEAR, Advice
from dpo_tui.advice.curve_statistics import mean, part, wilson_interval
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.held_out import CHANCE, HeldOut, held_out_count, held_out_of
from dpo_tui.advice.optimisation_rules import SETTLED_STEPS

_MIN_LOG_LINES = 5
"""With fewer log lines of the loss nothing is said of a run."""


def verdict(run: Evidence) -> Advice:
    """Return what the numbers of a run show, if no rule applies to it."""
    losses = run.values("loss")
    if len(losses) < _MIN_LOG_LINES or run.step < SETTLED_STEPS / 2:
        if run.step and run.step == run.max_steps:
            return Advice(TOO_EARLY, "info", f"Too short to tell: all of it was {run.step} steps.")
        where = f"step {run.step}" + (f" of {run.max_steps}" if run.max_steps else "")
        return Advice(TOO_EARLY, "info", f"Too early to tell: {where}." if run.step else "No numbers yet.")
    evidence = _figures(run)
    held_out = held_out_of(run)
    if held_out is None:
        return _without_evaluation(run, evidence)
    rows = run.strategy.data.value if run.strategy else "examples"
    if held_out.is_few:
        return Advice(
            FEW_HELD_OUT,
            "info",
            f"Too few to tell: {held_out.count} {rows} are held out, {_result(held_out)}. Some dozens would tell "
            f"whether what is learnt holds for others. So far: {evidence}.",
            evidence=evidence,
        )
    if held_out.proves_learning:
        return Advice(HEALTHY, "info", f"Healthy: {evidence}.", evidence=evidence)
    return Advice(UNCLEAR, "info", f"Not shown yet: {_missing(run, held_out, rows)}. So far: {evidence}.", {}, evidence)


def _without_evaluation(run: Evidence, evidence: str) -> Advice:
    """Advice on a run of which no held-out example has been evaluated since it began."""
    if held_out_count(run):
        why = "nothing was evaluated" if run.over else "the first evaluation is still to come"
    else:
        why = "nothing held out to tell whether it holds for others"
    if _learns_training_rows(run):
        return Advice(LEARNING, "info", f"Learning: {evidence}; {why}.", evidence=evidence)
    return Advice(UNCLEAR, "info", f"Not shown yet that it learns: {evidence}; {why}.", evidence=evidence)


def _learns_training_rows(run: Evidence) -> bool:
    """Whether the training accuracy is above chance in the last part, or, without one, the loss has fallen."""
    accuracies, losses = part(run.values("rewards/accuracies"), 0.5, 1), run.values("loss")
    if accuracies:
        return wilson_interval(mean(accuracies), len(accuracies) * run.pairs_per_line)[0] > CHANCE
    return mean(part(losses, 0.8, 1)) < mean(part(losses, 0, 0.2))


def _result(held_out: HeldOut) -> str:
    """The result of an evaluation in words."""
    if held_out.accuracy is not None and held_out.count:
        return f"{round(held_out.accuracy * held_out.count)} of them right"
    return f"loss {held_out.start:.3f} → {held_out.loss:.3f}"


def _missing(run: Evidence, held_out: HeldOut, rows: str) -> str:
    """Why an evaluation does not prove that the run learns."""
    if held_out.accuracy is not None and held_out.count is None:
        return f"held-out accuracy {held_out.accuracy:.0%}, and the run does not say of how many {rows}"
    if held_out.accuracy is not None and not held_out.above_chance:
        low, high = held_out.interval
        return (
            f"held-out accuracy {held_out.accuracy:.0%} of {held_out.count} {rows} (95 % interval {low:.0%} to "
            f"{high:.0%}) is not above chance"
            + ("; it compares whole answers, and this loss their means per token" if run.compares_means else "")
        )
    if held_out.loss is None or held_out.start is None:
        return "no held-out loss was logged"
    if held_out.accuracy is None and len(run.series("eval_loss")) == 1:
        return f"one evaluation alone, of held-out loss {held_out.loss:.3f}"
    if held_out.accuracy is None and held_out.margin is not None and held_out.margin <= 0:
        return f"held-out margin {held_out.margin:z.2f}: the good answers are not preferred to the bad ones"
    return f"the held-out loss has not fallen ({held_out.start:.3f} → {held_out.loss:.3f})"


def _figures(run: Evidence) -> str:
    """Loss, accuracy, margin, held-out accuracy with its number of pairs, and KL in a few words."""
    losses = run.values("loss")
    reasons = [f"loss {losses[0]:.2f} → {mean(part(losses, 0.8, 1)):.2f}"]
    for name, label, form in (
        ("rewards/accuracies", "accuracy", "{:.0%}"),
        ("rewards/margins", "margin", "{:z.2f}"),
    ):
        if values := run.values(name):
            reasons.append(f"{label} {form.format(mean(part(values, 0.8, 1)))}")
    held_out = held_out_of(run)
    if held_out is not None and held_out.accuracy is not None:
        of = f" of {held_out.count}" if held_out.count else ""
        reasons.append(f"held-out accuracy {held_out.accuracy:.0%}{of}")
    elif held_out is not None and held_out.loss is not None and held_out.start is not None:
        reasons.append(f"held-out loss {held_out.start:.2f} → {held_out.loss:.2f}")
        if held_out.margin is not None:
            reasons.append(f"held-out margin {held_out.margin:z.2f}")
    # The estimate of step 0 compares the reference with itself. It can be the only one: later ones are skipped when the
    # time budget of evaluations is used up.
    if (estimates := run.values("eval_kl")) and run.series("eval_kl")[-1][0] > 0:
        errors = run.values("eval_kl_stderr")
        reasons.append(f"KL {estimates[-1]:z.1f}" + (f" ± {errors[-1]:.1f}" if errors else ""))
    return ", ".join(reasons)
