"""Part a: what NVML tells against what torch tells; `doctor` and `hardware` on a real GPU."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.gpu_parts.session import NotMeasured, Part, Session
from dpo_tui.hardware import nvml
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.nvml import Gpu
from dpo_tui.hardware.profiles import main_memory
from dpo_tui.processes.child_environment import child_environment

_HELD = 2**30  # bytes that this process takes, to find itself in NVML's list
_BUSY_SECONDS = 1.5
_COMMAND_SECONDS = 60


def measure(session: Session) -> None:
    """Compare NVML with torch, then run the two commands."""
    session.measure("nvml, idle", _inventory)
    session.measure("nvml against torch", _against_torch)
    session.measure("nvml, busy", _busy)
    session.measure("profile", _profile)
    session.measure("dpo-tui hardware", lambda: _command("hardware"))
    session.measure("dpo-tui doctor", lambda: _command("doctor"))


def _inventory() -> Mapping[str, Any]:
    began = time.perf_counter()
    inventory = nvml.read()
    taken = time.perf_counter() - began
    if inventory.fault:
        raise NotMeasured(f"no GPU: {inventory.fault.reason}")
    gpu = inventory.gpus[0]
    return {
        "found": f"{len(inventory.gpus)} × {gpu.name}, driver {gpu.driver}, CUDA {gpu.cuda}, MIG {gpu.mig}",
        "faults": {name: fault.reason for name, fault in gpu.faults.items()},
        "read_ms": round(taken * 1000, 1),
    }


def _against_torch() -> Mapping[str, Any]:
    torch = _torch()
    gpu, properties = _same_gpu(torch), torch.cuda.get_device_properties(0)
    held = torch.empty(_HELD, dtype=torch.uint8, device="cuda")
    free_of_torch, total_of_torch = torch.cuda.mem_get_info(0)
    after = _same_gpu(torch)
    mine = next((one for one in after.holders if one.pid == os.getpid()), None)
    del held
    return {
        "name": _agreement(gpu.name, properties.name),
        "capability": _agreement(gpu.compute_capability, (properties.major, properties.minor)),
        "total_gb": _agreement(_gb(gpu.memory_total), _gb(total_of_torch)),
        "free_gb": f"{_gb(after.memory_free)} (torch {_gb(free_of_torch)})",
        "own_process": f"listed with {_gb(mine.memory)} GB" if mine else f"not among {len(after.holders)} listed",
    }


def _busy() -> Mapping[str, Any]:
    torch = _torch()
    idle = _same_gpu(torch)
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    stop = threading.Event()

    def multiply() -> None:
        while not stop.is_set():
            for _ in range(10):
                square @ square
            torch.cuda.synchronize()

    worker = threading.Thread(target=multiply)
    worker.start()
    time.sleep(_BUSY_SECONDS)
    busy = _same_gpu(torch)
    stop.set()
    worker.join()
    return {
        name: f"{getattr(idle, name)} idle, {getattr(busy, name)} busy"
        for name in ("power", "utilisation", "temperature", "clock_sm")
    } | {"power_limit": busy.power_limit}


def _profile() -> Mapping[str, Any]:
    found = recommend(nvml.read(), main_memory())
    return {"found": f"{found.name}: {found.reason}", "warnings": list(found.warnings)}


def _command(name: str) -> Mapping[str, Any]:
    command = [sys.executable, "-m", "dpo_tui", name, "--json"]
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False, env=child_environment()
    )
    taken = round(time.perf_counter() - began, 1)
    if not done.stdout.strip():
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-200:]}")
    document = json.loads(done.stdout)
    if name == "hardware":
        return {"exit": done.returncode, "command_seconds": taken, "found": document["profile"]["name"]}
    marked = [f"{one['status']} {one['check']}: {one['message']}" for one in document if one["status"] != "ok"]
    return {"exit": done.returncode, "command_seconds": taken, "found": f"{len(document)} checks", "not_ok": marked}


def _torch() -> Any:
    import torch

    if not torch.cuda.is_available():
        raise NotMeasured(f"torch {torch.__version__} sees no GPU")
    return torch


def _same_gpu(torch: Any) -> Gpu:
    """Return NVML's reading of the GPU that torch has as its first."""
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    gpus = nvml.read().gpus
    return next((gpu for gpu in gpus if gpu.uuid and uuid in gpu.uuid), gpus[0])


def _agreement(ours: Any, theirs: Any) -> str:
    return f"{ours}, the same" if ours == theirs else f"{ours}, torch says {theirs}"


def _gb(size: int | None) -> float | None:
    return None if size is None else round(size / 1e9, 2)


PART = Part(
    letter="a",
    name="hardware",
    title="NVML against torch, doctor, hardware",
    meaning="What `dpo_tui.hardware.nvml` reads, beside what torch says about the same GPU (matched by UUID).",
    seconds=40,
    measure=measure,
)
