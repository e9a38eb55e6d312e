"""The doctor: each check on made-up facts, and the whole command on stand-in machines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.hardware.doctor import registry
from dpo_tui.hardware.doctor.login_session import kills_user_processes
from dpo_tui.hardware.doctor.python_and_torch import problem_of
from dpo_tui.hardware.doctor.registry import DoctorFinding, DoctorOptions, MachineFacts
from dpo_tui.hardware.nvml import NvmlFault
from dpo_tui.hardware.process_description import GpuProcess
from tests.support.doctor_facts import GIB, TORCH, findings, gpu
from tests.support.nvml_standin import compiler, machine
from tests.support.repository import ROOT


@pytest.mark.parametrize(
    ("check", "expected", "facts"),
    [
        ("torch", ("ok", "built for CUDA 12.6"), {}),
        ("torch", ("fail", "CPU build"), {"stack": TORCH | {"cuda_build": None, "available": False}}),
        ("torch", ("fail", "supports CUDA up to 11.4"), {"gpus": [gpu(cuda="11.4")]}),
        ("torch", ("fail", "sees no GPU"), {"stack": TORCH | {"available": False}}),
        (
            "torch",
            ("warn", "hides every GPU"),
            {"stack": TORCH | {"available": False}, "environ": {"CUDA_VISIBLE_DEVICES": ""}},
        ),
        ("torch", ("fail", "cannot be imported"), {"stack": {"torch_error": "ImportError: libcudart"}}),
        ("torch", ("warn", "within 10 s"), {"stack": {}, "stack_fault": "torch was not imported within 10 s"}),
        ("torch", ("ok", "there is no GPU"), {"gpus": []}),
        ("device-support", ("ok", "every visible GPU"), {}),
        ("device-support", ("fail", "sm_61"), {"stack": TORCH | {"devices": [{"name": "Old", "capability": [6, 1]}]}}),
        ("device-support", ("ok", "every"), {"stack": TORCH | {"devices": [{"name": "New", "capability": [12, 0]}]}}),
        ("bitsandbytes", ("ok", "0.50.2"), {}),
        ("bitsandbytes", ("fail", "no binary for CUDA"), {"stack": TORCH | {"bitsandbytes_cuda": False}}),
        ("bitsandbytes", ("fail", "no 4-bit"), {"stack": {"torch": "2", "bitsandbytes_error": "OSError: x"}}),
        ("bitsandbytes", ("warn", "in time"), {"stack": {"torch": "2"}}),
        ("gpu", ("ok", "Card"), {}),
        ("gpu", ("warn", "libnvidia-ml"), {"gpus": [], "fault": NvmlFault("no-library", "no libnvidia-ml.so.1")}),
        (
            "gpu",
            ("fail", "version"),
            {"gpus": [], "fault": NvmlFault("no-driver", "driver and library differ in version")},
        ),
        ("gpu", ("fail", "stopped answering"), {"gpus": [gpu(faults={"memory": NvmlFault("lost", "lost")})]}),
        ("gpu-memory", ("ok", "high-end"), {}),
        ("gpu-memory", ("warn", "not advised"), {"gpus": [gpu(memory_total=8 * GIB, memory_free=8 * GIB)]}),
        (
            "gpu-memory",
            ("warn", "alice: train.py"),
            {"gpus": [gpu(memory_free=2 * GIB, holders=(GpuProcess(7, 21 * GIB, "alice", "train.py"),))]},
        ),
        ("bfloat16", ("ok", "bfloat16"), {}),
        ("bfloat16", ("warn", "fp16"), {"gpus": [gpu(compute_capability=(7, 5))]}),
        ("bfloat16", ("fail", "too old"), {"gpus": [gpu(compute_capability=(5, 2))]}),
        ("gpu-errors", ("fail", "GPU 0: 3"), {"gpus": [gpu(ecc_errors=3)]}),
        ("mig", ("warn", "not shown"), {"gpus": [gpu(mig=True)]}),
        ("visible-devices", ("ok", "2 GPUs"), {"gpus": [gpu(), gpu(index=1)]}),
        ("visible-devices", ("warn", "hides"), {"environ": {"CUDA_VISIBLE_DEVICES": "7"}}),
        ("memory", ("ok", "68.7 GB"), {}),
        ("memory", ("warn", "16 GB is the minimum"), {"ram": 8 * GIB}),
        ("terminal", ("ok", "256 colours"), {}),
        ("terminal", ("warn", "TERM=dumb"), {"environ": {"TERM": "dumb"}}),
        ("terminal", ("warn", "no UTF-8"), {"environ": {"LANG": "C", "LC_ALL": "C"}}),
        ("terminal", ("ok", "in tmux"), {"environ": {"TMUX": "/run/tmux/default,1,0"}}),
        ("clock", ("ok", "20"), {}),
        ("unsloth", ("fail", "environment of its"), {"options": DoctorOptions(provider="unsloth")}),
    ],
)
def test_each_check_tells_what_it_finds(
    check: str, expected: tuple[str, str], facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ok, warn or fail, in words, and a way out of everything that is not ok."""
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    facts, (status, message) = dict(facts), expected
    found = findings(*facts.pop("gpus", [gpu()]), **facts)[check]
    assert found.status == status, found
    assert message in found.message
    if status == "fail":
        assert found.fix


