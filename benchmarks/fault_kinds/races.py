"""Commands at the same time, and folders that are taken away under a run."""

import json
import os
import shutil
import signal
import time

from benchmarks.fault_kinds import checks
from benchmarks.fault_kinds.commands import Command, RunningCommand
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, json_status, look, wait_for_end
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.stage import Stage
from benchmarks.fault_kinds.torn_files import ended_at


def together(stage: Stage, *commands: tuple[str, ...], spread: float = 0.1) -> list[Command]:
    """Begin commands up to a tenth of a second apart, and return them when all have ended."""
    running: list[RunningCommand] = []
    for argv in commands:
        running.append(stage.launch(*argv))
        time.sleep(stage.rng.random() * spread / len(commands))
    ended = [one.wait(90) for one in running]
    for one in ended:
        stage.wrong(checks.output_is_clean(" ".join(one.argv), one.code, one.text))
    return ended


@fault_kind("resume-resume", "two to four `resume` at once", short=True)
def resume_against_resume(stage: Stage) -> None:
    """Exactly one is taken; one worker trains."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    stage.train_by(hold_at=12)
    ended = together(stage, *[("resume", run.id)] * stage.rng.randint(2, 4))
    taken = [one for one in ended if one.code == 0]
    if len(taken) != 1:
        stage.wrong([f"race: {len(taken)} of {len(ended)} `resume` were taken"])
    workers = [one for one in stage.processes() if one.is_worker and one.belongs_to(run.path)]
    if len(workers) > 1:
        stage.wrong([f"race: {len(workers)} workers train one run"])
    for one in ended:
        if one.code != 0 and "its supervisor ended with" in one.err:
            stage.wrong([f"reason: {one.err.strip()[:200]}"])
    check_done(stage, run)
    if json.loads(run.state.read_text(encoding="utf-8")).get("attempt") != 2:
        stage.wrong(["race: not one attempt was added"])
    finish(stage)


@fault_kind("resume-rm", "`resume` and `rm` at once")
def resume_against_rm(stage: Stage) -> None:
    """One of them is refused, in words; the run goes on, or it is gone as a whole."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    stage.train_by()
    commands = [("resume", run.id), ("rm", "--yes", run.id)]
    stage.rng.shuffle(commands)
    ended = together(stage, *commands, spread=0.4)
    codes = {one.argv[0]: one.code for one in ended}
    words = "; ".join(one.err.strip() for one in ended)
    if "its supervisor ended with" in words:
        stage.wrong([f"reason: {words[:300]}"])
    if codes["rm"] == 0 and run.path.exists():
        stage.wrong(["race: `rm` ended with 0, and the run is there"])
    if codes["rm"] != 0 and not run.path.exists():
        stage.wrong([f"race: `rm` ended with {codes['rm']}, and the run is gone"])
    # A resumed run may have ended before `rm` came, which then rightly deletes it.
    if run.path.exists():
        if codes["resume"] != 0:
            stage.wrong([f"race: both were refused: {words[:300]}"])
        else:
            check_done(stage, run)
    finish(stage)


@fault_kind("many-commands", "stop, stop --now, resume, rm, checkpoint and rename at once, on a run that trains")
def many_commands(stage: Stage) -> None:
    """Whatever wins, the run has one true end, and resume goes on."""
    run = stage.started_at(stage.rng.randint(1, 11))
    commands = [
        ("stop", run.id),
        ("stop", "--now", run.id),
        ("resume", run.id),
        ("rm", "--yes", run.id),
        ("checkpoint", run.id),
        ("rename", run.id, f"name-{stage.rng.randint(0, 99)}"),
    ]
    stage.rng.shuffle(commands)
    stage.train_by()
    together(stage, *commands, spread=stage.rng.choice((0.02, 0.5)))
    stage.until(
        lambda: not run.path.exists() or not stage.processes(),
        "the run to end, or to be deleted",
        40,
    )
    if run.path.exists():
        status = look(stage, run, ["stopped", "done"])
        if status.get("status") != "done":
            go_on(stage, run, options={})
    finish(stage)


