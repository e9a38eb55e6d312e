"""Processes that are stopped for a while: SIGSTOP, a look, SIGCONT."""

import signal
import time

from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.stage import Stage


@fault_kind("pause-worker", "SIGSTOP to the worker, a look, SIGCONT")
def pause_worker(stage: Stage) -> None:
    """It goes on as if nothing had been; half of them are asked to stop meanwhile."""
    run = stage.started_at(stage.rng.randint(1, 11))
    worker = stage.worker_pid(run)
    send(worker, signal.SIGSTOP)
    look(stage, run, ["running"])
    stops = stage.rng.random() < 0.5
    if stops:
        stage.call("stop", run.id, codes={0})
        look(stage, run, ["stopping"])
    time.sleep(stage.rng.random())
    send(worker, signal.SIGCONT)
    if stops:
        look(stage, run, ["stopped"], ("as asked",))
        go_on(stage, run, options={})
    else:
        check_done(stage, run)
    finish(stage)


@fault_kind("pause-supervisor", "SIGSTOP to the supervisor while the worker trains, stops or ends, SIGCONT")
def pause_supervisor(stage: Stage) -> None:
    """The worker does not wait for it; what ended meanwhile is recorded when it goes on."""
    run = stage.started_at(stage.rng.randint(1, 11))
    supervisor = stage.supervisor_pid(run)
    send(supervisor, signal.SIGSTOP)
    look(stage, run, ["running"])
    what = stage.rng.choice(("train on", "stop", "kill"))
    if what == "train on":
        stage.let_go()
        stage.until(run.model_card.exists, "the result")
    elif what == "stop":
        stage.call("stop", run.id, codes={0})
        stage.until(lambda: stage.worker(run) is None, "the worker to end")
    else:
        send(stage.worker_pid(run), signal.SIGKILL)
    # Nobody can record the end now: it must not be called anything final.
    refused = stage.call("resume", run.id)
    if refused.code == 0:
        stage.wrong(["resume: it was taken while the supervisor lives"])
    time.sleep(stage.rng.random())
    send(supervisor, signal.SIGCONT)
    if what == "train on":
        check_done(stage, run)
    else:
        look(stage, run, ["stopped" if what == "stop" else "failed"])
        go_on(stage, run, options={})
    finish(stage)


@fault_kind("stop-and-kill-paused", "SIGSTOP to the worker, `stop --now`: SIGTERM cannot reach it")
def stop_paused(stage: Stage) -> None:
    """It is killed after the grace, stopped or not."""
    run = stage.started_at(stage.rng.randint(1, 11))
    send(stage.worker_pid(run), signal.SIGSTOP)
    stage.call("stop", "--now", run.id, codes={0})
    look(stage, run, ["stopped"], ("at once",))
    go_on(stage, run, options={})
    finish(stage)
