"""Check that the GPUs that a config names are in this machine, which its worker finds out only once it has started."""

from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.nvml import Inventory

_OTHER_DEVICES = ("kfd", "nvidiactl", "dxg")
"""Files under /dev of drivers whose GPUs CUDA or ROCm may use although NVML lists none: AMD's, NVIDIA's, WSL's."""


def check_gpus(config: Config, inventory: Inventory, devices: Path = Path("/dev")) -> None:
    """Check the numbers in ``gpus``.

    Args:
        config: its ``gpus`` may be numbers separated by commas.
        inventory: the GPUs that NVML lists.
        devices: the folder of device files.

    Raises:
        ConfigError: there is no GPU with such a number, or none at all.
    """
    asked = [int(one) for one in config.gpus.split(",") if one.isdigit()]
    present = [gpu.index for gpu in inventory.gpus]
    absent = [number for number in asked if number not in present]
    if not absent or (not present and any((devices / name).exists() for name in _OTHER_DEVICES)):
        return
    if present:
        listed = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in inventory.gpus)
        raise ConfigError(
            f"gpus = {config.gpus}: this machine has no GPU {absent[0]}; it has {listed}",
            hint='name one of these, or set gpus = "auto" in [compute]',
        )
    reason = f" ({inventory.fault.reason})" if inventory.fault is not None else ""
    raise ConfigError(
        f"gpus = {config.gpus}: this machine has no GPU that can be used{reason}",
        hint='set gpus = "auto" or "none" in [compute] to train on the CPU; `dpo-tui doctor` says what it finds',
    )
