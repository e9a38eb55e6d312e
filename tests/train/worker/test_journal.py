"""The worker's journal: from many threads, and on a disk that is full."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dpo_tui.runs.atomic_files import read_json, read_last_json_lines, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.line_log import LineLog
from dpo_tui.train.worker.journal import Journal
from tests.support.repository import ROOT
from tests.support.supervised_runs import until
from tests.support.training import lines

THREADS = 8


def in_threads(work: object) -> list[BaseException]:
    """Call a function with 0 to 7, all at once; return what they raised."""
    raised: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def one(number: int) -> None:
        together.wait()
        try:
            work(number)  # type: ignore[operator]
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_eight_threads_replace_one_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"

    def write(number: int) -> None:
        for count in range(100):
            write_json_atomic(path, {"thread": number, "count": count}, durable=False)

    assert in_threads(write) == []
    assert (read_json(path) or {})["count"] == 99
    assert os.listdir(tmp_path) == ["progress.json"], "no temporary file stays"


def test_progress_bars_of_eight_threads_report_whole_and_nothing_old_over_something_new(tmp_path: Path) -> None:
    """As huggingface_hub's do, which downloads a model's files side by side."""
    journal = Journal(RunFolder(tmp_path))

    def download(number: int) -> None:
        for count in range(1, 101):
            journal.progress(count, count, "bytes", detail=f"shard {number}")
            journal.event("note", "x", thread=number, count=count)

    assert in_threads(download) == []
    assert (read_json(tmp_path / "progress.json") or {})["done"] == 100
    written = lines(tmp_path / "events.jsonl")
    for number in range(THREADS):
        assert [line["count"] for line in written if line["thread"] == number] == list(range(1, 101))


def test_lines_that_wait_are_limited_and_the_lost_ones_are_counted(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "absent" / "metrics.jsonl", keep=3)
    for step in range(5):
        log.add({"step": step})
    with pytest.raises(OSError):
        log.flush()
    (tmp_path / "absent").mkdir()
    log.flush()
    assert [line["step"] for line in lines(log.path)] == [2, 3, 4]
    assert (log.take_lost(), log.take_lost()) == (2, 0)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are named in /proc")
def test_what_was_written_is_on_the_disk_within_seconds_and_the_training_loop_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be staged: which files the disk is asked for, after what, and by which thread."""
    synced: list[tuple[str, int, str]] = []
    fsync = os.fsync

    def sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)
        count = path.read_bytes().count(b"\n") if path.is_file() else 0
        synced.append((path.name, count, threading.current_thread().name))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr("dpo_tui.train.worker.journal._SYNC_SECONDS", 0.05)
    journal = Journal(RunFolder(tmp_path))
    for step in range(3):
        journal.metrics(step, None, {"loss": 1.0})
    assert synced == []
    journal.sync_in_background()
    until(lambda: ("metrics.jsonl", 3, "disk-sync") in synced, "the lines of the metrics on the disk")
    until(lambda: (tmp_path.name, 0, "disk-sync") in synced, "the name of the file on the disk")
    journal.event("note", "x")
    until(lambda: ("events.jsonl", 1, "disk-sync") in synced, "the event on the disk")
    journal.metrics(3, None, {"loss": 1.0})
    until(lambda: ("metrics.jsonl", 4, "disk-sync") in synced, "the new line on the disk")
    assert len([one for one in synced if one[0] == "metrics.jsonl"]) == 2, "not asked again without a new line"
    assert {thread for _, _, thread in synced} == {"disk-sync"}


def test_the_last_lines_are_on_the_disk_when_the_work_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    journal = Journal(RunFolder(tmp_path))
    journal.metrics(1, None, {"loss": 1.0})
    journal.event("stopped", "x")
    journal.flush_at_end()
    assert {journal.folder.metrics.stat().st_ino, journal.folder.events.stat().st_ino} <= set(synced)


def test_a_run_that_was_removed_is_not_trained_on_in_vain(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    journal = Journal(folder)
    journal.metrics(1, None, {})
    shutil.rmtree(folder.path)
    with pytest.raises(FileNotFoundError):
        journal.metrics(2, None, {})
    with pytest.raises(FileNotFoundError):
        journal.progress(1, 1, "steps")


_FILL = """
import os, sys, time
from pathlib import Path
run = Path(os.environ["RUN"])
ballast = run / "ballast"
def fill():
    with open(ballast, "wb", buffering=0) as out:
        try:
            while out.write(b"x" * 512): pass
        except OSError as error:
            assert error.errno == 28, error
"""
_TRAIN = """
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.journal import Journal
journal = Journal(RunFolder(run))
journal.metrics(1, None, {"loss": 1.0})
fill()
for step in range(2, 40): journal.metrics(step, None, {"loss": 1.0, "pad": "x" * 200})
journal.progress(39, 39, "steps")
journal.event("failed", "why")
print("full:", journal.flush())
ballast.unlink()
journal.flush_at_end()
"""
_WORKER = """
import threading
from dpo_tui.train.__main__ import main
(run / "config.toml").write_text("no_such_setting = 1\\n")
def free():
    while "cannot write" not in Path(sys.argv[1]).read_text(): time.sleep(0.05)
    ballast.unlink()
fill()
threading.Thread(target=free, daemon=True).start()
print("exit code:", main(str(run)))
"""


def on_a_small_disk(tmp_path: Path, script: str) -> tuple[str, Path]:
    """Run a script with a tmpfs of a private mount namespace as run folder; return what it printed, and a copy."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    small, kept, err = tmp_path / "small", tmp_path / "kept", tmp_path / "stderr"
    small.mkdir()
    shell = 'mount -t tmpfs -o size=64k none "$0" || exit 77; "$@" && cp -r "$0" "$KEPT"'
    with err.open("w") as stderr:
        seen = subprocess.run(
            ["unshare", "-rm", "sh", "-c", shell, str(small), sys.executable, "-c", _FILL + script, str(err)],
            check=False, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env={**os.environ, "RUN": str(small), "KEPT": str(kept), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    if seen.returncode == 77:
        pytest.skip("this machine does not let a test mount a small file system")
    assert seen.returncode == 0, err.read_text()
    return seen.stdout, kept


def test_a_full_disk_ends_no_training_and_loses_no_line(tmp_path: Path) -> None:
    """On a real file system that is full."""
    output, kept = on_a_small_disk(tmp_path, _TRAIN)
    assert output == "full: False\n"
    assert [line["step"] for line in read_last_json_lines(kept / "metrics.jsonl", 100)] == list(range(1, 40))
    assert lines(kept / "events.jsonl")[-1]["message"] == "why"
    assert (tmp_path / "stderr").read_text().count("cannot write in") == 1, "said once"


def test_a_worker_that_fails_on_a_full_disk_keeps_its_exit_code_and_its_reason(tmp_path: Path) -> None:
    output, kept = on_a_small_disk(tmp_path, _WORKER)
    assert output == "exit code: 2\n"
    failed = [line for line in lines(kept / "events.jsonl") if line["kind"] == "failed"]
    assert len(failed) == 1 and "no_such_setting" in failed[0]["message"]