@fault_kind("stop-resume", "`stop`, and `resume` again and again until it is taken")
def stop_and_resume(stage: Stage) -> None:
    """Each refusal says why; the run goes on from what the stop has saved."""
    step = stage.rng.randint(1, 11)
    run = stage.started_at(step)
    stage.call("stop", run.id, codes={0})
    stage.train_by()
    deadline = time.monotonic() + 40
    while (command := stage.call("resume", run.id)).code != 0 and time.monotonic() < deadline:
        if "its supervisor ended with" in command.err:
            stage.wrong([f"reason: {command.err.strip()[:200]}"])
    stage.wrong(checks.resumed_from(command.err, step, [step]))
    check_done(stage, run)
    finish(stage)


@fault_kind("rm-live", "`rm` of a run that trains, is stopping, or is just being started")
def rm_of_live_run(stage: Stage) -> None:
    """It is refused, and the run goes on."""
    step = stage.rng.randint(1, 11)
    how = stage.rng.choice(("trains", "starts"))
    run = stage.started_at(step) if how == "trains" else stage.start(hold_at=step)
    refused = stage.call("rm", "--yes", run.id)
    if refused.code != 1 or not run.path.exists():
        stage.wrong([f"rm: a run that {how} was not refused: {refused.code}"])
    check_done(stage, run)
    finish(stage)


@fault_kind("delete-live-folder", "`rm -rf` of the folder of a run that trains")
def delete_live_folder(stage: Stage) -> None:
    """Its processes end, since nobody sees them any more; a folder that is made again says what happened."""
    run = stage.started_at(stage.rng.randint(1, 11))
    shutil.rmtree(run.path, ignore_errors=True)
    stage.call("runs")
    stage.until(lambda: not stage.processes(), "its processes to end", 40)
    if run.path.exists() and run.state.exists():
        look(stage, run, ["stopped", "failed"], ("folder",))
    finish(stage)


@fault_kind("move-home", "the folder of all runs is moved away under a run that trains")
def move_home(stage: Stage) -> None:
    """The run ends; in its new place it can be looked at and resumed."""
    run = stage.started_at(stage.rng.randint(1, 11))
    moved = stage.folder / "moved"
    moved.mkdir()
    os.rename(stage.home / "runs", moved / "runs")
    if stage.rng.random() < 0.5:
        time.sleep(stage.rng.random())
    stage.until(lambda: not stage.processes(), "its processes to end", 40)
    shutil.rmtree(stage.home / "runs", ignore_errors=True)
    os.rename(moved / "runs", stage.home / "runs")
    look(stage, run, ["stopped", "failed", "lost"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("many-trains", "eight `train --detach` at once", times=20)
def many_trains(stage: Stage) -> None:
    """As many runs as commands, all of other ids, and all are done."""
    stage.train_by(steps=3)
    config = stage.folder / "config.toml"
    config.write_text(stage.config_text(), encoding="utf-8")
    count = 8
    ended = together(stage, *[("train", str(config), "--detach")] * count, spread=0.05)
    ids = {one.out.strip().splitlines()[-1] for one in ended if one.code == 0 and one.out.strip()}
    if len(ids) != count:
        stage.wrong([f"race: {count} commands made {len(ids)} runs"])
    stage.adopt_runs()
    for run in stage.runs:
        wait_for_end(stage, run)
        if json_status(run) != "done":
            look(stage, run, ["done"], steps=3)
    finish(stage)


@fault_kind("kill-rm", "SIGKILL to `rm` at a random moment")
def kill_rm(stage: Stage) -> None:
    """The run is there as a whole, or in no list; what is left of it goes when another is made or deleted."""
    run = ended_at(stage, stage.rng.randint(1, 11), checkpoint_bytes=2_000_000)
    run.checkpoints.mkdir(exist_ok=True)
    for number in range(300):
        (run.checkpoints / f"more-{number}").write_bytes(b"x")
    command = stage.launch("rm", "--yes", run.id)
    time.sleep(stage.rng.random() * 0.25)
    os.kill(command.pid, signal.SIGKILL)
    command.wait(10)
    if run.path.exists():
        look(stage, run, ["failed"])
        go_on(stage, run, options={})
    else:
        stage.call("runs")
        stage.runs = []
        other = stage.start(name="other")
        check_done(stage, other)
    finish(stage)
