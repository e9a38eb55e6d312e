"""The shell command that installs the build of torch that suits this driver and these GPUs."""

from dpo_tui.processes.install_command import install_command, uses_pip

REQUIREMENT = "torch>=2.6,<3"
"""That of pyproject.toml."""
_INDEX = "https://download.pytorch.org/whl/"
"""From pytorch.org/get-started: one package index for each build."""
# The oldest CUDA of a driver with which a build runs, as nvidia-smi shows it -> the build. Builds of one major version
# of CUDA run with every driver of that version (CUDA's minor version compatibility); 12.8 is the first with code for
# Blackwell. Each of these indexes has a torch that REQUIREMENT allows.
_BUILDS = {(13, 0): "cu130", (12, 8): "cu128", (12, 0): "cu126", (11, 8): "cu118"}
_OLD_GPUS = "cu126"
"""The newest build with code for GPUs before Turing (7.5), which CUDA 13 no longer knows."""
_TURING = (7, 5)


def torch_install(cuda: tuple[int, ...], capabilities: tuple[tuple[int, int], ...] = ()) -> str:
    """The command, or what to do first where no build runs with this driver.

    Args:
        cuda: the newest version that the driver supports; empty where it is not known.
        capabilities: compute capability of each GPU.
    """
    if not uses_pip():
        # uv finds the build by itself.
        return install_command("--torch-backend=auto", "--reinstall-package", "torch", REQUIREMENT)
    build = next((build for oldest, build in _BUILDS.items() if cuda >= oldest), None)
    if build is None:
        return "update the NVIDIA driver: torch needs one that supports CUDA 11.8 or newer"
    if cuda >= (12, 8) and any(capability < _TURING for capability in capabilities):
        build = _OLD_GPUS
    return install_command("--force-reinstall", "--index-url", f"{_INDEX}{build}", REQUIREMENT)
