"""The GPU of a child that needs torch for a moment: judging, chat, evaluation, export, the estimate's probe.

By the rule of the runs: one that no live run holds, and of these the one with the most free memory. A tool holds
nothing itself and does not wait: where runs have every GPU it takes the one with the most free memory, and says so.
"""

import os
import sys
from collections.abc import Callable

from dpo_tui import paths
from dpo_tui.errors import HomeError
from dpo_tui.runs.devices import DeviceRequest, device_variables, machine_from
from dpo_tui.runs.queue import devices_in_use


def _narrate(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def tool_environment(gpus: str = "auto", tell: Callable[[str], None] = _narrate) -> dict[str, str]:
    """The environment variables by which CUDA shows a child the GPU that it should use.

    Args:
        gpus: the config's setting: ``auto``, ``none``, or a number.
        tell: called with a sentence when the GPU is in use by a run; by default it goes to stderr.

    Returns:
        Nothing where the driver does not say which GPUs there are: then CUDA sees what it saw before.
    """
    if gpus == "none":
        return {}
    if gpus.isdigit() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return device_variables([f"gpu:{gpus}"])
    from dpo_tui.hardware import cuda_devices, nvml  # slow to import, and commands start fast

    found = nvml.read().gpus
    visible = [one for one in cuda_devices.visible_devices(found, os.environ) if not one.gpu.lost]
    names = tuple(one.name for one in visible if gpus == "auto" or one.gpu.index == int(gpus))
    if not names:
        return {} if gpus == "auto" else device_variables([f"gpu:{gpus}"])
    try:
        held = devices_in_use(paths.runs())
    except HomeError:
        held = {}
    machine, request = machine_from(cuda_devices.document(found)), DeviceRequest(names)
    free = machine.free(request, held)
    if free:
        return device_variables(free[:1])
    (chosen, *_) = machine.free(request, ())
    run = next(run for name, run in held.items() if machine.same(name, chosen))
    tell(f"Every GPU is in use by a run; this takes {chosen}, which has the most free memory, beside run {run.id}.")
    return device_variables([chosen])
