"""Processes that are killed: worker, supervisor, both, what the worker has started."""

import os
import signal
import time

from benchmarks.fault_kinds.checks import no_processes, whole_checkpoints
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import children_of, lives, send
from benchmarks.fault_kinds.stage import Stage

KILLED = ("SIGKILL", "signal 9", "killed")


@fault_kind("kill-worker", "SIGKILL to the worker at a random step", short=True)
def kill_worker(stage: Stage) -> None:
    """The supervisor records it as failed; resume goes on from the newest whole checkpoint."""
    run = stage.started_at(stage.rng.randint(1, 11))
    time.sleep(stage.rng.random() * 0.1)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"], KILLED)
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-worker-moving", "SIGKILL to a worker that does not hold still: in a step, a save, the end")
def kill_moving_worker(stage: Stage) -> None:
    """The moment is not chosen: it may lie within a write."""
    run = stage.start(step_seconds=0.03, checkpoint_bytes=3_000_000)
    worker = stage.until(lambda: stage.worker(run), "the worker")
    time.sleep(stage.rng.random() * 1.2)
    send(worker.pid, signal.SIGKILL)
    status = look(stage, run, ["failed", "done"])
    if status.get("status") == "failed":
        go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-supervisor", "SIGKILL to the supervisor at a random step", short=True)
def kill_supervisor(stage: Stage) -> None:
    """The worker saves and ends; the run is lost until it is resumed."""
    run = stage.started_at(stage.rng.randint(1, 11))
    send(stage.supervisor_pid(run), signal.SIGKILL)
    look(stage, run, ["lost"], ("killed",))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-both", "SIGKILL to supervisor and worker, in random order, up to 50 ms apart", short=True)
def kill_both(stage: Stage) -> None:
    """Nobody can record anything."""
    run = stage.started_at(stage.rng.randint(1, 11))
    pair = [stage.supervisor_pid(run), stage.worker_pid(run)]
    stage.rng.shuffle(pair)
    for pid in pair:
        send(pid, signal.SIGKILL)
        time.sleep(stage.rng.choice((0, 0, 0.01, 0.05)))
    look(stage, run, ["lost", "failed"], KILLED)
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-children", "SIGKILL to a child of the worker, such as a data loader's process")
def kill_children(stage: Stage) -> None:
    """The worker, which does not need it here, goes on."""
    run = stage.started_at(stage.rng.randint(1, 11), children=stage.rng.randint(1, 3))
    send(stage.rng.choice(children_of(stage.worker_pid(run))), signal.SIGKILL)
    look(stage, run, ["running"])
    check_done(stage, run)
    finish(stage)


@fault_kind("kill-worker-stubborn-children", "SIGKILL to a worker whose children ignore SIGTERM")
def kill_worker_with_stubborn_children(stage: Stage) -> None:
    """The supervisor ends them, by SIGKILL where it must."""
    run = stage.started_at(stage.rng.randint(1, 11), children=2, stubborn_children=True)
    worker = stage.worker_pid(run)
    children = children_of(worker)
    send(worker, signal.SIGKILL)
    look(stage, run, ["failed"], KILLED)
    stage.until(lambda: not any(map(lives, children)), "the children to end", 20)
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-both-stubborn-children", "SIGKILL to supervisor and worker, whose children ignore SIGTERM")
def kill_both_with_stubborn_children(stage: Stage) -> None:
    """Nobody is left to end them: resume does."""
    run = stage.started_at(stage.rng.randint(1, 11), children=2, stubborn_children=True)
    children = children_of(stage.worker_pid(run))
    for pid in (stage.supervisor_pid(run), stage.worker_pid(run)):
        send(pid, signal.SIGKILL)
    look(stage, run, ["lost", "failed"], KILLED)
    go_on(stage, run, options={})
    stage.wrong(no_processes([one for one in stage.processes() if one.pid in children]))
    finish(stage)


