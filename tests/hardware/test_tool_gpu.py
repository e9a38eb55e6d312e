"""Judge, chat, evaluation and export stay away from the GPUs on which runs train."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.nvml_standin import compiler, machine
from tests.support.supervised_runs import begin, fresh_home, go, holding  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library"),
]
CHILD = (
    "import json, psutil; from dpo_tui.hardware.tool_gpu import tool_environment\n"
    "from dpo_tui.processes.torch_tool import TorchTool\n"
    "with TorchTool('generate', environment=tool_environment()):\n"
    # Empty for a moment: the kernel closes what exec closes, for which Popen waits, before it sets the environment up.
    "    while not (found := psutil.Process().children()[0].environ()): pass\n"
    "print(json.dumps({key: found.get(key) for key in ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER')}))\n"
)


def tool(scenario: str, folder: Path, home: Path, code: str = CHILD, **extra: str) -> tuple[dict[str, Any], str]:
    """Which GPUs are visible to a tool on a machine with these GPUs, and what was narrated."""
    environment = machine(scenario, folder, DPO_TUI_HOME=str(home), **extra)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout), done.stderr


def test_a_tool_avoids_the_gpu_of_a_live_run_though_it_has_the_most_free_memory(tmp_path: Path, home: Path) -> None:
    run = begin("--hold-at", 1, devices=["gpu:1"])
    holding(run, 1)
    assert tool("a100x2", tmp_path, home) == ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "")
    go(run)


def test_without_runs_a_tool_takes_the_gpu_with_the_most_free_memory(tmp_path: Path, home: Path) -> None:
    assert tool("a100x2", tmp_path, home)[0]["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_tool_beside_runs_on_every_gpu_says_so(tmp_path: Path, home: Path) -> None:
    runs = [begin("--hold-at", 1, devices=[name]) for name in ("gpu:0", "gpu:1")]
    for run in runs:
        holding(run, 1)
    found, narrated = tool("a100x2", tmp_path, home)
    assert found["CUDA_VISIBLE_DEVICES"] == "1"
    assert "Every GPU is in use by a run" in narrated and runs[1].id in narrated
    for run in runs:
        go(run)


def test_a_tool_keeps_to_the_devices_that_the_person_left_visible(tmp_path: Path, home: Path) -> None:
    found, _ = tool("h100-mig-slices", tmp_path, home, CUDA_VISIBLE_DEVICES="MIG-small")
    assert found["CUDA_VISIBLE_DEVICES"] == "MIG-small"
    assert tool("a100x2", tmp_path, home, CUDA_VISIBLE_DEVICES="0")[0]["CUDA_VISIBLE_DEVICES"] == "0"


def test_without_a_driver_a_tool_sees_what_it_saw_before(tmp_path: Path, home: Path) -> None:
    found, narrated = tool("driver-missing", tmp_path, home, CUDA_VISIBLE_DEVICES="7")
    assert (found, narrated) == ({"CUDA_VISIBLE_DEVICES": "7", "CUDA_DEVICE_ORDER": None}, "")


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [("0", None, "0"), ("none", None, None), ("0", "MIG-small", "MIG-small"), ("3", "MIG-small", "3")],
)
def test_a_number_in_the_config_leaves_no_choice(
    gpus: str, visible: str | None, expected: str | None, tmp_path: Path, home: Path
) -> None:
    code = f"import json; from dpo_tui.hardware import tool_gpu; print(json.dumps(tool_gpu.tool_environment({gpus!r})))"
    extra = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    assert tool("h100-mig-slices", tmp_path, home, code, **extra)[0].get("CUDA_VISIBLE_DEVICES") == expected


@pytest.mark.parametrize("gpus", ["all", "0,1", "auto"])
def test_a_tool_takes_one_of_the_gpus_on_which_a_run_trained(gpus: str, tmp_path: Path, home: Path) -> None:
    code = f"import json; from dpo_tui.hardware import tool_gpu; print(json.dumps(tool_gpu.tool_environment({gpus!r})))"
    assert tool("a100x2", tmp_path, home, code)[0]["CUDA_VISIBLE_DEVICES"] in {"0", "1"}


def test_a_run_that_holds_a_gpu_never_trains_on_the_cpu_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from dpo_tui.config.files import from_values
    from dpo_tui.errors import TrainingError
    from dpo_tui.train.model.device import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = from_values({"model_name": "m", "dataset": "d"})
    assert choose_device(config).kind != "cuda"
    monkeypatch.setenv("DPO_TUI_DEVICES", "gpu:MIG-half")
    with pytest.raises(TrainingError, match=r"this run has gpu:MIG-half: torch .* sees no GPU"):
        choose_device(config)
