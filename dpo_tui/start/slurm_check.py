"""Check before a start that Slurm will take a run: the command line, the app and `config check` all ask here."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_tui import paths
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError, RunError
from dpo_tui.hardware.job_gpu import gres_gpus
from dpo_tui.processes.child_environment import child_environment
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import slurm_commands
from dpo_tui.runs.process import host_name

if TYPE_CHECKING:
    from dpo_tui.runs.launchers.slurm_script import JobScript

# What no waiting changes, in sbatch's words (slurm_errno.c). Everything else may be right by the time the job is
# submitted, or while it waits, such as nodes that are down.
_PERMANENT = (
    "Invalid account",
    "Invalid feature specification",
    "Invalid generic resource",
    "Invalid partition",
    "Invalid qos",
    "Invalid Trackable RESource",
    "Memory specification can not be satisfied",
    "CPU count per node can not be satisfied",
    "Requested node configuration is not available",
    "Requested time limit is invalid",
    "Invalid --",
    "unrecognized option",
    "Unable to open file",
    "User's group not permitted to use this partition",
)
_SHARED_TYPES = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "orangefs"}
    | {"panfs", "pvfs2", "smb3", "wekafs", "virtiofs"}
)
_MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})
_LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/scratch/local", "/local")  # noqa: S108 - compared only


def check_launcher(config: Config) -> tuple[str, ...]:
    """Check that a run can be submitted from here as its config says.

    Returns:
        What may be right and is unusual, in sentences; empty for a run of this machine.

    Raises:
        ConfigError: Slurm is missing or will not take it; or the job's node cannot see the run's folder.
    """
    if config.launcher != "slurm":
        return ()
    if not slurm_commands.is_installed():
        raise ConfigError(
            f'launcher = "slurm": {slurm_commands.NO_SLURM}',
            hint='Start the run on a login node of the cluster; launcher = "local" starts it on this machine.',
        )
    _require_gpus_that_are_used(config)
    try:
        known = slurm_commands.partitions()
    except RunError as error:
        raise ConfigError(f'launcher = "slurm": Slurm does not answer: {error.message}') from None
    asked = (config.partition or "").split(",") if config.partition else []
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"partition = {config.partition!r}: Slurm has no partition {name!r}",
                hint=f"It has {', '.join(sorted(known))}.",
            )
    hosts = {host for name in asked or known for host in known[name]}
    notes = _check_home(hosts)
    if config.gpus != "none" and gres_gpus(config) == 0 and not _asks_otherwise(config):
        notes += (
            'The job asks for no GPU, and has one only if the partition gives it one. gres = "gpu:1" asks for one, '
            'gpus = "none" trains on the processor.',
        )
    return notes + _check_by_slurm(config)


def _require_gpus_that_are_used(config: Config) -> None:
    """Slurm would hold other GPUs for the run than it trains on, or the run would wait for GPUs that it has not."""
    count = gres_gpus(config)
    wanted = count if config.gpus == "all" else 0 if config.gpus == "none" else config.node_processes
    if count != wanted and (count or wanted > 1):
        held = "1 GPU" if count == 1 else f"{count} GPUs"
        raise ConfigError(
            f"gres = {config.gres!r} asks Slurm for {held}, and the run trains on {wanted}",
            hint="Make gpu_count in [compute] and the number in gres the same.",
        )


def script_of(config: Config, folder: RunFolder | None = None) -> "JobScript":
    """The script that a run of this config would be submitted with.

    Args:
        config: fully resolved.
        folder: the run's; a placeholder by default, since it is not made yet.
    """
    # Only for runs that are submitted: every check of a config comes through here.
    from dpo_tui.runs.launchers.slurm_script import job_script
    from dpo_tui.runs.start_run import default_worker_argv, supervisor_argv

    folder = folder or RunFolder(paths.runs() / "RUN-ID")
    argv = supervisor_argv(folder, 0, default_worker_argv(folder, sys.executable))
    return job_script(folder, config.model_dump(), argv)


def _asks_otherwise(config: Config) -> bool:
    return any(one.startswith(("--constraint", "--tres", "--exclusive")) for one in config.sbatch_options)


def _check_by_slurm(config: Config) -> tuple[str, ...]:
    """Have Slurm check the script without submitting it.

    Raises:
        ConfigError: it will never take it.
    """
    try:
        script = script_of(config)
    except RunError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    try:
        slurm_commands.run_command(
            ["sbatch", "--test-only"], environment=script.environment(child_environment()), text=script.text
        )
    except RunError as error:
        if any(words in error.message for words in _PERMANENT):
            raise ConfigError(f"Slurm does not take this job: {error.message}") from None
        return (f"Slurm could not start this job now: {error.message}",)
    return ()


def _check_home(hosts: set[str]) -> tuple[str, ...]:
    """Check that other hosts can see the run folders.

    Args:
        hosts: those of the nodes on which the job may run.

    Raises:
        ConfigError: they lie where no other host can look.
    """
    here = host_name()
    # A cluster of this one machine needs nothing shared.
    if not hosts or hosts <= {here, here.partition(".")[0], "localhost"}:
        return ()
    home = paths.home()
    kind = file_system_type(home)
    if kind in _SHARED_TYPES or kind.startswith("fuse."):
        return ()
    inside = next((folder for folder in _LOCAL_FOLDERS if Path(os.path.realpath(home)).is_relative_to(folder)), None)
    if kind in _MEMORY_TYPES or inside:
        where = f"in {inside}" if inside else f"on a {kind} file system"
        raise ConfigError(
            f"{home} lies {where}, which each node has for itself: a job on another node would not find its run",
            hint="Set DPO_TUI_HOME to a folder that all nodes share, such as one in your home directory.",
        )
    return (f"{home} lies on a {kind or 'local'} file system: that works only if the nodes see the same folder there.",)


def file_system_type(path: Path) -> str:
    """The type of the file system that holds a path, or will; empty where the system does not say."""
    real = Path(os.path.realpath(path))
    best, found = -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        # "36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw"; later mounts cover earlier ones.
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape") if "\\" in before else before.split()[4]
        if real.is_relative_to(point) and len(point) >= best:
            best, found = len(point), after.split()[0]
    return found
