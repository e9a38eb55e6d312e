"""Diagnosis of a run: the registry of rules, and their advice in order. Standard library only, and fast.

    from dpo_tui.advice.diagnose import diagnose
    advice = diagnose(folder)        # a run folder's path; worst first, never empty
    advice[0].message                # a sentence or two; `.severity`, `.remedy` (settings to change), `.evidence`

The first is the diagnosis. When nothing is wrong it is the rule ``healthy`` with the reasons, or ``too-early`` while
there are too few numbers; both have severity ``info``, and ``.is_problem`` is False. :func:`apply_rules` does the same
for evidence that has been read already.

A rule is a function from :class:`Evidence` to :class:`Advice` or None, and a row in RULES. Rules that find causes come
before rules that find their consequences.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_tui.advice import optimisation_rules, preference_learning_rules, receipt_rules
from dpo_tui.advice.advice import HEALTHY, TOO_EARLY, Advice
from dpo_tui.advice.curve_statistics import mean, part
from dpo_tui.advice.evidence import Evidence, read_evidence

Rule = Callable[[Evidence], Advice | None]

RULES: tuple[Rule, ...] = (
    optimisation_rules.not_a_number,
    preference_learning_rules.wrong_reference,
    receipt_rules.leak,
    receipt_rules.duplicates,
    optimisation_rules.beta,
    preference_learning_rules.swapped,
    optimisation_rules.rate_high,
    preference_learning_rules.trivial,
    optimisation_rules.too_short,
    preference_learning_rules.weak_signal,
    optimisation_rules.rate_low,
    preference_learning_rules.over_fitting,
    preference_learning_rules.chosen_falls,
    preference_learning_rules.kl,
    receipt_rules.out_of_memory,
    receipt_rules.gradient_spikes,
    receipt_rules.dropped_rows,
    receipt_rules.data_bound,
)
_MIN_LOG_LINES = 5
"""With fewer log lines of the loss a run is not called healthy."""


def diagnose(folder: Path | str) -> list[Advice]:
    """Return what is wrong with the run of a folder, causes first; or that it is healthy, and why; never empty."""
    return apply_rules(read_evidence(Path(folder)))


def as_event(advice: Advice) -> dict[str, Any]:
    """Return advice as an event of ``events.jsonl``, which is how `dpo-tui status --json` prints it."""
    return {
        "kind": "advice",
        "severity": advice.severity,
        "rule": advice.rule,
        "message": advice.message,
        "remedy": dict(advice.remedy),
        "evidence": advice.evidence,
    }


def apply_rules(run: Evidence) -> list[Advice]:
    """Return the advice of every rule that applies, in the order of RULES; never empty."""
    advice = [one for rule in RULES if (one := rule(run)) is not None]
    return advice or [_nothing_wrong(run)]


def _nothing_wrong(run: Evidence) -> Advice:
    """Advice on a run to which no rule applies: healthy, or too early to say."""
    losses = run.values("loss")
    if len(losses) < _MIN_LOG_LINES or run.step < optimisation_rules.SETTLED_STEPS / 2:
        if run.step and run.step == run.max_steps:
            return Advice(TOO_EARLY, "info", f"Too short to tell: all of it was {run.step} steps.")
        where = f"step {run.step}" + (f" of {run.max_steps}" if run.max_steps else "")
        return Advice(TOO_EARLY, "info", f"Too early to tell: {where}." if run.step else "No numbers yet.")
    reasons = [f"loss {losses[0]:.2f} → {mean(part(losses, 0.8, 1)):.2f}"]
    for name, label, form in (
        ("rewards/accuracies", "accuracy", "{:.0%}"),
        ("rewards/margins", "margin", "{:.2f}"),
    ):
        if values := run.values(name):
            reasons.append(f"{label} {form.format(mean(part(values, 0.8, 1)))}")
    if held_out := run.values("eval_rewards/accuracies"):
        reasons.append(f"held-out accuracy {held_out[-1]:.0%}")
    # The estimate of step 0 compares the reference with itself. It can be the only one: later ones are skipped when the
    # time budget of evaluations is used up.
    if (estimates := run.values("eval_kl")) and run.series("eval_kl")[-1][0] > 0:
        errors = run.values("eval_kl_stderr")
        reasons.append(f"KL {estimates[-1]:.1f}" + (f" ± {errors[-1]:.1f}" if errors else ""))
    evidence = ", ".join(reasons)
    return Advice(HEALTHY, "info", f"Healthy: {evidence}.", evidence=evidence)
