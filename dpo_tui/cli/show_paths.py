"""`dpo-tui paths`: the folders and files that dpo-tui uses."""

import click

from dpo_tui import paths as locations


@click.command()
def paths() -> None:
    """Say where everything lives."""
    for name, path in (
        ("home", locations.home()),
        ("runs", locations.runs()),
        ("cache", locations.cache()),
        ("settings", locations.settings()),
        ("themes", locations.themes()),
        ("environments", locations.environments()),
    ):
        click.echo(f"{name:<13} {path}")
