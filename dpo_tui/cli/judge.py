"""`dpo-tui judge`: blind comparison of answers of the base and the tuned model, by hand or by a judge model."""

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.judge_improvement import judge_improvement
from dpo_tui.cli.judge_options import chosen_judge, judge_options, rubric_of
from dpo_tui.cli.manual_ranking import read_key, show_answers
from dpo_tui.cli.output import is_terminal, narrate, print_json
from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.improve.improvement_store import find_improvement
from dpo_tui.judging.judges.chat_model import open_chat_model
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.judges.open_judge import check_judge, open_judge
from dpo_tui.judging.judges.position_bias import PositionBias
from dpo_tui.judging.judging_session import Session, Verdict
from dpo_tui.judging.rubric_draft import check_examples, draft_rubric
from dpo_tui.judging.session_judge import calibrate_judge, check_judged_by_person, judge_session, rubric_examples
from dpo_tui.text.printable import printable

_KEYS: dict[str, Verdict] = {"l": "left", "r": "right", "t": "tie", "b": "both-bad"}
_HELP = (
    "l left is better · r right is better · t as good as each other · b both bad · u undo · q quit, verdicts are kept"
)


@click.command()
@click.argument("run", type=RUN)
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=20, show_default=True, help="Prompts to judge.")
@click.option("--max-new-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longest answer.")
@click.option("--seed", help="Decides which answer is on which side; drawn when left out, and kept.")
@judge_options
@click.option("--calibrate", is_flag=True, help="Ask the judge about what you judged, and say how far it agrees.")
@click.option(
    "--draft-rubric",
    "draft",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Let the judge model write down your criteria from ten of your verdicts.",
)
@click.option("--export", "target", type=click.Path(path_type=Path), help="Write the verdicts as preference pairs.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def judge(
    *,
    run: str,
    count: int,
    max_new_tokens: int,
    seed: str | None,
    calibrate: bool,
    draft: Path | None,
    target: Path | None,
    as_json: bool,
    **judge: Any,
) -> None:
    """Judge answers of the base and the tuned model, without knowing whose they are; get a win rate.

    Verdicts are kept at once, and the same command goes on where you stopped. Keys also come from a pipe:
    `printf lrt | dpo-tui judge RUN`.
    """
    for file in (target, draft):
        if file is not None and file.exists():
            raise UsageError(f"{file}: exists already", hint="name another file, or remove it first")
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"{file.parent}: no such folder", hint="make it first, or name another file")
    choice = chosen_judge(**judge)
    if choice is not None:
        check_judge(choice)
    if choice is None and (calibrate or draft is not None):
        raise UsageError("name the judge", hint="--judge-model, --endpoint, --reward-model or --judge-command")
    improvement = find_improvement(run)
    if improvement is not None:
        if choice is not None or target is not None:
            raise UsageError("an improvement has its judge; by this command you judge its answers by hand")
        judge_improvement(improvement)
        return
    session = Session.open(find_run(run), count=count, max_new_tokens=max_new_tokens, seed=seed)
    if session.caution:
        narrate(f"! {printable(session.caution, single_line=True)}")
    _generate(session)
    bias = None
    if choice is None:
        _judge_by_hand(session)
    elif draft is not None:
        _draft_rubric(session, choice, draft)
        return
    elif calibrate:
        _calibrate(session, choice, as_json=as_json)
        return
    else:
        bias = _judge_by_judge(session, choice)
    _print_result(session, target, as_json=as_json, bias=bias)


def _generate(session: Session) -> None:
    if not session.unanswered():
        return
    narrate("Both models answer the prompts; loading the libraries takes a while")
    for done, total in session.generate():
        if is_terminal():
            click.echo(f"\r\x1b[Kanswers {done}/{total}", nl=False, err=True)
    if is_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)


def _judge_by_hand(session: Session) -> None:
    narrate(_HELP)
    while (pair := session.next()) is not None:
        show_answers(f"{pair.number} of {pair.total}", pair.prompt, pair.left, pair.right)
        key = read_key({*_KEYS, "u", "q"}, _HELP)
        if key == "q":
            return
        if key == "u":
            narrate("took the last verdict back" if session.undo() else "there is no verdict to take back")
        else:
            session.vote(pair, _KEYS[key])


def _judge_by_judge(session: Session, choice: JudgeChoice) -> PositionBias | None:
    """Let a judge compare what waits, showing the number; return the position bias of one that is asked in words."""
    comparisons = []
    with open_judge(choice) as judge:
        for comparison in judge_session(session, judge, rubric_of(choice)):
            comparisons.append(comparison)
            if is_terminal():
                click.echo(f"\r\x1b[Kjudged {len(comparisons)}", nl=False, err=True)
        if is_terminal():
            click.echo("\r\x1b[K", nl=False, err=True)
        return None if judge.gives_scores or not comparisons else PositionBias.of(comparisons)


def _calibrate(session: Session, choice: JudgeChoice, *, as_json: bool) -> None:
    check_judged_by_person(session)
    with open_judge(choice) as judge:
        result = calibrate_judge(session, judge, rubric_of(choice))
    if as_json:
        print_json({"run": session.folder.id, **vars(result), "warning": result.warning})
    else:
        click.echo(textwrap.fill(result.summary(), 80))


def _draft_rubric(session: Session, choice: JudgeChoice, target: Path) -> None:
    examples = rubric_examples(session)
    check_examples(examples)
    with open_chat_model(choice) as model:
        text = draft_rubric(model, examples)
    with target.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
    click.echo(text)
    narrate(f"written to {target}: read it, change what is wrong, and judge by it with --rubric {target}")


def _print_result(session: Session, target: Path | None, *, as_json: bool, bias: PositionBias | None) -> None:
    result = session.tally()
    if target is not None:
        pairs = session.pairs()
        with target.open("x", encoding="utf-8") as file:
            file.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        narrate(f"wrote {len(pairs)} pairs to {target}")
    if as_json:
        tally = {**vars(result), "judged": result.judged, "rate": result.rate, "interval": result.interval}
        print_json({"run": session.folder.id, **tally, "bias": vars(bias) if bias else None})
        return
    click.echo(textwrap.fill(result.summary(), 80))
    if result.judged and not result.is_decided and session.next() is None:
        narrate(f"More prompts make it surer: dpo-tui judge {session.folder.id} -n {2 * result.judged}")
    if bias is not None:
        click.echo(bias.summary())
