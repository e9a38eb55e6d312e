"""`paths`: where everything lives."""

import click

from dpo_tui import paths as places


@click.command()
def paths() -> None:
    """Say where everything lives."""
    for name, place in (
        ("home", places.home()),
        ("runs", places.runs()),
        ("cache", places.cache()),
        ("settings", places.settings()),
        ("themes", places.themes()),
        ("environments", places.environments()),
    ):
        click.echo(f"{name:<13} {place}")
