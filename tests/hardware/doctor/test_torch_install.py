"""The command that installs a build of torch which suits the driver."""

import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from dpo_tui.hardware.doctor import python_and_torch
from dpo_tui.hardware.doctor.python_and_torch import SUPPORTED_VERSIONS, requirement_of
from dpo_tui.hardware.doctor.torch_install import REQUIREMENT, torch_install
from tests.support.doctor_facts import TORCH, findings, gpu
from tests.support.repository import ROOT

PIP = f"{sys.executable} -m pip install"


@pytest.mark.parametrize(
    ("cuda", "capabilities", "build"),
    [
        ((13, 2), ((9, 0),), "cu130"),
        ((13, 0), ((7, 0),), "cu126"),  # CUDA 13 has no code for Volta
        ((12, 8), ((12, 0),), "cu128"),
        ((12, 8), ((7, 0), (8, 0)), "cu126"),
        ((12, 4), ((8, 6),), "cu126"),
        ((12, 0), (), "cu126"),
        ((11, 8), ((8, 0),), "cu118"),
    ],
)
def test_the_index_is_that_of_the_driver(
    cuda: tuple[int, int], capabilities: tuple[tuple[int, int], ...], build: str
) -> None:
    command = torch_install(cuda, capabilities)
    assert command == f"{PIP} --force-reinstall --index-url https://download.pytorch.org/whl/{build} 'torch>=2.6,<3'"


@pytest.mark.parametrize("cuda", [(11, 4), (10, 2), ()])
def test_a_driver_that_no_build_runs_with_is_to_be_updated(cuda: tuple[int, ...]) -> None:
    assert torch_install(cuda).startswith("update the NVIDIA driver")


def test_an_environment_without_pip_gets_uvs_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torch_install((12, 4)) == (
        f"uv pip install --python {sys.executable} --torch-backend=auto --reinstall-package torch 'torch>=2.6,<3'"
    )


@pytest.mark.parametrize(
    "stack",
    [
        TORCH | {"cuda_build": None, "available": False},
        TORCH | {"cuda_build": "13.0", "available": False},
        {"torch_error": "ImportError: libcudart.so.13"},
        TORCH | {"architectures": ["sm_100", "sm_120"]},
    ],
)
def test_the_doctor_names_the_whole_command(stack: dict[str, object]) -> None:
    found = findings(gpu(cuda="12.4", compute_capability=(8, 9)), stack=stack)
    failed = [one for one in (found["torch"], found.get("device-support")) if one and one.status == "fail"]
    assert failed and all(
        f"{PIP} --force-reinstall --index-url https" in one.fix and "cu126" in one.fix for one in failed
    )


def test_missing_packages_are_installed_without_touching_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        if name in ("torch", "trl"):
            raise PackageNotFoundError(name)
        return ".".join(map(str, SUPPORTED_VERSIONS[name].low))

    monkeypatch.setattr(python_and_torch, "version", version)
    fix = findings(gpu(cuda="12.8"))["packages"].fix
    assert fix == f"{torch_install((12, 8), ((8, 9),))} && {PIP} 'trl>=1.14,<2,!=1.15.0'"


def test_the_ranges_are_those_of_the_project_and_keep_the_torch_of_an_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {found.name: found for found in map(Requirement, project["dependencies"])}
    for name in SUPPORTED_VERSIONS:
        assert declared[name].specifier == Requirement(requirement_of(name)).specifier, name
    assert Requirement(REQUIREMENT).specifier == declared["torch"].specifier
    # pip counts an installed pre-release, as in NVIDIA's images, like any other version.
    for image in ("2.6.0+cu124", "2.8.0+cu128", "2.7.0a0+7c8ec84dab.nv25.03", "2.13.0+rocm7.0"):
        assert declared["torch"].specifier.contains(image, prereleases=True), image
