"""How a run is going, in words. Standard library only; fast enough to be asked every second.

    from dpo_tui.advice.diagnose import diagnose
    advice = diagnose(folder)        # a run folder's path; worst first, never empty
    advice[0].message                # one sentence or two; `.severity`, `.remedy` (settings to change), `.evidence`

The first is the diagnosis. When nothing is wrong it is the rule ``healthy`` with the reasons, or ``too-early`` while
there are too few numbers; both have severity ``info``, and ``.is_problem`` is False. :func:`apply_rules` is the same on data.

A rule is a function from :class:`Evidence` to :class:`Advice` or None, and a row in RULES. Their order is that of
causes: what explains the most comes first, so that a run gets the cause before its consequences.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpo_tui.advice import preference_rules, receipt_rules, training_curve_rules
from dpo_tui.advice.advice import HEALTHY, TOO_EARLY, Advice
from dpo_tui.advice.curve_statistics import mean, part
from dpo_tui.advice.evidence import Evidence, read_evidence

Rule = Callable[[Evidence], Advice | None]

RULES: tuple[Rule, ...] = (
    training_curve_rules.not_a_number,
    preference_rules.wrong_reference,
    receipt_rules.leak,
    receipt_rules.duplicates,
    training_curve_rules.beta,
    preference_rules.swapped,
    training_curve_rules.rate_high,
    preference_rules.trivial,
    training_curve_rules.too_short,
    preference_rules.weak_signal,
    training_curve_rules.rate_low,
    preference_rules.over_fitting,
    preference_rules.chosen_falls,
    preference_rules.kl,
    receipt_rules.out_of_memory,
    receipt_rules.spikes,
    receipt_rules.dropped_rows,
    receipt_rules.data_bound,
)
_FIRST = 5
"""Log lines before which a run is too young to be called healthy."""


def diagnose(folder: Path | str) -> list[Advice]:
    """Return what is wrong with a run, the most telling first; or that it is healthy, and why."""
    return apply_rules(read_evidence(Path(folder)))


def as_event(advice: Advice) -> dict[str, Any]:
    """Return advice in the shape of an event, as `dpo-tui status --json` prints it."""
    return {
        "kind": "advice",
        "severity": advice.severity,
        "rule": advice.rule,
        "message": advice.message,
        "remedy": dict(advice.remedy),
        "evidence": advice.evidence,
    }


def apply_rules(run: Evidence) -> list[Advice]:
    """Return every advice on the evidence, in the order of the rules; at least one."""
    found = [advice for rule in RULES if (advice := rule(run)) is not None]
    return found or [_fine(run)]


def _fine(run: Evidence) -> Advice:
    losses = run.values("loss")
    if len(losses) < _FIRST or run.step < training_curve_rules.SETTLED / 2:
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
    # Before the first step the policy is the reference; later estimates may have been too dear.
    if (estimates := run.values("eval_kl")) and run.series("eval_kl")[-1][0] > 0:
        errors = run.values("eval_kl_stderr")
        reasons.append(f"KL {estimates[-1]:.1f}" + (f" ± {errors[-1]:.1f}" if errors else ""))
    words = ", ".join(reasons)
    return Advice(HEALTHY, "info", f"Healthy: {words}.", evidence=words)
