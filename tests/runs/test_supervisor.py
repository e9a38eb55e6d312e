"""The supervisor tells a run's true end, whatever happens to the worker. Real processes, with a stand-in worker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_tui.runs import control_requests, out_of_memory_retry, run_lock, start_run, store
from dpo_tui.runs.out_of_memory_retry import MicroBatch
from dpo_tui.runs.process import is_same_process, process_start
from dpo_tui.strategies.dpo import DPO
from dpo_tui.strategies.registry import STRATEGIES
from tests.support.repository import ROOT
from tests.support.supervised_runs import (  # noqa: F401 - a fixture
    CONFIG,
    begin,
    edit_state,
    ended,
    events,
    fresh_home,
    go,
    has_status,
    holding,
    make,
    send,
    state_of,
    until,
    worker,
    worker_environments,
)

pytestmark = pytest.mark.usefixtures("home")


def test_a_run_goes_from_queued_to_done_and_leaves_its_story() -> None:
    """Training in a background subprocess, told by files."""
    folder = begin("--hold-at", 2, name="helpful")
    holding(folder, 2)
    assert has_status(folder, "running") == "running"
    running = state_of(folder)
    assert run_lock.owner(folder.lock) == running.supervisor_pid
    assert is_same_process(running.worker_pid, running.worker_start)
    assert os.getpgid(running.worker_pid or 0) == running.worker_pid, "a process group of its own"
    assert os.getsid(running.supervisor_pid or 0) == running.supervisor_pid, "a session of its own"
    go(folder)
    state = ended(folder)
    assert (state.status, state.returncode, state.attempt, state.reason) == ("done", 0, 1, "")
    assert state.created_at <= (state.started_at or 0) <= (state.ended_at or 0)
    assert [len(events(folder, kind)) for kind in ("started", "done")] == [1, 1]
    assert folder.train_log.read_text().splitlines() == ["starting at step 0", "step 1", "step 2", "step 3", "step 4"]
    assert folder.supervisor_output.read_text() == ""
    assert store.summary(folder)["metrics"]["step"] == 4


def test_the_worker_gets_its_devices_and_an_unbuffered_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("DPO_TUI_MICRO_BATCH", "99")
    chosen, free = begin(devices=["gpu:1", "gpu:3"]), begin()
    ended(chosen)
    ended(free)
    (environment,) = worker_environments(chosen)
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["CUDA_DEVICE_ORDER"]) == ("1,3", "PCI_BUS_ID")
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["DPO_TUI_HOME"] == os.environ["DPO_TUI_HOME"]
    assert "DPO_TUI_MICRO_BATCH" not in environment, "a stray variable is not a retry"
    assert worker_environments(free)[0]["CUDA_VISIBLE_DEVICES"] == "7", "unchanged without devices"


def test_a_killed_worker_is_failed_with_the_signal_in_words_and_resumes() -> None:
    folder = begin("--hold-at", 3)
    holding(folder, 3)
    control_requests.request_checkpoint(folder)
    until(lambda: list(folder.checkpoints.glob("*-3")), "the checkpoint")
    send(state_of(folder).worker_pid, signal.SIGKILL)
    assert has_status(folder, "failed") == "failed"
    state = ended(folder)
    assert state.returncode == -9
    assert "killed by signal 9 (SIGKILL)" in state.reason
    resumed = start_run.resume(folder)
    assert resumed.checkpoint and resumed.checkpoint.name == "checkpoint-3"
    assert (ended(folder).status, state_of(folder).attempt) == ("done", 2)
    assert "starting at step 3" in folder.train_log.read_text()


def test_a_worker_that_says_why_it_failed_is_quoted() -> None:
    folder = begin("--fail", "no such model: tiny/none", "--exit", 1)
    assert ended(folder).reason == "no such model: tiny/none\nDo it right."
    start_run.resume(folder, worker(folder, "--exit", 3))
    state = ended(folder)
    assert state.reason.startswith("ended with exit code 3"), "an earlier attempt's failure is not this one's"
    assert "its last words: starting at step 4" in state.reason
    start_run.resume(folder, worker(folder, "--fail", "no space left", "--exit", 1))
    assert ended(folder).reason == "no space left\nDo it right."


def test_a_worker_that_cannot_be_started_is_a_failed_run() -> None:
    folder = make()
    start_run.start(folder, ["/nonexistent/python", "-m", "dpo_tui.train"])
    state = ended(folder)
    assert (state.status, state.returncode) == ("failed", None)
    assert "could not be started" in state.reason and "/nonexistent/python" in state.reason


def test_what_a_worker_leaves_behind_is_ended() -> None:
    """Left-over data-loader processes hold GPU memory, those in a session of their own too."""
    folder = begin("--litter", "--hold-at", 1)
    holding(folder, 1)
    litter = [(pid, process_start(pid)) for pid in json.loads((folder.path / "litter.json").read_text())]
    assert all(is_same_process(pid, start) for pid, start in litter)
    send(state_of(folder).worker_pid, signal.SIGKILL)
    ended(folder)
    assert not any(is_same_process(pid, start) for pid, start in litter)
    assert {pid for pid, _ in litter} <= set(events(folder, "leftovers")[0]["pids"])


def test_out_of_gpu_memory_retries_with_the_same_effective_batch() -> None:
    """Smaller batch with more accumulation, without a person's help."""
    folder = begin("--fits", 1)
    state = ended(folder)
    assert (state.status, state.attempt) == ("done", 3)
    assert (state.per_device_train_batch_size, state.gradient_accumulation_steps) == (1, 8)
    batches = [(e.get("DPO_TUI_MICRO_BATCH"), e.get("DPO_TUI_ACCUMULATION")) for e in worker_environments(folder)]
    assert batches == [(None, None), ("2", "4"), ("1", "8")]
    retries = events(folder, "out-of-memory")
    assert len(retries) == 2
    assert not any("not the same" in retry["message"] for retry in retries), "the sigmoid loss is a mean over pairs"
    assert "batch 4 × 2" in retries[0]["message"] and "effective batch of 8" in retries[0]["message"]


