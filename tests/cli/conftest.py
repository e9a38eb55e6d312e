"""Fixtures for tests of commands."""

import pytest

from tests.support.command_line import CommandLine, command_line


@pytest.fixture(name="dpo_tui")
def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Call the command line in this process; gives exit code, stdout and stderr."""
    return command_line(monkeypatch, capsys)
