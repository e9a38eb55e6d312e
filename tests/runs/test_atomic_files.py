"""Files of the run folder: whole or not at all, and readable at any moment."""

import errno
import fcntl
import json
import os
import resource
import stat
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dpo_tui.errors import RunError
from dpo_tui.runs import run_lock
from dpo_tui.runs.atomic_files import (
    append_json_line,
    lines_from_end,
    read_json,
    read_last_json_lines,
    write_json_atomic,
    write_text_atomic,
)
from dpo_tui.runs.contract_version import CONTRACT_VERSION
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.line_log import LineLog, flush_with_patience, seconds_from
from dpo_tui.runs.metrics_reader import MetricsTail
from dpo_tui.runs.state import State, read_state


def test_a_reader_never_sees_half_a_file_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    write_json_atomic(path, {"n": 0, "text": ""})
    torn: list[bytes] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            if read_json(path) is None:
                torn.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        write_json_atomic(path, {"n": number, "text": "x" * (number * 97 % 5000)})
    ended.set()
    reader.join()
    assert torn == []
    assert (read_json(path) or {})["n"] == 99
    assert os.listdir(tmp_path) == ["progress.json"], "no temporary file stays"


def test_a_refused_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json_atomic(path, {"status": "running"})
    blocked = tmp_path / f".state.json.{os.getpid()}.{threading.get_ident()}.tmp"
    blocked.mkdir()
    with pytest.raises(OSError) as refused:
        write_json_atomic(path, {"status": "done"})
    assert refused.value.errno == errno.EISDIR
    assert read_json(path) == {"status": "running"}


@pytest.mark.parametrize("text", [b"", b'{"status": "run', b"[1, 2]", b"null", b"\xff\xfe", b"{" * 100_000])
def test_a_missing_or_torn_file_reads_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "state.json"
    assert read_json(path) is None
    path.write_bytes(text)
    assert read_json(path) is None


def test_lines_appended_by_many_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = (
        "import sys; from pathlib import Path; from dpo_tui.runs.atomic_files import append_json_line\n"
        "for n in range(200): append_json_line(Path(sys.argv[1]), {'who': sys.argv[2], 'n': n, 'x': 'é' * 500})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), who]) for who in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    # One that looks at the file's end while another writes may put an empty line before its own, which readers skip.
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    assert len(lines) == 600
    for who in "abc":
        assert [line["n"] for line in lines if line["who"] == who] == list(range(200))


@pytest.mark.parametrize("n", [0, 1, 3, 5000, 6000])
def test_the_last_lines_are_read_from_the_end_in_order(tmp_path: Path, n: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "pad": "é" * (step % 90)}) + "\n" for step in range(5000)))
    found = [line["step"] for line in read_last_json_lines(path, n)]
    assert found == list(range(5000))[max(0, 5000 - n) :] if n else found == []


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\nnot json\n[3]\n\xff\xff\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    assert [line["step"] for line in read_last_json_lines(path, 10)] == [1, 2]


def test_a_line_cut_by_the_limit_is_not_given_as_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"first\nsecond\nthird\n")
    assert list(lines_from_end(path)) == [b"third", b"second", b"first"]
    assert list(lines_from_end(path, 10)) == [b"third"]
    assert list(lines_from_end(path, 0)) == []
    assert list(lines_from_end(tmp_path / "none")) == []


def test_a_line_after_a_torn_one_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    append_json_line(path, {"step": 3})
    append_json_line(path, {"step": 4})
    assert [line["step"] for line in read_last_json_lines(path, 10)] == [1, 3, 4]


def test_a_line_that_a_full_disk_cut_is_an_error_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    append_json_line(path, {"step": 1})
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        with pytest.raises(OSError, match="only a part of the line was written") as refused:
            append_json_line(path, {"step": 2})
    assert refused.value.errno == errno.ENOSPC
    append_json_line(path, {"step": 3})
    assert [line["step"] for line in read_last_json_lines(path, 9)] == [1, 3]


@pytest.mark.parametrize("room", range(1, 40))
def test_a_disk_that_fills_anywhere_in_a_line_loses_and_doubles_none(tmp_path: Path, room: int) -> None:
    """With a real limit of the kernel: after it, a write is cut short, and the next one is refused."""
    path = tmp_path / "metrics.jsonl"
    log = LineLog(path, keep=9)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.add({"step": 1, "loss": 0.5})
    log.flush()
    for step in (2, 3):
        log.add({"step": step, "loss": 0.5})
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
    try:
        for _ in range(3):
            with suppress(OSError):
                log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.add({"step": 4, "loss": 0.5})
    log.flush()
    assert [line["step"] for line in read_last_json_lines(path, 9)] == [1, 2, 3, 4]
    tail = MetricsTail(path)
    assert [line["step"] for line in tail.poll()] == [1, 2, 3, 4]
    assert tail.skipped <= 1, "at most one line is torn"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are named in /proc")
