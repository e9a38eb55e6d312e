"""A C library that stands in for the driver's, so that tests run the true NVML binding.

``library()`` compiles it once per test session; ``machine()`` gives the environment in which a child process sees the
GPUs of a scenario. Scenarios are text in the format that ``nvml.c`` documents.
"""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("nvml.c")

SCENARIOS = {
    "rtx3060": "gpu\nname NVIDIA GeForce RTX 3060\nmemory 12288 11900\ncc 8 6\n",
    "rtx4070": "gpu\nname NVIDIA GeForce RTX 4070\nmemory 12282 11250\ncc 8 9\n",
    "rtx4080": "gpu\nname NVIDIA GeForce RTX 4080\nmemory 16376 15900\ncc 8 9\n",
    "t4": "gpu\nname Tesla T4\nmemory 15360 15100\ncc 7 5\nfan -1\necc 1 0\n",
    "rtx4090": "gpu\nname NVIDIA GeForce RTX 4090\nmemory 24564 24100\ncc 8 9\n",
    "rtx2060": "gpu\nname NVIDIA GeForce RTX 2060\nmemory 6144 5900\ncc 7 5\n",
    "a100x2": (
        "driver 535.161.08\ncuda 12020\n"
        "gpu\nname NVIDIA A100-SXM4-80GB\nmemory 81920 20000\ncc 8 0\nfan -1\necc 1 0\nmig 0\nbusy 97 60\n"
        "process {pid} 61000\n"
        "gpu\nname NVIDIA A100-SXM4-80GB\nmemory 81920 81400\ncc 8 0\nfan -1\necc 1 0\nmig 0\n"
    ),
    "h100-mig": (
        "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\nfan -1\nmig 1\n"
        "fail nvmlDeviceGetMemoryInfo 4\nfail nvmlDeviceGetUtilizationRates 3\n"
        "fail nvmlDeviceGetMigDeviceHandleByIndex 4\nfail nvmlDeviceGetComputeRunningProcesses_v3 4\n"
    ),
    "h100-mig-slices": (
        "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\nfan -1\nmig 1\n"
        "instance 9856 9800 MIG-small\ninstance 40192 40000 MIG-half\n"
    ),
    "h100x4-idle": "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\nfan -1\nmig 0\n" * 4,
    "h100x2-idle": "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\nfan -1\nmig 0\n" * 2,
    "unlike": (
        "gpu\nname NVIDIA GeForce RTX 2060\nmemory 6144 5900\ncc 7 5\n"
        "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\n"
        "gpu\nname NVIDIA GeForce RTX 4090\nmemory 24564 24100\ncc 8 9\n"
    ),
    "others-hold-one": (
        "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 2000\ncc 9 0\n"
        "gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 81000\ncc 9 0\n"
    ),
    "gb10": (
        "driver 580.82.09\ncuda 13000\n"
        "gpu\nname NVIDIA GB10\ncc 12 1\nfan -1\n"
        "fail nvmlDeviceGetMemoryInfo 3\nfail nvmlDeviceGetEnforcedPowerLimit 3\n"
    ),
    "busy": (
        "gpu\nname NVIDIA GeForce RTX 4090\nmemory 24564 12400\ncc 8 9\nbusy 88 40\n"
        "process {pid} 11800\nprocess 4194000 -1\n"
    ),
    "full": "gpu\nname NVIDIA GeForce RTX 4070\nmemory 12282 1900\ncc 8 9\nbusy 99 90\nprocess {pid} 10300\n",
    "driver-missing": "init 9\n",
    "driver-mismatch": "init 18\n",
    "no-gpu": "driver 550.54.14\n",
    "training": (
        "gpu\nname NVIDIA GeForce RTX 4070\nmemory 12282 3600\ncc 8 9\nbusy 98 60\nswing 30\npower 190000 200000\n"
        "temperature 71\n"
    ),
    "h100x8": "".join(
        f"gpu\nname NVIDIA H100 80GB HBM3\nmemory 81559 {81000 - 9000 * index}\ncc 9 0\nfan -1\nmig 0\n"
        f"busy {12 * index} 10\npower {100000 + 80000 * index} 700000\ntemperature {40 + 7 * index}\n"
        for index in range(8)
    ),
    "lost": "gpu\nname NVIDIA GeForce RTX 3090\nmemory 24576 24000\ncc 8 6\nlost_after 0\n",
    "hangs-later": (
        "gpu\nname NVIDIA GeForce RTX 3090\nmemory 24576 24000\ncc 8 6\nhang nvmlDeviceGetUtilizationRates 4\n"
    ),
    "lost-later": "gpu\nname NVIDIA GeForce RTX 3090\nmemory 24576 24000\ncc 8 6\nlost_after 20\n",
    "name-bytes": "gpu\nname NVIDIA Tit\\xe1n \\x1b[31mRTX\nmemory 24576 24000\ncc 7 5\n",
    "old-library": "gpu\nname NVIDIA GeForce RTX 3090\nmemory 24576 24000\ncc 8 6\n",
}


def compiler() -> str | None:
    """The system's C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def library(*flags: str) -> Path:
    """The folder that holds the compiled ``libnvidia-ml.so.1``."""
    folder = Path(tempfile.mkdtemp(prefix="nvml-standin-"))
    command = [
        compiler() or "cc",
        "-shared",
        "-fPIC",
        "-O1",
        *flags,
        "-o",
        str(folder / "libnvidia-ml.so.1"),
        str(_SOURCE),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def machine(scenario: str, folder: Path, **extra: str) -> dict[str, str]:
    """The environment of a machine with a scenario's GPUs.

    Args:
        scenario: a name in ``SCENARIOS``; ``{pid}`` in it becomes this process.
        folder: where to write the scenario's file.
        extra: more environment variables.
    """
    description = folder / f"{scenario}.txt"
    description.write_text(SCENARIOS[scenario].replace("{pid}", str(os.getpid())))
    flags = ["-DWITHOUT_CLOCKS"] if scenario == "old-library" else []
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "NVIDIA_"))}
    return {
        **kept,
        "LD_LIBRARY_PATH": str(library(*flags)),
        "NVML_STANDIN": str(description),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "DPO_TUI_HOME": str(folder / "home"),
        **extra,
    }
