"""Faults in real training: the real worker with torch, a tiny model, one run through many faults after one another.

What holds beside the rest: the loss of every step is that of a run that nothing has disturbed, to the last digits.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_kinds import checks
from benchmarks.fault_kinds.commands import in_child
from benchmarks.fault_kinds.follow_up import (
    Begun,
    check_resumed,
    finish,
    json_status,
    look,
    resume,
    wait_for_end,
)
from benchmarks.fault_kinds.kills import KILLED
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.small_disk import RefusingDisk
from benchmarks.fault_kinds.stage import ROOT, NeverCame, Stage
from benchmarks.fault_kinds.torn_files import damage
from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import start_run, store
from dpo_tui.runs.folder import RunFolder

STEPS = 150
TIMES = 20
_START = 200.0
"""Seconds until a worker must train: its imports take eight seconds of a processor that others use too."""
_MAKE = """
import sys
from pathlib import Path
from tests.support import tiny
tiny.make_pairs(Path(sys.argv[1]) / "pairs.jsonl")
tiny.make_model(Path(sys.argv[1]) / "model.new").rename(Path(sys.argv[1]) / "model")
"""


@dataclass
class RealRun:
    """The run that goes through the faults of a session.

    Attributes:
        run: its folder.
        disk: refuses its writes when asked to.
        begun: what was there when it was resumed, until the worker has shown from where it goes on.
    """

    run: RunFolder
    disk: RefusingDisk
    begun: Begun | None = None


def training(stage: Stage) -> RunFolder:
    """The session's run while it trains, some steps after it has begun or was resumed."""
    real = stage.real_run
    if real is not None and json_status(real.run) == "done":
        _end(stage, real)
        real = None
    if real is None:
        real = stage.real_run = _begin(stage)
    elif stage.supervisor(real.run) is None or stage.worker(real.run) is None:
        # The worker of a killed supervisor may still be saving.
        begin_again(stage, real)
    _wait_for_steps(stage, real, stage.rng.randint(1, 12))
    return real.run


def current(stage: Stage) -> RealRun:
    """The run of the session, which must have begun.

    Raises:
        NeverCame: it has not.
    """
    if stage.real_run is None:
        raise NeverCame("no real run has begun")
    found: RealRun = stage.real_run
    return found


def begin_again(stage: Stage, real: RealRun) -> None:
    """Resume the run after a fault that has ended it."""
    stage.until(lambda: not stage.processes(), "the last worker to end")
    real.begun = resume(stage, real.run)
    _require_resumed(stage, real)


def _require_resumed(stage: Stage, real: RealRun) -> None:
    """Wait until the worker of a resumed run is there: `resume` returns when its supervisor is.

    Raises:
        NeverCame: the run was not resumed.
    """
    if real.begun is None:
        raise NeverCame("the run was not resumed")
    stage.until(lambda: stage.worker(real.run) is not None, "the resumed worker")


def _wait_for_steps(stage: Stage, real: RealRun, count: int) -> None:
    run = real.run
    lines = len(checks.whole_lines(run.metrics)) + count
    stage.until(lambda: len(checks.whole_lines(run.metrics)) >= lines or stage.worker(run) is None, "steps", _START)
    if stage.worker(run) is None and json_status(run) != "done":
        look(stage, run, ["running"], steps=STEPS)
        raise NeverCame("the worker has ended by itself")
    if real.begun is not None:
        check_resumed(stage, run, real.begun)
        real.begun = None


def _begin(stage: Stage) -> RealRun:
    os.environ.pop("FAULTS_WORKER", None)
    os.environ["OMP_NUM_THREADS"] = "1"
    disk = RefusingDisk(stage)
    text = config_text(_assets(stage.shared))

    def begin() -> Path:
        folder = store.create(text, name="real", devices=[])
        start_run.start(folder)
        return folder.path

    run = RunFolder(in_child(begin))
    stage.runs.append(run)
    stage.until(lambda: stage.worker(run) is not None, "the worker")
    if end_of_session not in stage.at_end:
        stage.at_end.append(end_of_session)
    return RealRun(run, disk)


def config_text(assets: Path) -> str:
    """The config of all real runs: with the same, losses can be compared."""
    return to_toml(
        from_values(
            {
                "model_name": str(assets / "model"),
                "dataset": str(assets / "pairs.jsonl"),
                "learning_rate": 1e-3,
                "max_seq_length": 128,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 1,
                "max_steps": STEPS,
                "save_steps": 10,
                "eval_steps": 75,
                "sample_prompts": 0,
                "kl_prompts": 0,
                "gpus": "none",
                "lora_r": 4,
            }
        )
    )


