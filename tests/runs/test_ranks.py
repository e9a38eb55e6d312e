"""Several ranks of one run: who writes what, what is decided together, and whose end counts."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import RunError
from dpo_tui.runs import exit_codes, ranks
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.exit_codes import WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank, RankReport, RankReporter, delete_reports, end_of_ranks, read_reports
from dpo_tui.train.worker import journal as journal_module
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.training import lines, make_config, make_run

TESTS = Path(__file__).parents[2] / "tests" / "support"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "control").mkdir()
    return RunFolder(tmp_path)


def report(rank: int, code: int | None, **more: Any) -> RankReport:
    return RankReport(rank=rank, world_size=3, host="box", phase="train", code=code, **more)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank(0, 0, 1)),
        ({"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16"}, Rank(9, 1, 16)),
        ({"WORLD_SIZE": "2"}, Rank(0, 0, 2)),
    ],
)
def test_a_process_knows_its_rank_from_the_environment(environment: dict[str, str], rank: Rank) -> None:
    assert Rank.from_environment(environment) == rank
    assert (rank.is_first, rank.is_alone) == (rank.rank == 0, rank.world_size == 1)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "x"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, {"RANK": ""}],
)
def test_an_impossible_rank_is_refused_in_words(environment: dict[str, str]) -> None:
    with pytest.raises(RunError, match="the environment gives this process no possible rank: RANK="):
        Rank.from_environment(environment)


def test_only_rank_0_writes_the_folder_and_each_its_own_report(folder: RunFolder) -> None:
    for number in (0, 1):
        journal = Journal(folder, Rank(number, number, 2))
        journal.phase("train")
        journal.metrics(1, None, {"loss": number})
        journal.sample({"answer": str(number)})
        journal.progress(5, 5, "steps", step=5)
        journal.reporter.ended(exit_codes.DONE)
    assert [line["loss"] for line in lines(folder.metrics)] == [0]
    assert [line["answer"] for line in lines(folder.samples)] == ["0"]
    assert [line["kind"] for line in lines(folder.events)] == ["phase"]
    assert sorted(os.listdir(folder.ranks)) == ["0.json", "1.json"], "no temporary file stays"
    found = read_reports(folder)
    assert [(one.rank, one.phase, one.code, one.pid) for one in found] == [
        (0, "train", 0, os.getpid()),
        (1, "train", 0, os.getpid()),
    ]
    assert all(one.t and one.ended_at and one.host for one in found)
    delete_reports(folder)
    assert read_reports(folder) == []


def test_a_single_process_has_no_reports(folder: RunFolder) -> None:
    journal = Journal(folder)
    journal.phase("train")
    journal.reporter.ended(exit_codes.FAILED, "why")
    assert not folder.ranks.exists()


def test_a_heartbeat_keeps_the_step_and_is_no_reason_to_end_on_a_folder_that_is_gone(folder: RunFolder) -> None:
    reporter = RankReporter(folder, Rank(1, 1, 2))
    reporter.heartbeat("train", step=7)
    reporter.heartbeat("evaluate")
    assert [(one.phase, one.step, one.code) for one in read_reports(folder)] == [("evaluate", 7, None)]
    RankReporter(RunFolder(folder.path / "gone"), Rank(1, 1, 2)).heartbeat("train")


def test_a_clock_that_is_set_back_stops_neither_heartbeats_nor_progress(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it takes to catch up, this rank would seem to hang, and a healthy run would be ended."""
    clock = SimpleNamespace(time=lambda: 10_000.0, monotonic=lambda: 50.0)
    for module in (ranks, journal_module):
        monkeypatch.setattr(module, "time", clock)
    journal = Journal(folder, Rank(0, 0, 2))
    journal.phase("train")
    journal.progress(1, 9, "steps", step=1)
    clock.time, clock.monotonic = lambda: 400.0, lambda: 52.0
    journal.progress(2, 9, "steps", step=2)
    assert [(one.t, one.step) for one in read_reports(folder)] == [(400.0, 2)]
    progress = read_json(folder.progress) or {}
    assert (progress["t"], progress["step"]) == (400.0, 2)
    clock.monotonic = lambda: 52.1
    journal.progress(3, 9, "steps", step=3)
    assert (read_json(folder.progress) or {})["step"] == 2, "not with each step"


