"""What a run believes about its machine: the clock, the boot, the host, pids that belong to others by now."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.session import NotPossibleHere
from benchmarks.fault_kinds.stage import Stage
from dpo_tui.runs.folder import RunFolder


def edit_state(run: RunFolder, **changes: Any) -> None:
    """Change state.json behind everybody's back."""
    document = json.loads(run.state.read_text(encoding="utf-8")) | changes
    temporary = run.state.with_name("state.edited")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.rename(run.state)


def _killed(stage: Stage) -> RunFolder:
    run = stage.started_at(stage.rng.randint(1, 11))
    for pid in (stage.supervisor_pid(run), stage.worker_pid(run)):
        send(pid, signal.SIGKILL)
    stage.until(lambda: not stage.processes(), "both to end")
    return run


@fault_kind("another-boot", "the box restarted: state.json is of an earlier boot")
def another_boot(stage: Stage) -> None:
    """Pids of that boot say nothing, even where they live now."""
    run = _killed(stage)
    pid = stage.rng.choice((os.getpid(), 1, 4_000_000))
    edit_state(run, boot_id="00000000-0000-0000-0000-000000000000", worker_pid=pid, worker_start=1)
    look(stage, run, ["lost"], ("restarted",))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("another-host", "state.json of another machine in a shared home")
def another_host(stage: Stage) -> None:
    """It is judged by its files' times: silent for long, it is lost."""
    run = _killed(stage)
    edit_state(run, host="another", boot_id="11111111-0000-0000-0000-000000000000", attempt_started_at=1.0)
    long_ago = time.time() - stage.rng.choice((1_000, 100_000, 40_000_000))
    for path in (run.progress, run.metrics, run.events, run.train_log, run.state):
        os.utime(path, (long_ago, long_ago))
    look(stage, run, ["lost"], ("another",))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("pid-reuse", "pids of supervisor and worker belong to other programs by now")
def pid_reuse(stage: Stage) -> None:
    """Nobody takes them for its own, and none gets a signal."""
    run = _killed(stage)
    # A session of its own: what ends the run's processes must not reach it, and it is no child of the run's.
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    try:
        which = stage.rng.choice((("worker_pid",), ("supervisor_pid",), ("worker_pid", "supervisor_pid")))
        edit_state(run, **dict.fromkeys(which, stranger.pid))
        look(stage, run, ["lost", "failed"])
        stage.call("stop", "--now", run.id)
        go_on(stage, run, options={})
        if stranger.poll() is not None:
            stage.wrong(["other process: it was ended, having the pid that a process of the run had"])
    finally:
        stranger.kill()
        stranger.wait()
    finish(stage)


@fault_kind("clock-jump", "the clock of the commands, or of the whole run, jumps by -3 years to +400 days")
def clock_jump(stage: Stage) -> None:
    """Status, resume and end do not depend on it; a run may look stalled under a clock that is ahead."""
    library = next(
        (str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")),
        os.environ.get("FAKETIME_LIBRARY", ""),
    )
    if not library or not shutil.which("faketime"):
        raise NotPossibleHere("libfaketime is not installed")
    jump = stage.rng.choice(("-1100d", "-30d", "-3h", "-90s", "+90s", "+3h", "+30d", "+400d"))
    fake = {"LD_PRELOAD": library, "FAKETIME": jump, "FAKETIME_DONT_FAKE_MONOTONIC": "0"}
    if stage.rng.random() < 0.5:
        os.environ.update(fake)
        run = stage.started_at(stage.rng.randint(2, 11))
        for name in fake:
            del os.environ[name]
    else:
        run = stage.started_at(stage.rng.randint(2, 11))
    # A new process, since the library must be there from its beginning.
    for arguments in (("status", run.id, "--json"), ("runs",), ("queue",)):
        ended = stage.call_fresh(*arguments, environment=fake)
        if arguments[0] == "status" and ended.code == 0:
            said = json.loads(ended.out)["status"]
            if said not in {"running", "stalled", "starting"}:
                stage.wrong([f"status: {said} under a clock that jumped {jump}"])
    stage.notes.append(jump)
    if stage.rng.random() < 0.5:
        send(stage.worker_pid(run), signal.SIGKILL)
        look(stage, run, ["failed"])
        go_on(stage, run, options={})
    else:
        check_done(stage, run)
    finish(stage)
