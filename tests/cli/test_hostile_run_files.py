"""Commands over a run folder that somebody else filled: none waits for ever, none prints what a terminal acts on."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.runs import store
from tests.support.command_line import CommandLine
from tests.support.supervised_runs import CONFIG, edit_state, fresh_home  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home")

UNSEEN = "a\x9b31m\x7f\u202eb\u200bc\u2028d\ufeff"


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A command that waits for ever fails its test, and does not hold up all the others."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(120)
    yield
    signal.alarm(0)


def ended_run(name: str = "test") -> Path:
    """A run that has failed."""
    folder = store.create(CONFIG, name=name, devices=[])
    edit_state(folder, status="failed", reason="it failed", attempt=1, started_at=1.0, ended_at=2.0)
    return folder.path


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "events.jsonl", "supervisor.jsonl", "progress.json", "receipt.json", "config.toml", "train.log"],
)
def test_a_pipe_in_the_place_of_a_file_holds_no_command_up(name: str, dpo_tui: CommandLine) -> None:
    """Nobody ever writes to it. A link to /dev/zero, which has no end, is refused by the same opener."""
    run = ended_run()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert dpo_tui("runs")[0] == 0
    assert dpo_tui("status", run.name)[0] == 0
    code, out, _ = dpo_tui("runs", "--json")
    assert (code, [one["id"] for one in json.loads(out)]) == (0, [run.name])
    code, _, err = dpo_tui("logs", run.name)
    assert (code, "cannot be read" in err) == ((1, True) if name == "train.log" else (0, False))
    assert dpo_tui("logs", run.name, "--show", "events")[0] == 0


def test_json_escapes_what_a_terminal_would_act_on_and_changes_nothing_for_a_program(dpo_tui: CommandLine) -> None:
    run = ended_run(UNSEEN)
    for command in (("status", run.name, "--json"), ("runs", "--json")):
        code, out, _ = dpo_tui(*command)
        assert code == 0
        assert not set(UNSEEN) - {*"abcd31m"} & set(out)
        document = json.loads(out)
        assert (document if isinstance(document, dict) else document[0])["name"] == UNSEEN
