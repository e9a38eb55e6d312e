"""GPUs that are lost, and a driver that hangs: the stand-in library that the tests build answers in its place."""

import os
import signal
import time
from pathlib import Path

from benchmarks.fault_kinds.commands import in_child
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.session import NotPossibleHere
from benchmarks.fault_kinds.stage import Stage
from dpo_tui.runs import start_run, store
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from tests.support import nvml_standin

_BROKEN = ("lost", "driver-missing", "driver-mismatch", "no-gpu", "name-bytes", "full", "old-library", "gb10")


def machine(stage: Stage, scenario: str) -> Path:
    """Have the GPUs of a scenario on this machine; returns the file that describes them."""
    if nvml_standin.compiler() is None:
        raise NotPossibleHere("no C compiler")
    found = nvml_standin.machine(scenario, stage.folder)
    os.environ.update({name: found[name] for name in ("LD_LIBRARY_PATH", "NVML_STANDIN")})
    return Path(found["NVML_STANDIN"])


def on_gpus(stage: Stage, *candidates: str, **options: object) -> RunFolder:
    """Start a run that takes one of these devices when its turn comes."""
    stage.train_by(**options)
    text = stage.config_text()

    def begin() -> Path:
        folder = store.create(text, name="gpu", devices=[], device_request=DeviceRequest(candidates, 1, 1 << 30))
        start_run.start(folder)
        return folder.path

    run = RunFolder(in_child(begin))
    stage.runs.append(run)
    return run


@fault_kind("gpu-lost", "GPUs fall off the bus, or the driver is gone or unlike its library, while runs wait and train")
def gpu_lost(stage: Stage) -> None:
    """Commands say what is there; a run that trains is not ended by it, one that waits gets a device or a reason."""
    description = machine(stage, "h100x2-idle")
    run = on_gpus(stage, "gpu:0", "gpu:1", hold_at=3)
    stage.until(lambda: stage.last_step(run) >= 3, "step 3")
    scenario = stage.rng.choice(_BROKEN)
    stage.notes.append(scenario)
    description.write_text(nvml_standin.SCENARIOS[scenario].replace("{pid}", str(os.getpid())))
    if scenario == "lost":
        # Lost in the middle of a look, and not before its first call.
        calls = stage.rng.randint(0, 9)
        description.write_text(nvml_standin.SCENARIOS["lost"].replace("lost_after 0", f"lost_after {calls}"))
    for command in (("hardware",), ("hardware", "--json"), ("queue",), ("runs",)):
        stage.call_fresh(*command)
    stage.call_fresh("doctor", codes={0, 1})
    check_done(stage, run)
    later = on_gpus(stage, "gpu:0", "gpu:1")
    check_done(stage, later)
    finish(stage)


@fault_kind("nvml-hangs", "every call into NVML hangs, as with a GPU in trouble")
def nvml_hangs(stage: Stage) -> None:
    """What needs no GPU answers at once; a run that waits for one starts after a time, or is stopped while it waits."""
    description = machine(stage, "h100x2-idle")
    description.unlink()
    # Whoever opens a pipe that nobody writes to waits for ever.
    os.mkfifo(description)
    run = on_gpus(stage, "gpu:0", "gpu:1")
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("queue",), ("status", run.id, "--json")):
        stage.call_fresh(*command, seconds=30)
    if stage.rng.random() < 0.5:
        stage.call("stop", run.id, codes={0})
        look(stage, run, ["stopped"], ("before it started",))
        description.unlink()
        description.write_text(nvml_standin.SCENARIOS["h100x2-idle"])
        go_on(stage, run, options={})
    else:
        check_done(stage, run)
    for one in stage.processes():
        if "cuda_devices" in one.command:
            stage.until(lambda one=one: all(found.pid != one.pid for found in stage.processes()), "it to end", 40)
    finish(stage)


@fault_kind("gpu-handover", "the run that has the only GPU loses supervisor, worker or both; another waits")
def gpu_handover(stage: Stage) -> None:
    """The other starts once the GPU is free, and never while the first one's worker lives."""
    machine(stage, "rtx4090")
    first = on_gpus(stage, "gpu:0", hold_at=5, step_seconds=0.05)
    stage.until(lambda: stage.last_step(first) >= 5, "step 5")
    second = on_gpus(stage, "gpu:0", hold_at=5, step_seconds=0.05)
    stage.until(lambda: stage.status(second).get("status") == "queued", "the second to wait")
    how = stage.rng.choice(("worker", "supervisor", "both"))
    supervisor, worker = stage.supervisor_pid(first), stage.worker_pid(first)
    for pid in {"worker": [worker], "supervisor": [supervisor], "both": [supervisor, worker]}[how]:
        send(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while stage.worker(second) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if stage.worker(second) is None:
        stage.wrong(["queue: the second run never started"])
    # Both in one look at /proc: one after the other would compare two moments.
    pair = [one for one in stage.processes() if one.is_worker]
    if any(one.belongs_to(first.path) for one in pair) and any(one.belongs_to(second.path) for one in pair):
        stage.wrong(["queue: two workers on one GPU"])
    check_done(stage, second)
    look(stage, first, ["failed", "lost"])
    go_on(stage, first, options={})
    finish(stage)
