"""The disk refuses: full, read-only, over its quota, broken; in the middle, at a save, at the beginning."""

import errno
import signal
import time

from benchmarks.fault_kinds.checks import every_step_has_a_line, whole_lines
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.small_disk import ReadOnlyHome, RefusingDisk, SmallDisk
from benchmarks.fault_kinds.stage import Stage

FULL = ("ENOSPC", "disk is full", "No space left")


@fault_kind("disk-full", "the disk fills in the middle of training, up to a random number of bytes")
def disk_full(stage: Stage) -> None:
    """The next save fails; the reason says that the disk is full, resume refuses until there is room."""
    disk = SmallDisk(stage)
    run = stage.started_at(stage.rng.randint(1, 11))
    disk.fill(stage.rng.choice((0, 0, 100, 4096)))
    stage.let_go()
    stage.until(lambda: stage.worker(run) is None, "the worker to end")
    look(stage, run, ["failed", "stalled"], FULL)
    refused = stage.call("resume", run.id)
    if refused.code == 0:
        stage.notes.append("resume on the full disk was taken")
    stage.until(lambda: stage.worker(run) is None, "the worker to end")
    disk.free()
    look(stage, run, ["failed", "lost"], FULL)
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("disk-full-for-a-while", "the disk is full for a while, and has room again before anything must be saved")
def disk_full_for_a_while(stage: Stage) -> None:
    """Nothing ends, and no line is lost."""
    disk = SmallDisk(stage)
    # It holds again before its last step, at which it saves.
    run = stage.started_at(4, save_every=100, hold_at=[4, 10])
    disk.fill()
    stage.let_go(4)
    time.sleep(stage.rng.random() * 0.5)
    disk.free()
    check_done(stage, run)
    finish(stage)


@fault_kind("disk-full-at-save", "a checkpoint does not fit on the disk")
def disk_full_at_save(stage: Stage) -> None:
    """The torn checkpoint is not resumed from."""
    disk = SmallDisk(stage)
    run = stage.started_at(7, checkpoint_bytes=200_000)
    disk.fill(spare=stage.rng.randint(50_000, 300_000))
    stage.let_go()
    look(stage, run, ["failed"], FULL)
    disk.free()
    go_on(stage, run, options={}, right=[6])
    finish(stage)


@fault_kind("disk-full-at-end", "the disk fills between the last step and the record of the end")
def disk_full_at_end(stage: Stage) -> None:
    """The end is recorded all the same, over the old state.json, or once there is room."""
    disk = SmallDisk(stage)
    run = stage.started_at(12, save_every=100)
    disk.fill()
    if stage.rng.random() < 0.5:
        send(stage.worker_pid(run), signal.SIGKILL)
        look(stage, run, ["failed", "stalled"])
    else:
        stage.let_go()
        look(stage, run, ["failed", "stalled"], FULL)
    disk.free()
    stage.until(lambda: stage.supervisor(run) is None, "the supervisor to end")
    look(stage, run, ["failed", "lost"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("disk-full-at-start", "`train` on a disk that is full, or has a few kilobytes left")
def disk_full_at_start(stage: Stage) -> None:
    """It refuses and names the disk, or the run says so; no half of a run stays."""
    disk = SmallDisk(stage)
    stage.train_by()
    config = stage.folder / "config.toml"
    config.write_text(stage.config_text(), encoding="utf-8")
    disk.fill(spare=stage.rng.choice((0, 0, 4096, 8192, 16384)))
    command = stage.call("train", str(config), "--detach")
    if command.code == 0:
        stage.adopt_runs()
        for run in stage.runs:
            look(stage, run, ["failed", "stalled", "done", "lost"], FULL)
    elif not any(one.lower() in command.err.lower() for one in FULL):
        stage.wrong([f"reason: `train` does not say that the disk is full: {command.err.strip()[-300:]}"])
    disk.free()
    stage.adopt_runs()
    stage.until(lambda: not any(one.is_worker for one in stage.processes()), "the worker to end")
    for run in stage.runs:
        if stage.status(run).get("status") != "done":
            stage.until(lambda: not stage.processes(), "all processes to end")
            go_on(stage, run, options={})
    finish(stage)


@fault_kind("read-only", "the file system turns read-only under a run, as after an error")
def read_only(stage: Stage) -> None:
    """Status does not say running for a dead worker, and names the file system; later resume goes on."""
    home = ReadOnlyHome(stage)
    run = stage.started_at(stage.rng.randint(1, 11))
    home.turn_read_only()
    if stage.rng.random() < 0.5:
        stage.let_go()
    else:
        send(stage.worker_pid(run), signal.SIGKILL)
    stage.until(lambda: stage.worker(run) is None, "the worker to end")
    look(stage, run, ["failed", "stalled", "lost"], ("read-only", "EROFS"))
    for command in (("resume", run.id), ("rm", "--yes", run.id), ("stop", run.id), ("rename", run.id, "other")):
        refused = stage.call(*command)
        if refused.code == 0 and command[0] in {"resume", "rm"}:
            stage.wrong([f"output: `{command[0]}` on a read-only file system ended with 0"])
    home.turn_writable()
    stage.until(lambda: stage.supervisor(run) is None, "the supervisor to end")
    look(stage, run, ["failed", "lost"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("quota", "every write is refused with EDQUOT or EIO")
def quota(stage: Stage) -> None:
    """Status names the quota or the disk, as far as it can be known."""
    disk = RefusingDisk(stage)
    run = stage.started_at(stage.rng.randint(1, 11))
    number, causes = stage.rng.choice(((errno.EDQUOT, ("quota",)), (errno.EIO, ("EIO", "disk", "Input/output"))))
    disk.refuse(number)
    stage.let_go()
    stage.until(lambda: stage.worker(run) is None, "the worker to end")
    # Who only reads cannot see a quota; the supervisor, which writes, says it once it has recorded the end.
    look(stage, run, ["failed", "stalled", "lost"])
    disk.allow()
    status = look(stage, run, ["failed", "lost"])
    if status.get("status") == "failed":
        look(stage, run, ["failed"], causes)
    stage.until(lambda: stage.supervisor(run) is None, "the supervisor to end")
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("quota-for-a-while", "writes are refused with EDQUOT for a while and allowed again")
def quota_for_a_while(stage: Stage) -> None:
    """Lines wait in memory, and nothing is lost."""
    disk = RefusingDisk(stage)
    run = stage.started_at(2, save_every=100, hold_at=[2, 10])
    disk.refuse(errno.EDQUOT)
    stage.let_go(2)
    time.sleep(stage.rng.random() * 0.5)
    disk.allow()
    check_done(stage, run)
    stage.wrong(every_step_has_a_line(whole_lines(run.metrics), 12))
    finish(stage)
