"""Doctor checks of main memory, container limits, disks and the clock."""

import os
import shlex
import shutil
import stat
import tempfile
import time
from pathlib import Path

from dpo_tui import paths
from dpo_tui.errors import HomeError
from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.profiles import MINIMUM_RAM_GB, format_gb
from dpo_tui.hub.cache import hub_cache

_HOME_GB = 5  # checkpoints: an adapter with its optimizer is 0.1 to 1.5 GB, two are kept, and logs and samples
_CACHE_GB = 20  # an 8B model in 16 bit is 16 GB
_SHM_GB = 0.5  # data loader processes pass batches through it; a container's default is 64 MB
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its size is looked at
_VOLUME = Path("/workspace")
"""Where rented GPU boxes mount what outlives the container."""
_SOFTWARE_DATE = 1_760_000_000  # October 2025; a clock before that is wrong


@check
def memory(facts: MachineFacts) -> DoctorFinding:
    """Whether there is enough main memory: 16 GB are the minimum."""
    shown = f"{format_gb(facts.ram.total)} of main memory, {format_gb(facts.ram.free)} free"
    if facts.ram.total < MINIMUM_RAM_GB * GB:
        message = f"{shown}; 16 GB is the minimum, and loading a 7B model may be killed."
        return DoctorFinding("memory", "warn", message, "choose a smaller model, or add swap")
    return DoctorFinding("memory", "ok", shown)


@check
def container(facts: MachineFacts) -> DoctorFinding | None:
    """Whether a container limits memory, or the shared memory that data loaders use."""
    limit = _container_limit()
    shm = _free_at(_SHARED_MEMORY)
    problems = []
    if limit is not None and limit < MINIMUM_RAM_GB * GB:
        problems.append(f"the container may use {format_gb(limit)} of memory")
    if shm is not None and shm < _SHM_GB * GB:
        problems.append(f"{_SHARED_MEMORY} has {shm / 1e6:.0f} MB free")
    if problems:
        fix = "start the container with --memory 24g --shm-size 2g, or keep dataloader_num_workers = 0"
        return DoctorFinding("container", "warn", "; ".join(problems), fix)
    if limit is not None:
        return DoctorFinding("container", "ok", f"limited to {format_gb(limit)} of memory")
    return None


@check
def disk_for_runs(facts: MachineFacts) -> DoctorFinding:
    """Disk for checkpoints."""
    fix = "export DPO_TUI_HOME=/a/larger/disk/dpo-tui"
    try:
        home = paths.home()
    except HomeError as error:
        return DoctorFinding("disk-runs", "fail", error.message, fix)
    return _disk("disk-runs", home, _HOME_GB, "checkpoints and logs", fix)


@check
def home_privacy(facts: MachineFacts) -> DoctorFinding | None:
    """Whether others may write into the home folder: who can change a run's config decides what is loaded and run."""
    try:
        home = paths.home()
        open_folders = [path for path in (home, home / "runs") if path.is_dir() and path.stat().st_mode & stat.S_IWOTH]
    except (HomeError, OSError):
        return None  # the check of the disk says so
    if not open_folders:
        return None
    named = " and ".join(map(str, open_folders))
    return DoctorFinding(
        "home-privacy",
        "warn",
        f"Anyone on this machine can write into {named}, and so change what runs load and start.",
        f"chmod -R go-rwx {shlex.quote(str(home))}",
    )


@check
def volume(facts: MachineFacts) -> DoctorFinding | None:
    """Whether runs are kept in a rented container, which is deleted with them, beside a volume that stays."""
    try:
        home = paths.home()
    except HomeError:
        return None  # the check before says so
    if not _VOLUME.is_mount() or _device_of(home) != _device_of(Path("/")):
        return None
    message = (
        f"Runs are kept in {home}, on the disk of the system; in a container they go with it. {_VOLUME} is a volume."
    )
    fix = f"export DPO_TUI_HOME={_VOLUME}/dpo-tui HF_HOME={_VOLUME}/huggingface"
    return DoctorFinding("volume", "warn", message, fix)


@check
def disk_for_models(facts: MachineFacts) -> DoctorFinding:
    """Disk for downloaded models."""
    return _disk(
        "disk-models",
        hub_cache(),
        _CACHE_GB,
        "models (an 8B model is 16 GB)",
        "export HF_HOME=/a/larger/disk/huggingface",
    )


@check
def clock(facts: MachineFacts) -> DoctorFinding:
    """Whether the clock is plausible: a wrong one breaks TLS, and the times of runs."""
    now = time.time()
    if now < _SOFTWARE_DATE:
        shown = time.strftime("%Y-%m-%d", time.localtime(now))
        return DoctorFinding(
            "clock", "fail", f"The clock says {shown}; downloads will fail.", "sudo timedatectl set-ntp true"
        )
    return DoctorFinding("clock", "ok", time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(now)))


def _disk(name: str, folder: Path, wanted: float, what: str, fix: str) -> DoctorFinding:
    if str(folder).startswith("~"):
        return DoctorFinding(name, "fail", f"{folder}: this user has no home folder (HOME is not set)", fix)
    existing = next((one for one in (folder, *folder.parents) if _exists(one)), Path("/"))
    if refusal := _refusal(existing):
        message = f"{existing} cannot be written ({refusal}), and {what} belong there"
        return DoctorFinding(name, "fail", message, fix)
    free = _free_at(existing)
    if free is None:
        return DoctorFinding(name, "warn", f"the free space of {existing} cannot be read", fix)
    if free < wanted * GB:
        status = "fail" if free < wanted * GB / 10 else "warn"
        message = f"{format_gb(free)} free at {existing} for {what}; {wanted} GB is comfortable"
        return DoctorFinding(name, status, message, fix)  # type: ignore[arg-type]
    return DoctorFinding(name, "ok", f"{format_gb(free)} free at {existing} for {what}")


def _exists(path: Path) -> bool:
    """Whether something is there; what lies in a folder that cannot be searched counts as not there."""
    try:
        return path.exists()
    except OSError:
        return False


def _refusal(folder: Path) -> str:
    """Why no file can be made in a folder; empty where one can.

    A file is made, and not `os.access` asked: root is told that it may write where a network disk then refuses it.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _device_of(path: Path) -> int | None:
    """The file system of a path, or of the nearest folder above it that is there."""
    existing = next((one for one in (path, *path.parents) if _exists(one)), None)
    return existing.stat().st_dev if existing else None


def _free_at(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _container_limit() -> int | None:
    """The container's memory limit in bytes (cgroup v2, then v1); None without one."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit < physical:
            return limit
    return None
