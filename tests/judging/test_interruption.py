"""What is done stays done when judging, making pairs or exporting is killed with -9, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.pair_collection import PairCollection, SamplingSettings
from dpo_tui.runs.folder import RunFolder
from tests.support.answered_run import answered_run
from tests.support.repository import ROOT
from tests.support.supervised_runs import until
from tests.support.tiny import save_sharded
from tests.support.training import finished_run


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that a test has started; what is left of them is killed, children first."""
    commands: list[subprocess.Popen[str]] = []
    yield commands
    for command in commands:
        if command.poll() is None:
            for child in psutil.Process(command.pid).children(recursive=True):
                child.kill()
            command.kill()
        command.communicate()


def begin(started: list[subprocess.Popen[str]], *arguments: str) -> subprocess.Popen[str]:
    """Start a dpo-tui command whose keys stay open."""
    command = subprocess.Popen(
        [sys.executable, "-c", "from dpo_tui.cli import main; main()", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    started.append(command)
    return command


def children(command: subprocess.Popen[str]) -> list[psutil.Process]:
    return list(psutil.Process(command.pid).children(recursive=True))


def line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(command: subprocess.Popen[str]) -> None:
    """End a command as the out-of-memory killer does, and wait until the child that it started has noticed."""
    theirs = children(command)
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert not psutil.wait_procs(theirs, timeout=60)[1], "the child goes with whoever asked it"


def run(*arguments: str, keys: str = "") -> Any:
    return CliRunner().invoke(cli, list(arguments), input=keys, catch_exceptions=False)


@pytest.mark.slow
def test_answers_that_were_given_before_a_kill_are_not_given_again(
    home: Path, tiny_model: Path, tiny_pairs: Path, started: list[subprocess.Popen[str]]
) -> None:
    """Judging, killed while both models answer; the rest is answered, and then it is judged."""
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.5, learning_rate=3e-2, max_steps=4)
    answers = folder.path / "judge" / "answers.jsonl"
    command = begin(started, "judge", folder.id, "-n", "20", "--max-new-tokens", "300")
    until(lambda: line_count(answers), "the first answers")
    kill(command)
    kept = answers.read_bytes()
    assert 0 < line_count(answers) < 40
    again = run("judge", folder.id, "-n", "20", "--json", keys="l" * 20)
    assert json.loads(again.stdout)["judged"] == 20
    assert answers.read_bytes().startswith(kept)
    before, after = (
        [(line["id"], line["who"]) for line in map(json.loads, text.splitlines())]
        for text in (kept.decode(), answers.read_text())
    )
    both = {key for key, who in before if who == "tuned"}
    assert all(after.count((key, who)) == 1 for key in both for who in ("base", "tuned"))


def test_a_verdict_counts_from_the_key_on(home: Path, tiny_pairs: Path, started: list[subprocess.Popen[str]]) -> None:
    """Judging by hand, killed after three keys: three verdicts, and the sides stay where they were."""
    folder = answered_run(tiny_pairs)
    command = begin(started, "judge", folder.id)
    assert command.stdin is not None
    command.stdin.write("lrt")
    command.stdin.flush()
    until(lambda: line_count(folder.path / "judge" / "verdicts.jsonl") == 3, "three verdicts")
    kill(command)
    before = Session.open(folder).verdicts()
    assert json.loads(run("judge", folder.id, "--json", keys="b").stdout)["judged"] == 4
    assert Session.open(folder).verdicts()[:3] == before


@pytest.mark.parametrize("name", ["answers.jsonl", "verdicts.jsonl"])
def test_a_line_that_a_power_cut_tore_takes_no_other_with_it(home: Path, tiny_pairs: Path, name: str) -> None:
    """The next line begins on a line of its own, so that it is read."""
    folder = answered_run(tiny_pairs)
    assert json.loads(run("judge", folder.id, "--json", keys="ll").stdout)["judged"] == 2
    with (folder.path / "judge" / name).open("a") as file:
        file.write('{"id": "torn", "win')
    assert json.loads(run("judge", folder.id, "--json", keys="rr").stdout)["judged"] == 4
    assert Session.open(folder).tally().judged == 4


@pytest.mark.slow
def test_sampling_and_ranking_pairs_goes_on_after_a_kill(
    home: Path, tiny_model: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    """Killed while answers are sampled, and again with a torn line; nothing is written before the end."""
    prompts, out = tmp_path / "prompts.txt", tmp_path / "pairs.jsonl"
    prompts.write_text("".join(f"help me with {number}\n" for number in range(12)))
    answers = tmp_path / "pairs.jsonl.work" / "answers.jsonl"
    arguments = (
        "pairs",
        str(prompts),
        "--model",
        str(tiny_model),
        "-n",
        "4",
        "-o",
        str(out),
        "--max-new-tokens",
        "200",
    )
    command = begin(started, *arguments)
    until(lambda: line_count(answers), "the first answers")
    kill(command)
    kept = answers.read_bytes()
    assert 0 < line_count(answers) < 48
    assert not out.exists()
    again = run(*arguments, keys="l" * 5)
    assert "the same command goes on" in again.stderr
    assert answers.read_bytes().startswith(kept)
    rankings = answers.with_name("rankings.jsonl")
    with rankings.open("a") as file:
        file.write('{"id": "torn", "bet')
    assert run(*arguments, keys="l" * 60).exit_code == 0
    assert line_count(out) == 12
    sampling = SamplingSettings(str(tiny_model), 4, 1.0, 1.0, 200, 42)
    asked = [[{"role": "user", "content": text}] for text in prompts.read_text().splitlines()]
    assert PairCollection(answers.parent, asked, sampling).next() is None


def test_an_export_that_is_killed_leaves_nothing_that_looks_finished(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    """The child is killed with the weights half written; the same export makes the whole folder."""
    from dpo_tui.train.tools.export_run import export

    base = save_sharded(tiny_model, tmp_path / "base")
    folder = finished_run(base, tiny_pairs, eval_split=0.0)
    target, partial = tmp_path / "merged", tmp_path / ".merged.partial"
    arguments = ("export", folder.id, "--to", str(target), "--merge", "--precision", "fp32")
    command = begin(started, *arguments)
    until(lambda: list(partial.glob("*.safetensors")), "the first merged file")
    for child in children(command):
        child.kill()
    stderr = command.communicate(timeout=60)[1]
    assert command.returncode == 1
    assert "SIGKILL" in stderr
    assert not target.exists()
    assert not complete(partial)

    (partial / "left-over.txt").write_text("of the killed one")
    export({"run": str(folder.path), "target": str(target), "merge": True, "precision": "fp32"}, lambda *_: None)
    assert complete(target)
    assert not (target / "left-over.txt").exists()
    assert not partial.exists()


def complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "README.md", "curves.svg", "tokenizer.json"))


def test_a_merge_for_the_next_stage_appears_whole_or_not_at_all(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """What a killed merge left beside `merged/` is no result, and does not stay."""
    from dpo_tui.train.tools.merge import merge_run

    folder: RunFolder = finished_run(tiny_model, tiny_pairs, eval_split=0.0)
    partial = folder.path / ".merged.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    assert not folder.merged.exists()
    merge_run({"run": str(folder.path)}, lambda *_: None)
    assert (folder.merged / "model.safetensors").stat().st_size > 1000
    assert not partial.exists()