@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """A power cut cannot be staged: what is asked of the disk, in which order, is what can be looked at."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(("sync", "the folder" if path == tmp_path else path.read_text()))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        done.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text_atomic(tmp_path / "state.json", "all of it", durable=durable)
    whole = [("sync", "all of it"), ("rename", "state.json"), ("sync", "the folder")]
    assert done == (whole if durable else whole[1:2])


def test_a_name_that_is_no_utf8_is_written_and_read_again(tmp_path: Path) -> None:
    """Paths and command lines may hold any bytes, which Python keeps as lone surrogates."""
    path = tmp_path / "state.json"
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_json_atomic(path, {"argv": [name]})
    assert read_json(path) == {"argv": [name]}


def test_a_writer_waits_for_a_full_disk_as_long_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])
    assert flush_with_patience(lambda: next(answers), tmp_path)
    tries: list[int] = []

    def never() -> bool:
        tries.append(1)
        return False

    assert not flush_with_patience(never, tmp_path / "removed"), "nobody can read it any more"
    monkeypatch.setenv("DPO_TUI_DISK_PATIENCE", "-1")
    assert not flush_with_patience(never, tmp_path)
    assert len(tries) == 2, "each was tried once"
    monkeypatch.setenv("SECONDS_OF_A_TEST", "2.5")
    assert (seconds_from("SECONDS_OF_A_TEST", 9.0), seconds_from("NO_SECONDS_AT_ALL", 9.0)) == (2.5, 9.0)
    monkeypatch.setenv("SECONDS_OF_A_TEST", "soon")
    assert seconds_from("SECONDS_OF_A_TEST", 9.0) == 9.0


def test_an_unwritable_log_raises_and_does_not_pretend(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        append_json_line(tmp_path / "absent" / "events.jsonl", {})


def test_the_state_survives_its_round_trip_and_ignores_unknown_keys() -> None:
    state = State(id="20260101-000000-0000", name="β", devices=["gpu:0"], after="x", reason="because")
    assert State.from_dict({**state.to_dict(), "colour": "blue"}) == state
    contract = (
        "version id name status reason attempt returncode supervisor_pid worker_pid host boot_id started_at ended_at"
    )
    assert set(contract.split()) <= set(state.to_dict()), "the contract's keys"


def test_a_newer_folder_is_refused_by_its_version(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.state.write_text(json.dumps({"version": CONTRACT_VERSION + 1, "id": "r", "status": {"new": "shape"}}))
    with pytest.raises(RunError, match=f"version {CONTRACT_VERSION + 1}, written by a newer dpo-tui"):
        read_state(folder)


def test_the_lock_names_its_owner_and_goes_with_it_even_if_children_live_on(tmp_path: Path) -> None:
    """The kernel's record lock, unlike flock, is not kept by a forked child."""
    path = tmp_path / "run.lock"
    code = (
        "import os, sys, time; from pathlib import Path; from dpo_tui.runs import run_lock as lock\n"
        "assert lock.acquire(Path(sys.argv[1])) and lock.owner(Path(sys.argv[1])) == os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(600)\n"
        "print(child, flush=True); sys.stdin.read()"
    )
    assert run_lock.owner(path) is None
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdin and keeper.stdout
    child = int(keeper.stdout.readline())
    try:
        assert run_lock.owner(path) == keeper.pid
        assert not run_lock.acquire(path)
        assert run_lock.owner(path) == keeper.pid, "asking and failing did not disturb it"
        keeper.kill()
        keeper.wait()
        os.kill(child, 0)
        assert run_lock.owner(path) is None
        assert run_lock.acquire(path)
        assert run_lock.owner(path) == os.getpid(), "asking about one's own lock does not drop it"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        run_lock.release(path)
        os.kill(child, 9)
        keeper.stdin.close()
        keeper.stdout.close()


_TAKES_IT = (
    "import sys; from pathlib import Path; from dpo_tui.runs import run_lock as lock\n"
    "print(lock.acquire(Path(sys.argv[1])))"
)


def test_a_lock_that_was_released_can_be_taken_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    command = [sys.executable, "-c", _TAKES_IT, str(path)]
    assert run_lock.acquire(path)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
    run_lock.release(path)
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_looking_at_locks_of_others_uses_up_no_descriptors(tmp_path: Path) -> None:
    """The app looks at the lock of every run each second, for days."""
    path = tmp_path / "run.lock"
    code = _TAKES_IT + "\nsys.stdout.flush(); sys.stdin.read()"
    keeper = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdout and keeper.stdout.readline() == "True\n"
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert run_lock.owner(path) == keeper.pid
        assert not run_lock.acquire(path)
    assert len(os.listdir("/proc/self/fd")) == before
    keeper.communicate()


def test_a_file_system_without_locks_is_an_error_and_not_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(OSError, match="No locks available"):
        run_lock.acquire(tmp_path / "run.lock")
    assert run_lock.owner(tmp_path / "run.lock") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the layout of Linux's struct flock")
@pytest.mark.parametrize("pid", [0, -1])
def test_an_owner_of_another_host_or_container_is_one_that_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    """What the kernel answers for it: pid 0 outside this pid namespace, and a negative one on NFS."""
    (tmp_path / "run.lock").touch()
    answer = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, pid)
    monkeypatch.setattr("fcntl.fcntl", lambda *_: answer)
    assert run_lock.owner(tmp_path / "run.lock") == 0


def test_a_lone_surrogate_that_was_written_is_read_again(tmp_path: Path) -> None:
    """A tokenizer that cuts a character in two may leave one in a sampled answer."""
    path = tmp_path / "samples.jsonl"
    append_json_line(path, {"answer": "half \ud83d"})
    append_json_line(path, {"answer": "whole"})
    assert [line["answer"] for line in read_last_json_lines(path, 2)] == ["half \ud83d", "whole"]
