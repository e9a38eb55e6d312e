"""Homes of earlier versions are listed, read, resumed and exported; one of a newer version is left as it is."""

import json
from pathlib import Path

import pytest

from dpo_tui.config.files import load as load_config
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from dpo_tui.views import user_settings
from dpo_tui.views.run_feed import RunFeed
from tests.support.command_line import CommandLine, command_line
from tests.support.earlier_formats import NAMES, unpack
from tests.support.supervised_runs import ended


@pytest.fixture
def dpo_tui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, apart from caches and locks, which belong to no version."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and "cache" not in path.parts
    }


def the_run(name: str) -> RunFolder:
    return store.find(name)


def test_there_are_formats_and_the_last_version_before_sweeps_is_among_them() -> None:
    assert "2026-11-26" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_home_of_an_earlier_version_is_read_and_not_changed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dpo_tui: CommandLine
) -> None:
    home = unpack(name, tmp_path / "earlier", monkeypatch)
    before = contents(home)
    code, out, err = dpo_tui("runs", "--json")
    assert code == 0, err
    listed = {run["name"]: run for run in json.loads(out)}
    assert {"done": "done", "stopped": "stopped"}.items() <= {one: run["status"] for one, run in listed.items()}.items()
    code, out, err = dpo_tui("runs")
    assert code == 0 and "done" in out and "stopped" in out
    for run, steps in (("done", 4), ("stopped", 300)):
        code, out, err = dpo_tui("status", run, "--json")
        assert code == 0, err
        document = json.loads(out)
        assert document["max_steps"] == steps and document["advice"] is not None
        assert document["metrics"]["loss"] > 0 and document["metrics"]["rewards/margins"] is not None
        code, out, err = dpo_tui("status", run)
        assert code == 0 and run in out, err
        assert dpo_tui("logs", run)[0] == 0
        assert load_config(the_run(run).config).config.max_steps == steps
        assert dpo_tui("config", "check", str(the_run(run).config))[0] == 0
    assert "checkpoint" in status_of(the_run("stopped")).reason
    assert the_run("done").has_result
    assert dpo_tui("compare", "done", "stopped")[0] == 0
    feed = RunFeed(the_run("done"))
    while feed.poll(now=0.0):
        pass
    assert feed.latest["loss"] > 0 and feed.events and not feed.catching_up
    if (home / "groups").is_dir():
        code, out, err = dpo_tui("status", "sweep", "--json")
        assert code == 0, err
        members = json.loads(out)["members"]
        assert [(one["status"], one["values"]) for one in members] == [
            ("done", {"learning_rate": 0.001}),
            ("done", {"learning_rate": 0.0001}),
        ]
        code, out, err = dpo_tui("compare", "sweep", "--json")
        assert code == 0 and len(json.loads(out)["runs"]) == 2, err
    settings = user_settings.load()
    assert settings.problems == ()
    assert (settings.theme, settings.ascii, settings.bell, settings.desktop) == ("light", False, False, True)
    assert settings.keys == {"quit": "ctrl+x"}
    assert contents(home) == before


COMMANDS = [
    "status RUN",
    "status --json RUN",
    "resume RUN",
    "resume --accept-changed-data RUN",
    "stop RUN",
    "stop --now RUN",
    "checkpoint RUN",
    "queue up RUN",
    "queue pause RUN",
    "queue drop RUN",
    "rename RUN another",
    "rm --yes RUN",
    "export RUN --to elsewhere",
    "verify RUN",
    "eval RUN",
    "judge RUN",
    "compare RUN stopped",
    "estimate newer.toml",
    "train --detach newer.toml",
]
"""What is asked of a run of a newer version."""


def test_a_run_of_a_newer_version_is_left_as_it_is_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dpo_tui: CommandLine
) -> None:
    home = unpack(NAMES[-1], tmp_path / "newer", monkeypatch)
    newer = the_run("done")
    document = json.loads(newer.state.read_text())
    newer.state.write_text(json.dumps({**document, "version": 2, "status": "hibernating", "attempt": {"count": 3}}))
    before = contents(home)
    monkeypatch.chdir(tmp_path)
    pairs = tmp_path / "newer" / "pairs.jsonl"
    Path("newer.toml").write_text(f'[model]\nmodel_name = "run:done"\n\n[data]\ndataset = "{pairs}"\n')
    wrong = {}
    for command in COMMANDS:
        code, _, err = dpo_tui(*command.replace("RUN", "done").split())
        told = "version 2, written by a newer dpo-tui" in err and "Update dpo-tui" in err
        if code != 1 or not told or contents(home) != before:
            wrong[command] = (code, err, sorted(set(contents(home).items()) ^ set(before.items())))
    assert wrong == {}
    code, out, err = dpo_tui("runs", "--json")
    assert code == 0 and "stopped" in {run["name"] for run in json.loads(out)}
    assert contents(home) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_an_earlier_version_is_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dpo_tui: CommandLine
) -> None:
    unpack(name, tmp_path / "earlier", monkeypatch)
    folder = the_run("stopped")
    state = json.loads(folder.state.read_text())
    lines = len(folder.metrics.read_text().splitlines())
    code, _, err = dpo_tui("resume", "--detach", "stopped")
    assert code == 0 and "checkpoint" in err, err
    done = ended(folder)
    assert done.status == "done", done.reason
    assert (done.attempt, done.created_at) == (state["attempt"] + 1, state["created_at"])
    steps = [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()]
    assert steps[-1] == 300 and len(steps) > lines
    assert folder.has_result and dpo_tui("verify", "stopped")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_an_earlier_version_is_exported_and_merged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dpo_tui: CommandLine
) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    unpack(name, tmp_path / "earlier", monkeypatch)
    assert dpo_tui("verify", "done")[0] == 0
    code, _, err = dpo_tui("export", "done", "--to", str(tmp_path / "adapter"))
    assert code == 0, err
    code, _, err = dpo_tui("export", "done", "--merge", "--precision", "fp32", "--to", str(tmp_path / "merged"))
    assert code == 0, err
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").merge_and_unload()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-3, rtol=1e-3)
