"""The doctor on a login node: which partitions there are, without asking where there is no cluster."""

import os
from pathlib import Path

import pytest

from dpo_tui.hardware.doctor.registry import DoctorFinding
from tests.support.doctor_facts import findings


def slurm_finding(folder: Path, monkeypatch: pytest.MonkeyPatch, sinfo: str, **environ: str) -> DoctorFinding | None:
    for name, body in (("sinfo", sinfo), ("sbatch", "exit 1")):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found = findings(environ={"TERM": "xterm", **environ})
    return found.get("slurm")


def test_partitions_are_named_with_their_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "printf 'gpu|gpu:a100:4(S:0-1)\\ngpu|gpu:h100:8\\ncpu|(null)\\n'"
    found = slurm_finding(tmp_path, monkeypatch, answer, SLURM_CONF="/x")
    assert found is not None and found.status == "ok"
    assert found.message == 'partitions cpu, gpu (gpu:a100:4, gpu:h100:8); launcher = "slurm" submits runs as jobs'


def test_a_controller_that_does_not_answer_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1"
    found = slurm_finding(tmp_path, monkeypatch, answer, SLURM_CONF="/x")
    assert found is not None and found.status == "warn" and "Unable to contact slurm controller" in found.message


def test_a_machine_with_slurms_commands_and_no_cluster_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(path.exists() for path in (Path("/etc/slurm/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))):
        pytest.skip("this machine belongs to a cluster")
    assert slurm_finding(tmp_path, monkeypatch, f"touch {tmp_path}/asked") is None
    assert not (tmp_path / "asked").exists()