def test_a_rank_that_failed_for_its_own_reason_is_no_consequence_of_another(folder: RunFolder) -> None:
    for number, lost in ((0, True), (1, False)):
        reporter = RankReporter(folder, Rank(number, number, 2))
        if lost:
            reporter.ended(exit_codes.FAILED, "Another rank went away", peer_lost=True)
        else:
            reporter.ended(exit_codes.FAILED, "NaN", "Lower the rate.")
    assert [one.peer_lost for one in read_reports(folder)] == [True, False]
    assert end_of_ranks(read_reports(folder), 2) == WorkerEnd(exit_codes.FAILED, "rank 1: NaN\nLower the rate.")


def test_the_end_of_a_rank_waits_for_a_disk_that_refuses_it(folder: RunFolder) -> None:
    """A file in the way stands for the full disk; it goes while the rank waits."""
    folder.ranks.write_text("")
    reporter = RankReporter(folder, Rank(1, 1, 2))
    reporter.heartbeat("train")
    release = threading.Timer(0.2, folder.ranks.unlink)
    release.start()
    reporter.ended(exit_codes.OUT_OF_MEMORY)
    release.join()
    assert [(one.rank, one.code) for one in read_reports(folder)] == [(1, exit_codes.OUT_OF_MEMORY)]


def test_torn_and_foreign_files_are_no_reports(folder: RunFolder) -> None:
    folder.ranks.mkdir()
    (folder.ranks / "0.json").write_text('{"rank": 0, "co')
    (folder.ranks / "1.json").write_text('{"rank": 1, "code": 75, "key of a later version": 1}')
    (folder.ranks / "notes.json").write_text('{"rank": 2}')
    (folder.ranks / "2.json").write_text('{"rank": 3}')
    assert read_reports(folder) == [RankReport(rank=1, code=75)]


LOST = {"peer_lost": True, "message": "Another rank went away"}


@pytest.mark.parametrize(
    ("reports", "end"),
    [
        ([report(0, 0), report(1, 0), report(2, 0)], WorkerEnd(0)),
        ([report(0, 130), report(1, 0), report(2, 130)], WorkerEnd(130)),
        (
            [
                report(0, 1, ended_at=9.0, message="later"),
                report(1, 75, ended_at=8.0, message="full", hint="Do."),
                report(2, 130),
            ],
            WorkerEnd(75, "rank 1: full\nDo."),
        ),
        (
            [report(0, 1, ended_at=7.0, **LOST), report(1, 1, ended_at=8.0, message="NaN"), report(2, None)],
            WorkerEnd(1, "rank 1: NaN"),
        ),
        (
            [report(0, 1, ended_at=7.0, **LOST), report(1, 130), report(2, None, step=4)],
            WorkerEnd(1, "rank 2 on box was killed or crashed (phase train, step 4)\nranks/2.log may say why"),
        ),
        (
            [report(1, 130), report(2, 130)],
            WorkerEnd(1, "rank 0 ended before it wrote anything\ntrain.log may say why"),
        ),
        (
            [report(1, 130), report(2, None, step=1)],
            WorkerEnd(1, "rank 2 on box was killed or crashed (phase train, step 1)\nranks/2.log may say why"),
        ),
        ([report(0, 3), report(1, 0), report(2, 0)], WorkerEnd(3, "rank 0: ended with exit code 3")),
        (
            [report(0, 1, ended_at=7.0, **LOST), report(1, 130), report(2, 130)],
            WorkerEnd(1, "rank 0: Another rank went away"),
        ),
    ],
    ids=[
        "done",
        "stopped",
        "first failure",
        "not its consequence",
        "killed",
        "never came",
        "killed while another was starting",
        "code alone",
        "only lost",
    ],
)
def test_the_end_of_all_ranks_is_the_first_failure(reports: list[RankReport], end: WorkerEnd) -> None:
    assert end_of_ranks(reports, 3) == end