@fault_kind("sigterm-worker", "SIGTERM to the worker alone, as a user may send it")
def sigterm_worker(stage: Stage) -> None:
    """It saves and ends as stopped."""
    step = stage.rng.randint(1, 11)
    run = stage.started_at(step)
    send(stage.worker_pid(run), signal.SIGTERM)
    look(stage, run, ["stopped"])
    if step not in whole_checkpoints(run.checkpoints):
        stage.wrong([f"stop: no checkpoint of step {step} was saved"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("sigterm-supervisor", "SIGTERM to the supervisor, as at a shutdown")
def sigterm_supervisor(stage: Stage) -> None:
    """It has the worker save, and records why."""
    step = stage.rng.randint(1, 11)
    run = stage.started_at(step)
    send(stage.supervisor_pid(run), signal.SIGTERM)
    look(stage, run, ["stopped"], ("supervisor was asked to end",))
    if step not in whole_checkpoints(run.checkpoints):
        stage.wrong([f"stop: no checkpoint of step {step} was saved"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("hang-up", "SIGHUP to supervisor and worker, as at the end of a terminal")
def hang_up(stage: Stage) -> None:
    """Both ignore it."""
    run = stage.started_at(stage.rng.randint(1, 11))
    for pid in (stage.supervisor_pid(run), stage.worker_pid(run)):
        send(pid, signal.SIGHUP)
    look(stage, run, ["running"])
    check_done(stage, run)
    finish(stage)


@fault_kind("stubborn-worker", "`stop --now` of a worker that ignores SIGTERM")
def stubborn_worker(stage: Stage) -> None:
    """It is killed after the grace."""
    run = stage.started_at(stage.rng.randint(1, 11), stubborn=True)
    stage.call("stop", "--now", run.id, codes={0})
    look(stage, run, ["stopped"], ("at once",))
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("hang-at-exit", "a worker that never leaves its interpreter after its last step")
def hang_at_exit(stage: Stage) -> None:
    """It says running with its phase; `stop --now` ends it, and nothing that was made is lost."""
    run = stage.start(hang_at_exit=True)
    stage.until(run.model_card.exists, "the result")
    look(stage, run, ["running", "starting"])
    stage.call("stop", "--now", run.id, codes={0})
    status = look(stage, run, ["stopped", "done"])
    if status.get("status") == "stopped":
        go_on(stage, run, options={})
    finish(stage)


@fault_kind("kill-launcher", "SIGKILL to `train --detach` at a random moment of its 1.5 s", short=True)
def kill_launcher(stage: Stage) -> None:
    """There is a whole run, or none; no half of one is left for ever."""
    stage.train_by()
    config = stage.folder / "config.toml"
    config.write_text(stage.config_text(), encoding="utf-8")
    command = stage.launch("train", str(config), "--detach")
    if stage.rng.random() < 0.5:
        time.sleep(stage.rng.random() * 1.5)
    else:
        # The window that matters: from the first trace of a run until the supervisor has it.
        deadline = time.monotonic() + 5
        beside = 1 if stage.bystander else 0
        while len(os.listdir(stage.home / "runs")) <= beside and time.monotonic() < deadline:
            pass
        time.sleep(stage.rng.random() * 0.25)
    send(command.pid, signal.SIGKILL)
    command.wait(10)
    after_lost_launcher(stage)


@fault_kind("kill-foreground", "KILL, HUP, TERM or Ctrl-C to `train` that follows its run")
def kill_foreground(stage: Stage) -> None:
    """The run goes on without its terminal; Ctrl-C stops it with a checkpoint."""
    stage.train_by(hold_at=4)
    config = stage.folder / "config.toml"
    config.write_text(stage.config_text(), encoding="utf-8")
    number = stage.rng.choice((signal.SIGKILL, signal.SIGHUP, signal.SIGTERM))
    command = stage.launch("train", str(config))
    stage.until(lambda: any(one.is_supervisor for one in stage.processes()), "the supervisor")
    time.sleep(stage.rng.random())
    send(command.pid, number)
    command.wait(20)
    after_lost_launcher(stage)


def after_lost_launcher(stage: Stage) -> None:
    """Whatever run there is ends well, by itself or resumed; a draft is deleted once another run is made."""
    stage.let_go()
    stage.adopt_runs()
    for run in stage.runs:
        status = stage.status(run)
        if stage.supervisor(run) is None and status.get("status") in {"queued", "lost"}:
            if status.get("status") == "queued" and status.get("reason") != "being launched":
                stage.wrong([f"status: queued ({status.get('reason')}), and nobody launches it"])
            continue
        check_done(stage, run)
    drafts = [one for one in os.listdir(stage.home / "runs") if one.startswith(".creating-")]
    for name in drafts:
        # As if an hour had gone by: then making another run deletes it.
        os.utime(stage.home / "runs" / name, (1, 1))
    if drafts:
        other = stage.start(name="other")
        check_done(stage, other)
    finish(stage)
