"""The report as Markdown, from its figures. It is also what the terminal shows."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpo_tui.improve.round_verdicts import AGAINST_LAST, AGAINST_START, JUDGE, SECOND_JUDGE
from dpo_tui.text.durations import duration
from dpo_tui.text.printable import printable

_FENCE = re.compile(r"`+")
_ADVICE = {
    "too-few-pairs": "Begin another with more prompts or answers (-n), longer answers (--max-new-tokens), or a judge "
    "that tells them apart: the table under Data says what was left out.",
    "hours": "Begin another with a higher --hours; `--set model_name=run:ID` goes on from a run.",
    "tokens": "Begin another with a higher --tokens; `--set model_name=run:ID` goes on from a run.",
}
"""What to do after an end that a rule has made, and that no `resume` goes on from."""
_KWH = 3.6e6
"""Joules of a kilowatt hour."""


def report_markdown(figures: Mapping[str, Any]) -> str:
    """Return the text of ``report.md``."""
    sections = (_introduction, _result, _rounds, _data, _answers, _samples, _cost, _next_steps, _reproduce)
    return "\n\n".join("\n".join(section(figures)) for section in sections).rstrip() + "\n"


def _introduction(figures: Mapping[str, Any]) -> Iterator[str]:
    plan, prompts = figures["plan"], figures["prompts"]
    done = len(figures["rounds"])
    yield f"# {_plain(plan['name'])}: what {done} {'round' if done == 1 else 'rounds'} of improvement made"
    yield ""
    yield (
        f"Start model: `{_plain(plan['model'])}`. Asked for: up to {plan['rounds']} rounds on {prompts['training']} "
        f"prompts, {plan['answers']} answers each, judged by {_judge(plan['judge'])}; results judged on "
        f"{prompts['held_out']} held-out prompts, of which {prompts['shared']} are among those trained on."
    )
    yield ""
    if figures["status"] == "running":
        yield "It is still running: this is what the complete rounds have made."
    else:
        yield f"It is {figures['status']}: {_plain(figures['reason'] or 'no reason was recorded')}."


def _result(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Is the model better?"
    yield ""
    if not figures["rounds"]:
        yield "No round is complete: there is nothing to compare."
        return
    last = figures["rounds"][-1]
    yield (
        f"After round {last['number']} (run `{last['run']}`), on held-out prompts, blind, against the start model: "
        f"{win_text(last['wins'][JUDGE][AGAINST_START])}."
    )
    if SECOND_JUDGE in last["wins"]:
        second = last["wins"][SECOND_JUDGE][AGAINST_START]
        yield ""
        yield (
            f"The second judge ({_judge(figures['plan']['second_judge'])}), which had no say in the data: "
            f"{win_text(second)}."
        )
    if figures["calibration"]:
        yield ""
        yield f"A person judged some of the same pairs, blind. {figures['calibration']['summary']}"
    warnings = [(one["number"], text) for one in figures["rounds"] for text in one["warnings"]]
    if warnings:
        yield ""
        yield "Look at these before you believe it:"
        yield ""
        yield from (f"- round {number}: {_plain(text)}" for number, text in warnings)


def _rounds(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Rounds"
    yield ""
    yield from _table(
        ("round", "pairs", "win rate over the start", "over the round before", "KL", "words an answer", "run"),
        [
            (
                str(one["number"]),
                str(one["counts"].get("pairs", "")),
                rate_text(one["wins"][JUDGE][AGAINST_START]),
                rate_text(one["wins"][JUDGE][AGAINST_LAST]),
                "not estimated" if one["kl"] is None else f"{one['kl']:z.2f}",
                f"{one['features']['words']:.0f}" if one["features"] else "",
                f"`{one['run']}`",
            )
            for one in figures["rounds"]
        ],
    )
    yield ""
    yield (
        "Win rates are of the decided verdicts, with 95 % Wilson intervals. KL is in nats per answer, from the "
        "reference of the round's training."
    )
    for one in figures["rounds"]:
        if len(one["runs"]) > 1:
            yield ""
            runs = ", ".join(f"`{run['run']}` {rate_text(run['wins'])}" for run in one["runs"])
            yield f"Round {one['number']} trained {len(one['runs'])} runs, of which `{one['run']}` went on: {runs}."
        yield from _without_result(one)


def _without_result(one: Mapping[str, Any]) -> Iterator[str]:
    for combination, why in one["without_result"].items():
        yield ""
        name = f"`{_plain(combination)}`"
        yield f"Round {one['number']}: {name} has no result, and was compared with nothing: {_plain(why)}"


def _data(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Data"
    yield ""
    rows = []
    unfinished = figures["unfinished"]
    made = [*figures["rounds"], *([unfinished] if unfinished else [])]
    for one in made:
        counts = one["counts"]
        dropped = ", ".join(f"{number} {_plain(why)}" for why, number in counts["dropped"].items()) or "none"
        without = ", ".join(f"{number} with {_plain(why)}" for why, number in counts["without_pair"].items()) or "none"
        name = f"{one['number']}{' (not complete)' if one is unfinished else ''}"
        rows.append((name, str(counts["answers"]), dropped, without, str(counts["pairs"])))
    yield from _table(("round", "answers", "answers left out", "prompts left out", "pairs"), rows)
    for one in made:
        judge = one["counts"]["judge"]
        if judge["asked"]:
            yield ""
            yield (
                f"Round {one['number']}: asked in both orders, the judge contradicted itself in "
                f"{judge['contradicted']} of {judge['asked']} comparisons (counted as ties), {judge['first']} times in "
                f"favour of the answer shown first; {judge['unread']} replies had no verdict."
            )


def _answers(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Held-out answers"
    yield ""
    sets = [("start", figures["start"]), *((f"round {one['number']}", one["features"]) for one in figures["rounds"])]
    yield from _table(
        ("", "answers", "words", "refusals", "repeated", "formatted", "cut"),
        [
            (
                name,
                str(one["answers"]),
                f"{one['words']:.1f}",
                *(f"{one[key]:.0%}" for key in ("refusals", "repetition", "formatted", "cut")),
            )
            for name, one in sets
            if one
        ],
    )


def _samples(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Before and after"
    for sample in figures["samples"]:
        for title, text in (("Prompt", sample["prompt"]), ("Start", sample["before"]), ("Now", sample["after"])):
            yield ""
            yield f"{title}:"
            yield ""
            yield from _fenced(text)


def _cost(figures: Mapping[str, Any]) -> Iterator[str]:
    cost = figures["cost"]
    yield "## Cost"
    yield ""
    steps = sorted(cost["seconds"].items(), key=lambda one: -one[1])
    spent = "; ".join(f"{_plain(step)} {duration(seconds)}" for step, seconds in steps)
    yield f"{duration(sum(cost['seconds'].values()))} of work ({spent}); {cost['sampled_tokens']:,} sampled tokens."
    if cost["joules"] is None:
        yield "Energy: not measured, no GPU told its power."
    else:
        yield f"Energy: {cost['joules'] / _KWH:.3f} kWh by all GPUs that NVML lists, whoever used them."
        if cost["unmetered_seconds"] >= 1:
            yield f"For {duration(cost['unmetered_seconds'])} of the work no GPU told its power; they are not counted."


def _next_steps(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## What to do next"
    yield ""
    if figures["status"] not in ("done", "running"):
        yield f"- `dpo-tui resume {figures['id']}` goes on where it was."
    elif advice := _ADVICE.get(figures["stop"]):
        yield f"- {advice}"
    if not figures["rounds"]:
        return
    run = figures["rounds"][-1]["run"]
    yield f"- `dpo-tui chat {run}` talks to the start model and the result side by side."
    yield f"- `dpo-tui judge {run}` lets you judge answers yourself, blind."
    yield f"- `dpo-tui export {run} --to DIR --merge` makes one folder that serves by itself."


def _reproduce(figures: Mapping[str, Any]) -> Iterator[str]:
    plan = figures["plan"]
    yield "## How to make it again"
    yield ""
    yield (
        f"dpo-tui {figures['version']}, seed {plan['seed']}, temperature {plan['temperature']:g}, top_p "
        f"{plan['top_p']:g}, at most {plan['max_new_tokens']} tokens an answer; held-out answers are greedy."
    )
    yield ""
    yield f"- prompts.jsonl: sha256 `{figures['files']['prompts_sha256']}`"
    yield f"- config.toml: sha256 `{figures['files']['config_sha256']}`"
    for one in figures["rounds"]:
        yield f"- rounds/{one['number']}/pairs.jsonl: sha256 `{one['pairs_sha256']}`"
    if plan["argv"]:
        yield ""
        yield from _fenced(shlex.join(map(str, plan["argv"])))


def win_text(wins: Mapping[str, Any]) -> str:
    """A win rate in words, with what follows from it."""
    decided = wins["tuned"] + wins["base"]
    rest = f"{wins['tie']} tie{'' if wins['tie'] == 1 else 's'}, {wins['same']} the same"
    if not decided:
        return f"no verdict for either side ({rest})"
    low, high = wins["interval"]
    conclusion = "it is better" if low > 0.5 else "it is worse" if high < 0.5 else "too few to tell"  # noqa: PLR2004
    return (
        f"it wins {wins['tuned']} of {decided} ({wins['rate']:.0%}, 95 % interval {low:.0%} to {high:.0%}; {rest}): "
        f"{conclusion}"
    )


def rate_text(wins: Mapping[str, Any]) -> str:
    """A win rate in a cell of a table: ``84% (71–92%)``."""
    if not wins["interval"]:
        return "none decided"
    low, high = wins["interval"]
    return f"{wins['rate']:.0%} ({low:.0%} to {high:.0%})"


def _judge(choice: Mapping[str, Any]) -> str:
    target = f" {_plain(choice['target'])}" if choice.get("target") else ""
    shown = choice.get("max_answer_chars")
    return f"{choice.get('kind', 'judge')}{target}{f' (first {shown} characters of each answer)' if shown else ''}"


def _plain(text: object) -> str:
    """Text of users and models on one line, with nothing in it that Markdown or HTML would load or lay out by.

    Backticks become apostrophes, since no escape of them holds within a code span.
    """
    shown = printable(str(text), single_line=True)
    return shown.replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[").replace("`", "'")


def _fenced(text: str) -> Iterator[str]:
    """A block that shows a text as it is: its fence is longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, _FENCE.findall(text)), default=0))
    yield fence
    yield from printable(text).split("\n")
    yield fence


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