def test_requests_are_what_any_rank_has_seen_and_are_taken_away(folder: RunFolder) -> None:
    """The reduction here returns what another rank saw."""
    seen: list[tuple[bool, ...]] = []

    def reduce_flags(flags: tuple[bool, ...]) -> tuple[bool, ...]:
        seen.append(flags)
        return (flags[0], True)

    stop_requests = StopRequests(folder, Rank(0, 0, 2), reduce_flags)
    (folder.control / "checkpoint").touch()
    requests = stop_requests.take_requests()
    assert (requests.stop, requests.checkpoint) == (False, True)
    assert not (folder.control / "checkpoint").exists()
    assert stop_requests.take_requests().checkpoint, "another rank saw one, this one did not"
    assert seen == [(False, True), (False, False)]


def test_between_phases_a_stop_that_another_rank_saw_stops_this_one(folder: RunFolder) -> None:
    StopRequests(folder).raise_if_stopped()
    with pytest.raises(StopRequested):
        StopRequests(folder, Rank(1, 1, 2), lambda flags: (True,)).raise_if_stopped()
    (folder.control / "stop").touch()
    StopRequests(folder, Rank(1, 1, 2)).clear_stop()
    assert (folder.control / "stop").exists(), "rank 0 takes it away"
    StopRequests(folder, Rank(0, 0, 2)).clear_stop()
    assert not (folder.control / "stop").exists()


def torchrun(*words: str | Path) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*command, *map(str, words)]


def test_what_one_rank_is_asked_for_both_do_in_the_same_step(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """Two real processes over gloo: else one would save, or leave the loop, and the other wait for it for ever."""
    config = make_config(
        tiny_model, tiny_pairs, max_steps=8, save_steps=1000, eval_split=0.0, sample_prompts=0, kl_prompts=0
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    folder = make_run(config)
    target = tmp_path / "found"
    command = torchrun(TESTS / "ranks_training.py", target, path, folder.path)
    seen = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert seen.returncode == 0, seen.stderr[-3000:]
    first, second = (json.loads(Path(f"{target}.{rank}").read_text()) for rank in (0, 1))
    assert (first["steps"], first["saved"], first["stopped"]) == (4, [2, 4], True)
    assert (second["steps"], second["saved"], second["stopped"]) == (4, [2, 4], True)
    assert second["requests"] == ["stop"], "the request for a checkpoint is taken away"
    for step in (2, 4):
        marked = json.loads((folder.checkpoints / f"checkpoint-{step}" / "complete.json").read_text())["files"]
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(marked), "whole only when every rank has saved"
    assert [line["step"] for line in lines(folder.metrics) if "loss" in line] == [1, 2, 3, 4], "written by rank 0 alone"


_LOSES_ITS_PEER = """
import os, sys
from torch import distributed
import torch
from dpo_tui.train.worker.failures import describe_failure
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
distributed.barrier()
if rank == 1:
    os._exit(9)
try:
    distributed.all_reduce(torch.ones(1))
except Exception as error:
    failure = describe_failure(error)
    print(failure.peer_lost, failure.message, "|", error)
sys.stdout.flush()
os._exit(0)
"""


def test_a_rank_whose_peer_died_knows_that_it_is_only_the_consequence(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _LOSES_ITS_PEER, str(rank), str(tmp_path / "meet")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent.parent), "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in (0, 1)
    ]
    told, _ = (rank.communicate(timeout=120) for rank in ranks)
    assert told[0].startswith("True Another rank went away"), told
