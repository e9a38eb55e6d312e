"""The pages as a newcomer meets them: every page is reachable, every link leads somewhere, every command exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from dpo_tui.cli import COMMANDS, cli
from dpo_tui.hardware.doctor.torch_install import _BUILDS
from tests.support.repository import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", *DOCS]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:^|[`$(&]|&& |bin/)dpo-tui ([^`\n]*)", re.M)


def links(page: Path) -> list[tuple[Path, str]]:
    """File and fragment of each link within the repository."""
    found = [target.partition("#") for target in _LINK.findall(page.read_text(encoding="utf-8")) if ":" not in target]
    return [((page.parent / file).resolve() if file else page, fragment) for file, _, fragment in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, fragment in links(page):
        assert file.exists(), file
        if fragment and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert fragment in anchors, (file, fragment)


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            left += [file for file, _ in links(page)]
    assert not set(DOCS) - reached


def command_lines(page: Path) -> list[list[str]]:
    """The words of each call of dpo-tui in a page, up to the end of the command."""
    lines = []
    for found in _COMMAND.findall(page.read_text(encoding="utf-8")):
        text = re.split(r" #|   |\)\"| && | \| |; |…", found)[0]
        try:
            lines.append(shlex.split(text))
        except ValueError:
            lines.append(text.split())
    return [words for words in lines if words]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("log.md", "AGENTS.md")], ids=lambda p: p.name
)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for words in command_lines(page):
        command: click.Command = cli
        context = click.Context(cli)
        for word in words:
            if isinstance(command, click.Group) and word in command.list_commands(context):
                found = command.get_command(context, word)
                assert found is not None
                command = found
            elif command is cli and re.fullmatch(r"[a-z]+", word):
                assert word in COMMANDS, (page.name, words)
            elif match := re.match(r"--[a-z-]+", word):
                flags = {flag for option in command.get_params(context) for flag in option.opts + option.secondary_opts}
                assert match.group() in flags, (page.name, words)


def test_the_page_on_installing_names_the_build_of_every_driver() -> None:
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for (major, minor), build in _BUILDS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {major}.{minor}"))
        assert f"`{build}`" in row
