"""`dpo-tui judge`: blind comparison of answers of the base and the tuned model, by hand or by a judge model."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from dpo_tui.cli.manual_ranking import read_key, show_answers
from dpo_tui.cli.output import is_terminal, narrate, print_json
from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.judge_model import PositionBias, endpoint_judge, judge_by_model, local_judge
from dpo_tui.judging.judging_session import Session, Verdict
from dpo_tui.processes.torch_tool import TorchTool
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
@click.option("--judge-model", metavar="MODEL", help="Let a model on this machine judge: a hub id or a folder.")
@click.option("--endpoint", "url", metavar="URL", help="Let a model behind an OpenAI-compatible endpoint judge.")
@click.option("--endpoint-model", metavar="NAME", help="What the endpoint calls the model.")
@click.option("--export", "target", type=click.Path(path_type=Path), help="Write the verdicts as preference pairs.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def judge(
    *,
    run: str,
    count: int,
    max_new_tokens: int,
    seed: str | None,
    judge_model: str | None,
    url: str | None,
    endpoint_model: str | None,
    target: Path | None,
    as_json: bool,
) -> None:
    """Judge answers of the base and the tuned model, without knowing whose they are; get a win rate.

    Verdicts are kept at once, and the same command goes on where you stopped. Keys also come from a pipe:
    `printf lrt | dpo-tui judge RUN`.
    """
    if target is not None and target.exists():
        raise UsageError(f"{target}: exists already", hint="name another file, or remove it first")
    if target is not None and not target.parent.is_dir():
        raise UsageError(f"{target.parent}: no such folder", hint="make it first, or name another file")
    if bool(url) != bool(endpoint_model):
        raise UsageError("--endpoint and --endpoint-model go together")
    session = Session.open(find_run(run), count=count, max_new_tokens=max_new_tokens, seed=seed)
    if session.caution:
        narrate(f"! {printable(session.caution, single_line=True)}")
    _generate(session)
    bias = None
    if url and endpoint_model:
        bias = _judge_by_endpoint(session, url, endpoint_model)
    elif judge_model:
        bias = _judge_by_local_model(session, judge_model)
    else:
        _judge_by_hand(session)
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


def _judge_by_endpoint(session: Session, url: str, model: str) -> PositionBias | None:
    return _show_progress(session, judge_by_model(session, endpoint_judge(url, model), model))


def _judge_by_local_model(session: Session, model: str) -> PositionBias | None:
    with TorchTool("generate", environment=tool_environment()) as tool:
        return _show_progress(session, judge_by_model(session, local_judge(tool, model), model))


def _show_progress(session: Session, verdicts: Iterator[PositionBias]) -> PositionBias | None:
    """Consume a judge model's verdicts, showing their number; return the position bias over all of them."""
    bias = None
    for bias_so_far in verdicts:
        bias = bias_so_far
        if is_terminal():
            click.echo(f"\r\x1b[Kjudged {session.tally().judged}", nl=False, err=True)
    if is_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)
    return bias


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
