"""The command line called in this process."""

import sys
from collections.abc import Callable

import pytest

from dpo_tui.cli import main

CommandLine = Callable[..., tuple[int, str, str]]
"""Takes the arguments of `dpo-tui`; returns exit code, stdout and stderr."""


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Make a function that calls the command line as in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dpo-tui", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out, output.err

    return call
