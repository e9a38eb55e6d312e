"""A run folder that came from elsewhere is data: nothing that it names is started, and another user's is refused."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import RunError
from dpo_tui.processes import unsloth_environment
from dpo_tui.runs import start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state, write_state

COMMAND = ["/bin/sh", "-c", "touch /tmp/was-run"]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The supervisors' commands; none is started."""
    commands: list[list[str]] = []

    class Launcher:
        def start_supervisor(self, folder: RunFolder, argv: list[str]) -> None:
            commands.append(argv)

    monkeypatch.setattr(start_run, "launcher_of", lambda state: Launcher())
    return commands


def run_with(config: str = "", **changes: Any) -> RunFolder:
    """A run that failed, with these values in its state."""
    folder = store.create(config, name="from elsewhere", devices=[])
    state = read_state(folder)
    assert state is not None
    write_state(folder, replace(state, status="failed", attempt=1, **changes))
    return folder


@pytest.mark.parametrize("changes", [{"worker_argv": COMMAND}, {"python": "/bin/sh"}])
def test_resume_starts_our_worker_whatever_the_state_names(
    home: Path, launched: list[list[str]], changes: dict[str, Any]
) -> None:
    folder = run_with(**changes)
    start_run.resume(folder)
    (argv,) = launched
    assert argv[argv.index("--") + 1 :] == start_run.default_worker_argv(folder)


def test_the_interpreter_follows_from_the_config(home: Path, launched: list[list[str]]) -> None:
    folder = run_with('[model]\nprovider = "unsloth"\n')
    start_run.resume(folder)
    assert launched[0][launched[0].index("--") + 1] == str(unsloth_environment.interpreter())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_run_of_another_user_is_refused(home: Path, launched: list[list[str]]) -> None:
    folder = run_with()
    os.chown(folder.path, 4242, 4242)
    with pytest.raises(RunError, match="belongs to another user \\(id 4242\\)"):
        start_run.resume(folder)
    os.chown(folder.path.parent, 4242, 4242)  # the home is that user's: a network disk that maps ids
    start_run.resume(folder)
    assert len(launched) == 1
