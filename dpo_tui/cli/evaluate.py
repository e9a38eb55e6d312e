"""`dpo-tui eval`: preference accuracy, margin, loss and KL of a run's model on pairs, or on labelled answers."""

import click

from dpo_tui.cli.file_options import file_options, require_known_encoding
from dpo_tui.cli.output import narrate, print_json
from dpo_tui.cli.run_argument import RUN
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.paths import expanded
from dpo_tui.processes.json_child import Message
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.runs import store
from dpo_tui.text.printable import printable


@click.command()
@click.argument("run", type=RUN)
@click.option("--data", metavar="FILE", help="Pairs to evaluate on: a file or a hub id. Left out: the held-out pairs.")
@click.option("--subset", metavar="NAME", help="Subset of --data, where it is a hub dataset.")
@click.option("--split", metavar="NAME", help="Split of --data. Left out: test or validation, where there is one.")
@file_options
@click.option("--kl-prompts", type=click.IntRange(0, 1000), default=16, show_default=True, help="0 leaves KL out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    run: str,
    *,
    data: str | None,
    subset: str | None,
    split: str | None,
    kl_prompts: int,
    as_json: bool,
    **file_settings: str | float | None,
) -> None:
    """Measure preference accuracy, margin, loss and KL of a run's model, with the run's own settings.

    RUN is an id, a unique prefix of it, a name, or `last`. Another file than the run's own is read by its own columns
    and encoding, or by those that are named here.
    """
    if data is None and (subset or split or any(file_settings.values())):
        raise UsageError("--subset, --split, --encoding and --…-field are those of --data", hint="Add --data FILE.")
    require_known_encoding(str(file_settings["encoding"] or ""))
    folder = find_run(run)
    store.require_result(folder)
    if data is not None and expanded(data).exists():
        data = str(expanded(data).resolve())
    narrate("Loading the libraries takes a while")
    evaluation = run_tool(
        "evaluate_run",
        {
            "run": str(folder.path),
            "data": data,
            "subset": subset,
            "split": split,
            "kl_prompts": kl_prompts,
            **file_settings,
        },
        _show_progress,
        environment=tool_environment(),
    )
    if as_json:
        print_json({key: value for key, value in evaluation.items() if key != "kind"})
        return
    for note in evaluation["notes"]:
        narrate(printable(note, single_line=True))
    metrics = evaluation["metrics"]
    examples = evaluation["examples"]
    click.echo(f"{evaluation['pairs']:,} {examples}: {printable(str(evaluation['data']), single_line=True)}")
    if evaluation["accuracy_stderr"] is not None:
        click.echo(f"  accuracy  {metrics['eval_rewards/accuracies']:.1%} ± {evaluation['accuracy_stderr']:.1%}")
    # Without answers of both labels in a batch there is no margin.
    if "eval_rewards/margins" in metrics:
        click.echo(f"  margin    {metrics['eval_rewards/margins']:z.3f}")
    click.echo(f"  loss      {metrics['eval_loss']:z.4f}")
    if "eval_kl" in metrics:
        kl = f"{metrics['eval_kl']:z.2f} ± {metrics['eval_kl_stderr']:.2f} nats an answer"
        click.echo(f"  KL        {kl} (an estimate from {metrics['eval_kl_n']:.0f} answers)")


def _show_progress(message: Message) -> None:
    narrate(printable(str(message.get("message", "")), single_line=True))
