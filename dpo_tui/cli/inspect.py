"""`dpo-tui inspect`: recognise, check and repair a dataset."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpo_tui.cli.file_options import file_options, require_known_encoding
from dpo_tui.cli.output import is_terminal, narrate, print_json
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import UsageError

if TYPE_CHECKING:
    from dpo_tui.data.repair.repair_plan import RepairPlan


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--model", help="Count tokens with this model's tokenizer: a folder or a hub id.")
@click.option("--max-length", type=click.IntRange(1), help="Tokens of prompt and answer that training keeps. [1024]")
@click.option("--truncation", type=click.Choice(["keep_start", "keep_end"]), help="The end that is kept. [keep_start]")
@click.option("--chat-template", metavar="FILE", help="A template instead of the model's own, as in a config.")
@click.option("--chat-template-kwargs", "variables", metavar="TABLE", help="As in a config: {enable_thinking = false}")
@click.option("--eos-token", metavar="TOKEN", help="The end-of-text token, if not the tokenizer's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--write", type=click.Path(path_type=Path), help="Write a repaired copy to this JSONL file.")
@click.option("--drop", multiple=True, metavar="CHECK", help="Leave out the rows that a check names; repeatable.")
@click.option(
    "--flip", multiple=True, type=click.IntRange(1), metavar="ROW", help="Swap answers, or the label, of a row."
)
@click.option("--cap", type=click.IntRange(1), metavar="N", help="Leave out what has a text beyond N characters.")
@click.option("--fix-encoding", is_flag=True, help="Restore texts that were encoded twice, such as Ã¤ for ä.")
@click.option(
    "--hold-out", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", help="Also write an eval file."
)
@click.option("--subset", help="The subset (config) of a hub dataset.")
@click.option("--split", help="The split to take. [train]")
@file_options
@click.option("--weights", metavar="W,W…", help="The share of each DATA in the mix, such as 0.7,0.3.")
@click.option("--eval", "evaluation", help="Evaluation data, to look for prompts that are in both.")
def inspect(
    *,
    data: tuple[str, ...],
    model: str | None,
    max_length: int | None,
    truncation: str | None,
    chat_template: str | None,
    variables: str | None,
    eos_token: str | None,
    as_json: bool,
    write: Path | None,
    drop: tuple[str, ...],
    flip: tuple[int, ...],
    cap: int | None,
    fix_encoding: bool,
    hold_out: float | None,
    subset: str | None,
    split: str | None,
    prompt_field: str | None,
    chosen_field: str | None,
    rejected_field: str | None,
    system_field: str | None,
    prefix_field: str | None,
    label_field: str | None,
    completion_field: str | None,
    rating_threshold: float | None,
    ranking_pairs: str | None,
    weights: str | None,
    encoding: str | None,
    evaluation: str | None,
) -> None:
    """Say what DATA is, what training will do with it and what is wrong; with --write, repair it.

    DATA is a file (JSONL, JSON, CSV, Parquet, also .gz and .zst), a folder, a pattern such as "parts/*.jsonl" or a hub
    id; several are one dataset. It is never changed.
    """
    if write is None and (drop or flip or cap or hold_out or fix_encoding):
        raise UsageError(
            "--drop, --flip, --cap, --fix-encoding and --hold-out change what is written", hint="Add --write OUT."
        )
    if max_length and not model:
        raise UsageError("--max-length counts tokens, which only a model's tokenizer can", hint="Add --model MODEL.")
    if not model and (truncation or chat_template or variables or eos_token):
        raise UsageError("these options are about a model's tokens and template", hint="Add --model MODEL.")
    require_known_encoding(encoding)
    source = Source.of(
        data,
        subset=subset,
        split=split,
        prompt_field=prompt_field,
        chosen_field=chosen_field,
        rejected_field=rejected_field,
        system_field=system_field,
        prefix_field=prefix_field,
        label_field=label_field,
        completion_field=completion_field,
        rating_threshold=rating_threshold,
        ranking_pairs=ranking_pairs,
        encoding=encoding or None,
        weights=_weights(weights, len(data), write),
    )
    request = ScanRequest(
        source=source,
        model=model,
        max_length=max_length or (1024 if model else None),  # TRL's default, and the mid-range profile's
        evaluation=Source(evaluation, encoding=encoding or None) if evaluation else None,
        truncation=truncation or "keep_start",
        template=_template_settings(chat_template, variables, eos_token),
    )
    with ScanProcess(request) as process:
        report = _report_of(process.events())
    if rating_threshold is not None and "label" not in report["columns"]:
        narrate(
            f"--rating-threshold {rating_threshold:g} does nothing: these are pairs, which have no ratings to divide"
        )
    if as_json:
        print_json(report)
    else:
        from dpo_tui.data.scan.report_text import report_text

        click.echo(report_text(report, ascii_only=not _stdout_is_utf()))
    if write is not None:
        from dpo_tui.data.repair.repair_plan import RepairPlan

        plan = RepairPlan(
            drop_checks=drop,
            flip_rows=frozenset(flip),
            longest_text=cap,
            hold_out=hold_out or 0.0,
            fix_encoding=fix_encoding,
        )
        _write_repaired(source, write, plan, report["columns"])


def _template_settings(file: str | None, variables: str | None, eos_token: str | None) -> TemplateSettings:
    """The settings of the options, checked as those of a config are."""
    if not (file or variables or eos_token):
        return TemplateSettings()  # pydantic would double the time that a small file takes
    from dpo_tui.config.files import from_values, parse_assignment

    values = {"model_name": "-", "dataset": "-", "chat_template": file, "eos_token": eos_token}
    if variables:
        name, table = parse_assignment(f"chat_template_kwargs={variables}")
        values[name] = table
    return TemplateSettings.of(from_values(values, "inspect"))


def _weights(text: str | None, count: int, write: Path | None) -> tuple[float, ...]:
    """The weights of the datasets, as ``dataset_weights`` of a config has them."""
    if text is None:
        return ()
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != count or not all(weight > 0 for weight in weights) or count == 1:
        raise UsageError(f"--weights {text}: give one number above 0 for each of several DATA, with commas between")
    if write is not None:
        raise UsageError("--write keeps all rows, and --weights uses a part of them", hint="Leave one of them out.")
    return weights


def _report_of(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Show the progress of a scan in a terminal, and return its report."""
    shown = ""
    report: dict[str, Any] = {}
    for event in events:
        if event["event"] == "report":
            report = event["report"]
        elif event["event"] == "progress" and is_terminal():
            share = f" {event['done'] / event['total']:4.0%}" if event["total"] else ""
            shown = f"{event['phase']}{share}"
            click.echo(f"\r{shown[:78]:<78}", err=True, nl=False)
    if shown:
        click.echo("\r" + " " * 78 + "\r", err=True, nl=False)
    return report


def _write_repaired(source: Source, write: Path, plan: "RepairPlan", columns: dict[str, str]) -> None:
    from dpo_tui.data.repair.repair import repair
    from dpo_tui.data.repair.row_forms import form_of

    done = repair(source, plan, write, form=form_of(columns))
    held_out = f", {done.held_out:,} held out in {done.evaluation}" if done.evaluation else ""
    narrate(f"{done.written:,} {done.noun} written to {write}{held_out}")
    narrate(f"{done.left_out:,} rows left out, {done.changed:,} changed; {done.sidecar} says which and why")


def _stdout_is_utf() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
