"""Made-up facts of a machine for the doctor's checks."""

from typing import Any

from dpo_tui.hardware.doctor.registry import DoctorFinding, DoctorOptions, MachineFacts, run_checks
from dpo_tui.hardware.nvml import Gpu, Inventory, NvmlFault
from dpo_tui.hardware.profiles import Ram

GIB = 1024**3
TORCH: dict[str, Any] = {
    "torch": "2.13.0",
    "cuda_build": "12.6",
    "available": True,
    "architectures": ["sm_75", "sm_80", "sm_86", "sm_90", "compute_90"],
    "devices": [{"name": "Card", "capability": [8, 9]}],
    "bitsandbytes": "0.50.2",
    "bitsandbytes_cuda": True,
}
"""What the child reports where torch and bitsandbytes are installed and see a GPU."""


def gpu(**values: Any) -> Gpu:
    """A GPU of 24 GiB, 23 of them free, with the given values changed."""
    usual = {
        "memory_total": 24 * GIB,
        "memory_free": 23 * GIB,
        "compute_capability": (8, 9),
        "driver": "550.1",
        "cuda": "12.4",
    }
    return Gpu(values.pop("index", 0), "Card", **(usual | values))


def findings(
    *gpus: Gpu,
    fault: NvmlFault | None = None,
    stack: dict[str, Any] | None = None,
    stack_fault: str = "",
    environ: dict[str, str] | None = None,
    ram: int = 64 * GIB,
    options: DoctorOptions | None = None,
) -> dict[str, DoctorFinding]:
    """Run every check of the doctor on a machine with these facts; findings by the name of their check."""
    found = run_checks(
        MachineFacts(
            Inventory(gpus, fault),
            Ram(ram, ram // 2),
            {"TERM": "xterm-256color", "LANG": "en_US.UTF-8"} | (environ or {}),
            options or DoctorOptions(),
            TORCH if stack is None else stack,
            stack_fault,
        )
    )
    return {finding.check: finding for finding in found}