def test_checks_without_a_subject_say_nothing() -> None:
    quiet = findings(gpu())
    assert not {"gpu-errors", "mig", "visible-devices", "unsloth", "hub-access"} & set(quiet)


def test_a_check_that_breaks_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_check(facts: MachineFacts) -> DoctorFinding | None:
        raise RuntimeError("no such luck")

    findings(gpu())  # registers the real ones
    monkeypatch.setattr(registry, "CHECKS", [broken_check, *registry.CHECKS])
    found = findings(gpu())
    assert found["broken-check"].status == "warn"
    assert "no such luck" in found["broken-check"].message
    assert found["gpu"].status == "ok"


@pytest.mark.parametrize(
    ("package", "version", "suits"),
    [
        ("trl", "1.16.0", True),
        ("trl", "1.14.2", True),
        ("trl", "1.15.0", False),
        ("trl", "0.9.6", False),
        ("trl", "2.0.0", False),
        ("transformers", "4.57.1", False),
        ("torch", "2.13.0+cu126", True),
        ("torch", "2.5.1", False),
        ("datasets", "5.2.0", True),
    ],
)
def test_versions_are_held_against_their_ranges(package: str, version: str, *, suits: bool) -> None:
    assert (problem_of(package, version) is None) == suits


def test_the_ranges_are_those_of_the_package() -> None:
    """A range that is changed in pyproject.toml and not in the doctor would lie."""
    import tomllib

    from dpo_tui.hardware.doctor.python_and_torch import SUPPORTED_VERSIONS

    text = (ROOT / "pyproject.toml").read_text()
    wanted = {entry.partition(">")[0]: entry for entry in tomllib.loads(text)["project"]["dependencies"]}
    for package, allowed in SUPPORTED_VERSIONS.items():
        low = ".".join(map(str, allowed.low))
        high = ".".join(map(str, allowed.high))
        assert wanted[package].startswith(f"{package}>={low},<{high}"), package
        for broken in allowed.broken:
            assert f"!={'.'.join(map(str, broken))}" in wanted[package]


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("[Login]\nKillUserProcesses=yes\n", True),
        ("[Login]\n#KillUserProcesses=yes\n", False),
        ("KillUserProcesses=yes\nKillUserProcesses=no\n", False),
        ("", False),
    ],
)
def test_logind_is_read_as_it_reads_itself(text: str, *, kills: bool) -> None:
    assert kills_user_processes(text) is kills


def test_hub_access_is_asked_only_for_a_named_model_and_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    token = "hf_" + "s" * 30
    asked: list[str] = []

    class GatedRepoError(Exception):
        pass

    def refuse(self: Any, model: str, **kwargs: Any) -> None:
        asked.append(model)
        raise GatedRepoError(f"401 for {token}")

    monkeypatch.setattr(hub, "get_token", lambda: token)
    monkeypatch.setattr(hub.HfApi, "auth_check", refuse)
    assert "hub-access" not in findings(gpu())
    assert asked == []
    found = findings(gpu(), options=DoctorOptions(model="meta-llama/Llama-3.1-8B-Instruct"))["hub-access"]
    assert asked == ["meta-llama/Llama-3.1-8B-Instruct"]
    assert found.status == "fail"
    assert "gated" in found.message
    assert token not in found.message + found.fix


def test_a_home_that_is_no_folder_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "file" / "home"))
    found = findings()["disk-runs"]
    assert found.status == "fail" and "cannot be written" in found.message


@pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library")
def test_the_command_answers_with_a_list_and_fails_when_a_check_fails(tmp_path: Path) -> None:
    """The whole command, its child process included, on a machine with a GPU that stopped answering."""
    command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", "doctor", "--json"]
    finished = subprocess.run(
        command, env=machine("lost", tmp_path), capture_output=True, text=True, timeout=120, check=False
    )
    found = json.loads(finished.stdout)
    assert all(set(one) == {"check", "status", "message", "fix"} for one in found)
    statuses = {one["check"]: one["status"] for one in found}
    assert {"python", "packages", "torch", "gpu", "memory", "disk-runs", "clock", "terminal"} <= set(statuses)
    assert statuses["gpu"] == "fail"
    assert finished.returncode == 1


@pytest.mark.parametrize(("mode", "told"), [(0o700, False), (0o755, False), (0o777, True), (0o1777, True)])
def test_a_home_that_anyone_can_write_into_is_told(home: Path, mode: int, told: bool) -> None:
    home.mkdir()
    home.chmod(mode)
    found = findings()
    assert ("home-privacy" in found) is told
    assert not told or (str(home) in found["home-privacy"].message and "chmod" in found["home-privacy"].fix)