def _assets(shared: Path) -> Path:
    """The model and the pairs, made once a campaign."""
    folder = shared / "real"
    if not (folder / "model").is_dir():
        folder.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", _MAKE, str(folder)], check=True, env=environment, capture_output=True)
    return folder


def reference_losses(shared: Path) -> dict[int, float]:
    """The losses of a run that nothing has disturbed."""
    path = shared / "real" / "losses.json"
    if not path.exists():
        return {}
    return {int(step): loss for step, loss in json.loads(path.read_text(encoding="utf-8")).items()}


def make_reference(shared: Path) -> None:
    """Train once without any fault, and keep the losses."""
    if reference_losses(shared):
        return
    stage = Stage(shared / "reference", "reference", 0)
    stage.shared = shared
    real = _begin(stage)
    wait_for_end(stage, real.run, _START + 200)
    losses = losses_of(real.run)
    if set(losses) != set(range(1, STEPS + 1)):
        raise NeverCame(f"the undisturbed run has {len(losses)} of {STEPS} losses")
    (shared / "real" / "losses.json").write_text(json.dumps({step: one[0] for step, one in losses.items()}))


def losses_of(run: RunFolder) -> dict[int, list[float]]:
    """All losses of each step; a step that was trained again has several."""
    found: dict[int, list[float]] = {}
    for line in checks.whole_lines(run.metrics):
        one = json.loads(line)
        if "loss" in one:
            found.setdefault(one["step"], []).append(one["loss"])
    return found


def end_of_session(stage: Stage) -> None:
    """Let the run come to its end, and check it as a whole."""
    if stage.real_run is not None:
        alive = stage.supervisor(stage.real_run.run) is not None and stage.worker(stage.real_run.run) is not None
        if not alive and json_status(stage.real_run.run) != "done":
            begin_again(stage, stage.real_run)
            _wait_for_steps(stage, stage.real_run, 1)
        _end(stage, stage.real_run)
        stage.real_run = None
    finish(stage)


def _end(stage: Stage, real: RealRun) -> None:
    wait_for_end(stage, real.run, _START + 200)
    look(stage, real.run, ["done"], steps=STEPS)
    stage.wrong(checks.every_step_has_a_line(checks.whole_lines(real.run.metrics), STEPS))
    stage.wrong(checks.same_losses(reference_losses(stage.shared), losses_of(real.run)))


@fault_kind("real-kill-worker", "SIGKILL to the worker in a random step", real=True, times=TIMES)
def kill_worker(stage: Stage) -> None:
    """As with the stand-in."""
    run = training(stage)
    time.sleep(stage.rng.random() * 0.2)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"], KILLED, steps=STEPS)


@fault_kind("real-kill-supervisor", "SIGKILL to the supervisor in a random step", real=True, times=TIMES)
def kill_supervisor(stage: Stage) -> None:
    """The worker saves and ends."""
    run = training(stage)
    send(stage.supervisor_pid(run), signal.SIGKILL)
    look(stage, run, ["lost"], ("killed",), steps=STEPS)


@fault_kind("real-kill-both", "SIGKILL to supervisor and worker", real=True, times=TIMES)
def kill_both(stage: Stage) -> None:
    """Nobody can record anything."""
    run = training(stage)
    pair = [stage.supervisor_pid(run), stage.worker_pid(run)]
    stage.rng.shuffle(pair)
    for pid in pair:
        send(pid, signal.SIGKILL)
    look(stage, run, ["lost", "failed"], KILLED, steps=STEPS)


@fault_kind("real-sigterm-supervisor", "SIGTERM to the supervisor, as at a shutdown", real=True, times=TIMES)
def sigterm_supervisor(stage: Stage) -> None:
    """The worker saves within the grace, which is ten seconds here as in the product."""
    run = training(stage)
    send(stage.supervisor_pid(run), signal.SIGTERM)
    look(stage, run, ["stopped"], ("supervisor was asked to end",), steps=STEPS)


@fault_kind("real-kill-starting", "SIGKILL to the worker while it imports, loads or begins", real=True, times=TIMES)
def kill_starting(stage: Stage) -> None:
    """Nothing of what was there before is changed."""
    run = training(stage)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"], KILLED, steps=STEPS)
    real = current(stage)
    begin_again(stage, real)
    time.sleep(stage.rng.random() * 6)
    worker = stage.worker(run)
    if worker is not None:
        send(worker.pid, signal.SIGKILL)
    look(stage, run, ["failed"], KILLED, steps=STEPS)
    real.begun = None


