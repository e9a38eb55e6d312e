"""`dpo-tui doctor`: what is wrong with this machine, and the commands that mend it."""

import textwrap

import click

from dpo_tui.cli.output import is_terminal, narrate, print_json
from dpo_tui.hardware.doctor.registry import DoctorOptions, run_doctor

_WIDTH = 80
_SIGNS = {"ok": "✓", "warn": "!", "fail": "✗"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of checks.")
@click.option("--model", metavar="ID", help="Also ask the hub whether your token may download this model.")
@click.option("--provider", type=click.Choice(["huggingface", "unsloth"]), default="huggingface", show_default=True)
def doctor(as_json: bool, model: str | None, provider: str) -> None:
    """Check this machine for everything that stops or slows a run, and say how to mend it."""

    def progress(message: str) -> None:
        if is_terminal():
            narrate(message)

    findings = run_doctor(DoctorOptions(model=model, provider=provider), progress)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{_SIGNS[finding.status]} {finding.status:<4} {finding.check}")
            click.echo(textwrap.fill(finding.message, _WIDTH, initial_indent="    ", subsequent_indent="    "))
            if finding.fix:
                # Not wrapped, so that the command can be copied.
                click.echo(f"    → {finding.fix}")
        counts = {status: sum(finding.status == status for finding in findings) for status in _SIGNS}
        click.echo(f"\n{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} to mend")
    if any(finding.status == "fail" for finding in findings):
        raise click.exceptions.Exit(1)
