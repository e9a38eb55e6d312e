"""Diagnosis of a run: the registry of rules, and their advice in order. Standard library only, and fast.

    from dpo_tui.advice.diagnose import diagnose
    advice = diagnose(folder)        # a run folder's path; worst first, never empty
    advice[0].message                # a sentence or two; `.severity`, `.remedy` (settings to change), `.evidence`

The first is the diagnosis. When no rule applies it is what the numbers show (:mod:`dpo_tui.advice.verdicts`):
``healthy``, with the evidence, or that nothing proves that yet; these have severity ``info``, and ``.is_problem`` is
False. :func:`apply_rules` does the same for evidence that has been read already.

A rule is a function from :class:`Evidence` to :class:`Advice` or None, and a row in RULES. Rules that find causes come
before rules that find their consequences.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.advice import (
    first_step_rules,
    optimisation_rules,
    pair_signal_rules,
    preference_learning_rules,
    receipt_rules,
)
from dpo_tui.advice.advice import Advice
from dpo_tui.advice.evidence import Evidence, read_evidence
from dpo_tui.advice.verdicts import verdict

Rule = Callable[[Evidence], Advice | None]

RULES: tuple[Rule, ...] = (
    optimisation_rules.not_a_number,
    first_step_rules.broken_base,
    first_step_rules.wrong_reference,
    receipt_rules.leak,
    receipt_rules.duplicates,
    receipt_rules.trained_text,
    receipt_rules.answers_cut,
    optimisation_rules.beta,
    pair_signal_rules.swapped,
    optimisation_rules.rate_high,
    pair_signal_rules.trivial,
    optimisation_rules.too_short,
    pair_signal_rules.weak_signal,
    optimisation_rules.rate_low,
    preference_learning_rules.over_fitting,
    preference_learning_rules.chosen_falls,
    preference_learning_rules.kl,
    receipt_rules.out_of_memory,
    receipt_rules.gradient_spikes,
    receipt_rules.dropped_rows,
    receipt_rules.data_bound,
    receipt_rules.length,
)


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
    advice = [with_changes_only(one, run.settings) for rule in RULES if (one := rule(run)) is not None]
    problems = [one for one in advice if one.is_problem]
    # A note is no diagnosis: what the run shows comes before it.
    return [*(problems or [verdict(run)]), *(one for one in advice if not one.is_problem)]


def with_changes_only(advice: Advice, settings: Mapping[str, Any]) -> Advice:
    """Leave out of a remedy what the run has already: a remedy changes something, or is not offered."""
    remedy = {name: value for name, value in advice.remedy.items() if not _is_set(settings, name, value)}
    return replace(advice, remedy=remedy)


def _is_set(settings: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a run has a setting already; None is a setting that is left out."""
    if value is None:
        # A run's own file lists every setting that has a value, so that one it lacks is not set.
        return settings.get(name) is None
    if name == "warmup_ratio" and settings.get("warmup_steps") is not None:
        return False  # the steps are in force, whatever the ratio beside them
    return name in settings and bool(settings[name] == value)
