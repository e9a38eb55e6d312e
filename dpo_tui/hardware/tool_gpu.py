"""Choice of the GPU for a tool, a short-lived child process with torch: judge, chat, eval, export, memory probe.

As for runs, it is the GPU with the most free memory of those that no live run holds. A tool does not wait in the queue
and reserves nothing: where runs hold every GPU it takes the one with the most free memory, and reports that.
"""

import os
import sys
from collections.abc import Callable

from dpo_tui import paths
from dpo_tui.errors import HomeError
from dpo_tui.runs.devices import DeviceRequest, device_variables, machine_from


def _write_to_stderr(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def tool_environment(gpus: str = "auto", report: Callable[[str], None] = _write_to_stderr) -> dict[str, str]:
    """Return the environment variables that make one GPU visible to a child process.

    Args:
        gpus: the config's setting: ``auto``, ``none``, ``all``, or names, of which one is taken.
        report: called with a sentence when the GPU is in use by a run; by default it is written to stderr.

    Returns:
        No variables where NVML lists no GPU: visibility then stays as it is.
    """
    if gpus == "none":
        return {}
    if gpus.isdigit() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return device_variables([f"gpu:{gpus}"])
    from dpo_tui.hardware import cuda_devices, nvml  # slow to import, and commands start fast
    from dpo_tui.hardware.requested_gpus import selected_devices
    from dpo_tui.runs.queue import devices_in_use

    listed = nvml.read().gpus
    visible = [one for one in cuda_devices.visible_devices(listed, os.environ) if not one.gpu.lost]
    wanted = {one.name for one in selected_devices(nvml.Inventory(listed), os.environ, gpus)}
    names = tuple(one.name for one in visible if one.name in wanted)
    if not names:
        return {} if gpus in ("auto", "all") else device_variables([f"gpu:{gpus.split(',', maxsplit=1)[0]}"])
    try:
        held = devices_in_use(paths.runs())
    except HomeError:
        held = {}
    machine, request = machine_from(cuda_devices.document(listed)), DeviceRequest(names)
    free = machine.free(request, held)
    if free:
        return device_variables(free[:1])
    (chosen, *_) = machine.free(request, ())
    run = next(run for name, run in held.items() if machine.same(name, chosen))
    report(f"Every GPU is in use by a run; this takes {chosen}, which has the most free memory, beside run {run.id}.")
    return device_variables([chosen])
