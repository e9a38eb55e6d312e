"""A real training run loses its worker, its supervisor and its terminal, and ends with the losses it would have had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from tests.support.supervised_runs import state_of
from tests.support.training import lines, losses, make_config, make_run, train

DPO_TUI = [sys.executable, "-c", "from dpo_tui.cli import main; main()"]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.1)


def step_of(folder: RunFolder) -> int:
    return max(losses(folder), default=0) if folder.metrics.exists() else 0


def status_word(folder: RunFolder) -> str:
    return status_of(folder).status


@pytest.mark.slow
def test_killed_worker_then_killed_supervisor_then_done(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs, max_steps=24, save_steps=4, eval_split=0.0, sample_prompts=0, seed=7)
    whole = store.create(to_toml(config), name="whole", devices=[])
    start_run.start(whole)
    folder = store.create(to_toml(config), name="broken", devices=[])
    start_run.start(folder)

    wait_for(lambda: step_of(folder) >= 5, "the first steps")
    worker = state_of(folder).worker_pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: status_word(folder) == "failed", "the failure to be seen")
    assert "signal 9 (SIGKILL)" in status_of(folder).reason

    seen = step_of(folder)
    start_run.resume(folder)
    wait_for(lambda: step_of(folder) > max(seen, 8), "the resumed run to go on")
    supervisor, worker = state_of(folder).supervisor_pid, state_of(folder).worker_pid
    assert supervisor is not None and worker is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), "the orphaned worker to save and end")
    assert status_word(folder) == "lost"
    messages = [json.loads(line)["message"] for line in folder.events.read_text().splitlines()]
    assert any(message.startswith("Resuming from step") for message in messages)

    start_run.resume(folder)
    wait_for(lambda: status_word(folder) == "done", "the end")
    wait_for(lambda: status_word(whole) == "done", "the undisturbed run's end")
    broken, expected = losses(folder), losses(whole)
    assert set(broken) == set(expected) == set(range(1, 25))
    assert max(abs(broken[step] - expected[step]) for step in expected) <= 1e-4


@pytest.mark.slow
def test_train_in_a_terminal_that_goes_away(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    """The launcher loses its terminal by SIGHUP; the run it started goes on to done."""
    config = make_config(tiny_model, tiny_pairs, max_steps=4, eval_split=0.0, sample_prompts=0)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    launcher = subprocess.Popen(
        [*DPO_TUI, "train", str(path)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert launcher.stdout is not None
    folder = store.find(launcher.stdout.readline().strip())
    wait_for(lambda: status_word(folder) == "running", "the run to start")
    os.killpg(launcher.pid, signal.SIGHUP)
    assert launcher.wait(30) != 0
    wait_for(lambda: status_word(folder) == "done", "the run to end by itself")
    assert (folder.adapter / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_no_space_for_a_checkpoint_fails_with_the_reason(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Earlier checkpoints stay whole, and after making room the run resumes."""
    config = make_config(
        tiny_model, tiny_pairs, max_steps=6, save_steps=1, save_total_limit=5, eval_split=0.0, sample_prompts=0
    )
    folder = store.create(to_toml(config), name="small-disk", devices=[])
    folder.checkpoints.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder.checkpoints)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        start_run.start(folder)
        wait_for(lambda: status_word(folder) == "failed", "the disk to fill up")
        assert "No space left" in status_of(folder).reason
        whole = [path for path in folder.checkpoints.glob("checkpoint-*") if (path / "complete.json").exists()]
        assert whole, "the checkpoints before the full disk stay"
        subprocess.run(["mount", "-o", "remount,size=100m", str(folder.checkpoints)], check=True)
        start_run.resume(folder)
        wait_for(lambda: status_word(folder) == "done", "the resumed run to end")
        assert set(losses(folder)) == set(range(1, 7))
    finally:
        subprocess.run(["umount", "-l", str(folder.checkpoints)], check=False)


def test_tokens_are_counted_on_after_a_resume(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """TRL's count begins at 0 in each attempt; the checkpoint lies between two logged lines."""
    config = make_config(
        tiny_model, tiny_pairs, max_steps=8, save_steps=3, logging_steps=2, save_total_limit=9, eval_split=0.0
    )
    whole, resumed = train(config), make_run(config, name="resumed")
    shutil.copytree(whole.checkpoints / "checkpoint-3", resumed.checkpoints / "checkpoint-3")
    train(config, resumed)
    assert tokens(resumed) == {step: count for step, count in tokens(whole).items() if step > 3}
    speeds = [line["tokens_per_second"] for line in lines(resumed.metrics) if "tokens_per_second" in line]
    assert all(speed > 0 for speed in speeds)


def tokens(folder: RunFolder) -> dict[int, float]:
    return {line["step"]: line["num_tokens"] for line in lines(folder.metrics) if "num_tokens" in line}