@fault_kind("real-kill-at-save", "SIGKILL to the worker while a checkpoint is being written", real=True, times=TIMES)
def kill_at_save(stage: Stage) -> None:
    """The torn checkpoint is not resumed from."""
    run = training(stage)

    def being_written() -> bool:
        newest = max(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name[11:]), default=None)
        return newest is not None and not (newest / "complete.json").exists()

    deadline = time.monotonic() + 30
    # Without a pause: a checkpoint of the tiny model is written within some milliseconds.
    while not being_written() and time.monotonic() < deadline and stage.last_step(run) < STEPS:
        pass
    worker = stage.worker(run)
    if worker is None:
        raise NeverCame("the worker ended before a save")
    send(worker.pid, signal.SIGKILL)
    stage.notes.append(f"torn: {being_written()}")
    look(stage, run, ["failed"], KILLED, steps=STEPS)


@fault_kind("real-pause", "SIGSTOP to worker, supervisor or both, a look, SIGCONT", real=True, times=TIMES)
def pause(stage: Stage) -> None:
    """Training goes on."""
    run = training(stage)
    pids = [stage.supervisor_pid(run), stage.worker_pid(run)]
    pids = stage.rng.choice((pids, pids[:1], pids[1:]))
    for pid in pids:
        send(pid, signal.SIGSTOP)
    look(stage, run, ["running"], steps=STEPS)
    for pid in pids:
        send(pid, signal.SIGCONT)
    before = stage.last_step(run)
    stage.until(lambda: stage.last_step(run) > before or json_status(run) == "done", "another step", _START)


@fault_kind("real-wrong-state", "state.json of a run that trains is torn or gone", real=True, times=TIMES)
def wrong_state(stage: Stage) -> None:
    """A checkpoint can be asked for, training goes on, and the supervisor writes the file again at the end."""
    run = training(stage)
    text = stage.rng.choice(("", "{", "[]", '{"id": 5, "status": []}', None))
    if text is None:
        run.state.unlink()
    else:
        run.state.write_text(text, encoding="utf-8")
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("status", run.id, "--json"), ("queue",)):
        stage.call(*command)
    before = stage.last_step(run)
    stage.until(lambda: stage.last_step(run) > before or json_status(run) == "done", "another step", _START)
    stage.call("stop", run.id)
    look(stage, run, ["stopped", "done"], steps=STEPS)


@fault_kind("real-torn-line", "SIGKILL to the worker, and the last line of its metrics is cut", real=True, times=TIMES)
def torn_line(stage: Stage) -> None:
    """The line that follows is whole."""
    run = training(stage)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"], KILLED, steps=STEPS)
    text = run.metrics.read_bytes()
    last = len(text) - text.rstrip(b"\n").rfind(b"\n") - 1
    run.metrics.write_bytes(text[: len(text) - stage.rng.randint(2, last - 1)])
    look(stage, run, ["failed"], steps=STEPS)


@fault_kind("real-damaged-checkpoint", "SIGKILL to the worker, its newest checkpoint damaged", real=True, times=TIMES)
def damaged_checkpoint(stage: Stage) -> None:
    """An older one, or the beginning, is named and gone on from."""
    run = training(stage)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"], KILLED, steps=STEPS)
    steps = checks.whole_checkpoints(run.checkpoints)
    if steps:
        damage(stage, run.checkpoints / f"checkpoint-{steps[-1]}")
    real = current(stage)
    real.begun = resume(stage, run, right=[steps[-2] if len(steps) > 1 else 0])
    _require_resumed(stage, real)


@fault_kind("real-quota", "every write is refused with EDQUOT or EIO until the worker ends", real=True, times=TIMES)
def quota(stage: Stage) -> None:
    """The next save fails; the reason names it once it can be written."""
    run = training(stage)
    disk = current(stage).disk
    number, causes = stage.rng.choice(((errno.EDQUOT, ("quota",)), (errno.EIO, ("EIO", "disk", "Input/output"))))
    disk.refuse(number)
    stage.until(lambda: stage.worker(run) is None, "the worker to end", _START)
    # The supervisor looks at the disk when the worker has ended, to say why.
    time.sleep(2)
    disk.allow()
    stage.until(lambda: stage.supervisor(run) is None, "the supervisor to end")
    look(stage, run, ["failed"], causes, steps=STEPS)
