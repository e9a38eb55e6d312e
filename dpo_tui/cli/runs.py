"""`dpo-tui runs`: all runs as a table, or as JSON."""

import time
from typing import Any

import click

from dpo_tui.cli.output import narrate, print_json, terminal_columns
from dpo_tui.cli.run_summary_text import table
from dpo_tui.errors import RunError
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status_names import UNKNOWN


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, each item as `status --json` prints it.")
def runs(as_json: bool) -> None:
    """List all runs, newest first."""
    now = time.time()
    summaries = [_summary_or_reason(folder, now, brief=not as_json) for folder in store.all_runs()]
    if as_json:
        print_json(summaries)
    elif summaries:
        click.echo("\n".join(table(summaries, terminal_columns(), now)))
    else:
        narrate("No runs yet. `dpo-tui demo` makes one in a minute, `dpo-tui train CONFIG` a real one.")


def _summary_or_reason(folder: RunFolder, now: float, brief: bool) -> dict[str, Any]:
    """A run's summary, or the reason why this version cannot read it: one bad folder must not hide the others."""
    try:
        summary = store.summary(folder, now=now, brief=brief)
        if brief:
            return summary
        # Imported for --json alone: the rules of advice take longer to import than a hundred runs to list.
        from dpo_tui.cli.run_status import with_advice

        return with_advice(summary)
    except RunError as error:
        return {"id": folder.id, "name": "", "status": UNKNOWN, "reason": error.message, "dir": str(folder.path)}