def test_a_retry_whose_loss_depends_on_the_micro_batch_says_so() -> None:
    """The aot losses sort the log-ratios of a micro-batch: half of it is not the same loss."""
    folder = begin("--fits", 2, config=CONFIG + '[dpo]\nloss_type = ["aot"]\n')
    assert ended(folder).status == "done"
    (retry,) = events(folder, "out-of-memory")
    assert "batch 4 × 2" in retry["message"] and "effective batch of 8" in retry["message"]
    assert "loss aot" in retry["message"] and "not the same as with 4 at once" in retry["message"]


def test_a_retry_keeps_the_smallest_micro_batch_of_the_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that compares the examples of a micro-batch cannot be computed on one alone."""
    compares = replace(DPO, name="compares", smallest_micro_batch=2)
    monkeypatch.setitem(STRATEGIES, compares.name, compares)
    folder = make(config=CONFIG + '[run]\nstrategy = "compares"\n')
    retry = out_of_memory_retry.next_retry(folder, state_of(folder))
    assert retry is not None and retry.batch == MicroBatch(2, 4)
    edit_state(folder, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert out_of_memory_retry.next_retry(folder, state_of(folder)) is None
    assert "micro-batch of 2" in out_of_memory_retry.failure_reason(folder, state_of(folder))


def test_out_of_gpu_memory_to_the_end_fails_with_advice_and_a_resume_starts_small() -> None:
    """When the batch cannot shrink: 4-bit, shorter sequences, a smaller model."""
    folder = begin("--fits", 0)
    state = ended(folder)
    assert (state.status, state.returncode, state.attempt) == ("failed", 75, 3)
    assert state.reason.startswith("out of memory even with a micro-batch of 1")
    assert all(word in state.reason for word in ("4-bit", "shorter sequences", "smaller model"))
    start_run.resume(folder, worker(folder))
    assert ended(folder).status == "done"
    assert worker_environments(folder)[-1]["DPO_TUI_MICRO_BATCH"] == "1"


@pytest.mark.parametrize(
    ("batch_", "smaller"),
    [((4, 2), (2, 4)), ((2, 1), (1, 2)), ((3, 5), (1, 15)), ((6, 1), (3, 2)), ((9, 1), (3, 3)), ((1, 8), None)],
)
def test_a_smaller_batch_is_exactly_as_big_in_effect(batch_: tuple[int, int], smaller: tuple[int, int] | None) -> None:
    found = MicroBatch(*batch_).smaller()
    assert found == (MicroBatch(*smaller) if smaller else None)
    assert found is None or found.effective == MicroBatch(*batch_).effective


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("[training]\nper_device_train_batch_size = 6\n[x.y]\ngradient_accumulation_steps = 3\n", MicroBatch(6, 3)),
        ("per_device_train_batch_size = 6\n", MicroBatch(6, 1)),
        ("[training]\nlearning_rate = 1\n", None),
        ("per_device_train_batch_size = true\n", None),
        ("not toml", None),
    ],
)
def test_the_configured_batch_is_read_from_any_table(config: str, found: MicroBatch | None) -> None:
    assert out_of_memory_retry.configured(make(config=config)) == found


def test_a_supervisor_that_is_asked_to_end_lets_the_worker_save() -> None:
    """The box shuts down: init sends SIGTERM."""
    folder = begin("--hold-at", 2)
    holding(folder, 2)
    send(state_of(folder).supervisor_pid, signal.SIGTERM)
    state = ended(folder)
    assert (state.status, state.returncode) == ("stopped", 130)
    assert "its supervisor was asked to end" in state.reason
    assert "checkpoint-2 is saved" in state.reason
    assert (folder.checkpoints / "checkpoint-2").is_dir()


def test_the_supervisor_reaches_the_standard_library_only() -> None:
    """Also imports inside functions would show here, since a whole run is looked after."""
    folder = make()
    code = textwrap.dedent("""
        import sys
        from dpo_tui.runs.supervisor import main
        code = main(sys.argv[1:])
        own = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
        print(code, sorted(name for name in own if not name.startswith("_")))
    """)
    seen = subprocess.run(
        [sys.executable, "-c", code, str(folder.path), "--", *worker(folder, "--fits", 2)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert seen.stdout == "0 ['dpo_tui']\n"
    assert state_of(folder).status == "done"


_FULL_DISK = """
import os, sys, time
from pathlib import Path
mounted = os.environ["DPO_TUI_HOME"]
from tests.support.supervised_runs import begin, ended, events, holding, state_of, until
from dpo_tui.runs.status import status_of
folder = begin("--hold-at", 2)
holding(folder, 2)
before = folder.state.stat().st_ino
ballast = Path(mounted, "ballast")
with open(ballast, "wb", buffering=0) as out:
    try:
        while out.write(b"x" * 512): pass
    except OSError as error:
        assert error.errno == 28, error
os.kill(state_of(folder).worker_pid, 9)
until(lambda: status_of(folder).status == "failed")
print("full:", state_of(folder).returncode, folder.state.stat().st_ino == before)
ballast.unlink()
ended(folder)
print("freed:", state_of(folder).returncode, len(events(folder, "failed")))
"""


def test_a_full_disk_does_not_hide_how_a_run_ended(tmp_path: Path) -> None:
    """On a real file system that is full: a tmpfs of a private mount namespace."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=256k none "$0" || exit 77; exec "$@"'
    seen = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(small), sys.executable, "-c", _FULL_DISK],
        check=False, capture_output=True, text=True,
        env={**os.environ, "DPO_TUI_HOME": str(small), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if seen.returncode == 77:
        pytest.skip("this machine does not let a test mount a small file system")
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.splitlines() == ["full: -9 True", "freed: -9 1"], "written into the blocks that it had"
