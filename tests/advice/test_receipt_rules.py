"""Rules on facts that the worker counted: the trained text, cut answers, lengths; and notes behind the verdict."""

import inspect
from typing import Any

import pytest

from dpo_tui.advice.diagnose import apply_rules
from dpo_tui.advice.evidence import Evidence
from dpo_tui.advice.receipt_rules import TEMPLATE_WARNINGS
from dpo_tui.data.tokens import template_findings

SETTINGS = {"strategy": "dpo", "learning_rate": 5e-6, "beta": 0.1, "use_lora": True, "warmup_ratio": 0.1}
STEPS = 60


def learning(
    *, events: Any = (), chosen_longer: int | None = None, spike: bool = False, harm: bool = False
) -> Evidence:
    """A run that learns: 80 % of 48 held-out pairs are right; a spike in its middle, with or without harm."""
    lines: list[dict[str, Any]] = [{"step": 0, "eval_loss": 0.6931, "eval_rewards/accuracies": 0.0}]
    for step in range(1, STEPS + 1):
        loss = 0.6931 - 0.003 * step + (0.3 if harm and step > 40 else 0.0)
        norm = 200.0 if spike and step == 40 else 1.0
        lines.append({
            "step": step, "loss": loss, "grad_norm": norm, "rewards/accuracies": 0.78,
            "rewards/margins": 0.3 if step > 1 else 0.0, "rewards/chosen": 0.1 if step > 1 else 0.0,
            "logps/chosen": -60.0,
        })  # fmt: skip
    lines.append({"step": STEPS, "eval_loss": 0.55, "eval_rewards/accuracies": 0.8, "eval_rewards/margins": 0.3})
    data: dict[str, Any] = {"train": 640, "held_out": 48, "rows": 688}
    if chosen_longer is not None:
        data["chosen_longer"] = chosen_longer
    receipt = {"data": data, "effective_batch": 8}
    return Evidence(SETTINGS, lines, receipt, list(events), max_steps=STEPS, over=True)


def ids(evidence: Evidence) -> list[str]:
    return [advice.rule for advice in apply_rules(evidence)]


def test_a_text_without_an_end_comes_before_what_the_curves_say() -> None:
    """No metric can show it: both answers of each pair lack their end."""
    event = {"kind": "warning", "rule": "no-end-token", "message": "chat template: no answer ends. Give a template"}
    found = apply_rules(learning(events=[event]))
    assert [advice.rule for advice in found] == ["no-end-token"]
    assert found[0].message.startswith("Chat template: no answer ends")
    assert ids(learning(events=[{**event, "kind": "note", "rule": "template-date"}])) == ["healthy"]


def test_every_warning_of_the_template_check_is_known_to_the_rule() -> None:
    """A finding of another id would be a warning in the log and no advice."""
    found = set()
    for name, function in inspect.getmembers(template_findings, inspect.isfunction):
        if function.__module__ != template_findings.__name__ or "TemplateFinding" not in str(
            inspect.signature(function).return_annotation
        ):
            continue
        arguments = {
            parameter.name: 1
            if parameter.annotation is int
            else ["a"]
            if "Sequence" in str(parameter.annotation)
            else "a"
            for parameter in inspect.signature(function).parameters.values()
        }
        try:
            finding = function(**arguments)
        except (TypeError, AttributeError, ValueError) as error:
            pytest.fail(f"{name} cannot be tried: {error}")
        if finding.severity == "warning":
            found.add(finding.check)
    assert found == TEMPLATE_WARNINGS


@pytest.mark.parametrize(("rows", "said"), [(640, "answers-cut"), (64, "answers-cut"), (63, "healthy")])
def test_answers_that_are_cut_are_named_from_a_tenth_of_the_pairs_on(rows: int, said: str) -> None:
    found = apply_rules(learning(events=[{"kind": "warning", "rule": "answers-cut", "rows": rows, "of": 640}]))
    assert found[0].rule == said
    assert dict(found[0].remedy) == ({"max_seq_length": 2048} if said == "answers-cut" else {})


@pytest.mark.parametrize(
    ("longer", "notes", "word"),
    [
        (600, ["length"], "longer"),
        (40, ["length"], "shorter"),
        (512, ["length"], "longer"),
        (505, [], ""),
        (None, [], ""),
    ],
)
def test_a_length_that_tells_as_much_as_the_policy_is_a_note_behind_the_verdict(
    longer: int | None, notes: list[str], word: str
) -> None:
    """80 % of the held-out pairs are right; 512 of 640 are 80 %."""
    found = apply_rules(learning(chosen_longer=longer))
    assert [advice.rule for advice in found] == ["healthy", *notes]
    assert not any(advice.is_problem for advice in found)
    assert all(f"is the {word} one" in advice.message for advice in found[1:])


def test_a_spike_that_was_clipped_and_did_no_harm_is_a_note() -> None:
    assert ids(learning(spike=True)) == ["healthy", "spikes"]
    assert ids(learning(spike=True, harm=True))[0] == "spikes"
    unclipped = learning(spike=True)
    assert ids(Evidence({**SETTINGS, "max_grad_norm": 0.0}, unclipped.metrics, unclipped.receipt))[0] == "spikes"
