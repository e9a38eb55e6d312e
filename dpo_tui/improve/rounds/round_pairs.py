"""The preference pairs of a round: the best usable answer to each prompt against the worst, by what the judge said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.improve.rounds.usable_answers import usable_answers
from dpo_tui.judging.preference_pairs import preference_row, write_pairs
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.metrics_reader import read_lines

LEAST_PAIRS = 8
"""Fewer pairs are no training: a round that has made fewer ends the improvement."""


def write_round_pairs(work: RoundWork, number: int) -> dict[str, Any]:
    """Write a round's ``pairs.jsonl`` and, after it, ``counts.json``; return the counts."""
    folder = work.folder.round(number)
    answers = read_answers(folder.answers)
    usable = usable_answers(answers)
    judgements = read_lines(folder.judgements)
    worths = worths_of(judgements)
    by = next((str(line["by"]) for line in judgements if "by" in line), "")
    rows, without, chosen_longer = [], Counter[str](), 0
    for prompt in work.training:
        candidates = usable.answers.get(prompt.id, [])
        if len(candidates) < 2:  # noqa: PLR2004 - a pair
            without["fewer than two usable answers"] += 1
            continue
        worth = worths.get(prompt.id, {})
        ranked = sorted((text for text in candidates if text in worth), key=worth.__getitem__, reverse=True)
        difference = worth[ranked[0]] - worth[ranked[-1]] if ranked else 0.0
        if difference <= work.plan.margin:
            without["no answer better than another"] += 1
            continue
        source = {"improvement": work.folder.id, "round": number, "judged_by": by}
        source |= {"chosen_worth": worth[ranked[0]], "rejected_worth": worth[ranked[-1]]}
        rows.append(preference_row(prompt.messages, ranked[0], ranked[-1], source))
        chosen_longer += len(ranked[0]) > len(ranked[-1])
    write_pairs(folder.pairs, rows)
    counts: dict[str, Any] = {
        "prompts": len(work.training),
        "answers": len(answers),
        "tokens": sum(one.tokens for one in answers),
        "dropped": dict(usable.dropped),
        "judgements": len(judgements),
        "without_pair": dict(without),
        "pairs": len(rows),
        "chosen_longer": chosen_longer,
        "judge": judge_agreement(judgements) | {"name": by},
    }
    write_json_atomic(folder.counts, counts)
    return counts


def worths_of(judgements: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the worth of each judged answer, by prompt: its score, or its wins less its losses."""
    worths: dict[str, dict[str, float]] = {}
    for line in judgements:
        of_prompt = worths.setdefault(str(line.get("id")), {})
        if "score" in line:
            of_prompt[str(line["answer"])] = float(line["score"])
            continue
        left, right = str(line.get("left")), str(line.get("right"))
        won = {"left": 1.0, "right": -1.0}.get(str(line.get("verdict")), 0.0)
        of_prompt[left] = of_prompt.get(left, 0.0) + won
        of_prompt[right] = of_prompt.get(right, 0.0) - won
    return worths


def judge_agreement(judgements: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count how often a judge that was asked in both orders agreed with itself.

    Returns:
        ``asked``: comparisons in both orders; ``contradicted``: those with another winner in the other order;
        ``first``: contradictions in which the answer shown first won both times; ``unread``: replies without a verdict.
    """
    asked = [line["orders"] for line in judgements if isinstance(line.get("orders"), list)]
    contradicted = [orders for orders in asked if None not in orders and orders in (["A", "A"], ["B", "B"])]
    return {
        "asked": len(asked),
        "contradicted": len(contradicted),
        "first": sum(orders == ["A", "A"] for orders in contradicted),
        "unread": sum(orders.count(None) for orders in asked),
    }
