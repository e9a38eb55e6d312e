"""A real Slurm of two nodes on this machine, for tests: munged, slurmctld and two slurmd of their own, in one folder.

Debian's packages `slurm-wlm` and `munge` have them. Everything runs as the user of the tests, on free ports.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.supervised_runs import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo", "scancel")
NODE_MEMORY = 4000
"""Megabytes that each node says it has."""

CONFIG = """\
ClusterName=tests
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{limits}
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=1
KillWait=5
MinJobAge=600
SlurmdTimeout=10
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory={memory}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory={memory}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes=n1,n2 State=DOWN
"""
POLLED_MEMORY = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill"""
"""slurmstepd looks at a job's memory every second and ends the whole job: needs no rights."""
LIMITED_MEMORY = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup"""
"""The kernel limits a job's memory and kills the process that goes over it, as on most clusters: needs root."""
CGROUPS = "CgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nConstrainRAMSpace=yes\nAllowedSwapSpace=0\n"


class SlurmCluster:
    """The daemons and their folder.

    Args:
        folder: of its own.
        limits: the lines of slurm.conf that say how a job's memory is limited.
    """

    def __init__(self, folder: Path, limits: str = POLLED_MEMORY) -> None:
        self.folder = folder
        self._limits = limits
        self.config = folder / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything; return when both nodes are idle."""
        munge = self.folder / "munge"
        for path in (munge, self.folder / "state"):
            path.mkdir()
        # munged's clients must be able to pass; whatever pytest's umask is.
        self.folder.chmod(0o755)
        munge.chmod(0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = _free_ports(3)
        self.config.write_text(
            CONFIG.format(
                host=os.uname().nodename.partition(".")[0],
                limits=self._limits,
                user=_user(),
                folder=self.folder,
                memory=NODE_MEMORY,
                controller=ports[0],
                first=ports[1],
                second=ports[2],
            )
        )
        self._start(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket"),
            *(f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        )
        if self._limits == LIMITED_MEMORY:
            (self.folder / "cgroup.conf").write_text(CGROUPS)
        until((munge / "socket").exists, "munged")
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.config))
        for node in ("n1", "n2"):
            self.start_node(node)
        until(lambda: self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * 2, "the nodes")

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start(node, "slurmd", "-D", "-f", str(self.config), "-N", node)

    def kill_node(self, node: str, job_of: str) -> None:
        """Take a node away as a power cut does, with the processes of a job on it; return when Slurm has noticed."""
        daemon = self._daemons.pop(node)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        for pid in self.processes_of(job_of):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def processes_of(self, job: str) -> list[int]:
        """The processes of a job, its slurmstepd included."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (path / "environ").read_bytes()
                command = (path / "cmdline").read_bytes()
                ours = str(self.folder).encode() in environment
                if ours and (f"SLURM_JOB_ID={job}\0".encode() in environment or f"[{job}.".encode() in command):
                    found.append(int(path.name))
        return found

    def command(self, *argv: str) -> str:
        """The output of one of Slurm's commands; empty where it fails."""
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False).stdout

    def state_of(self, job: str) -> str:
        """The state of a job, as squeue spells it; empty while it cannot be asked."""
        return self.command("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def idle(self) -> None:
        """Cancel every job, and wait until the nodes have nothing to do."""
        self.command("scancel", "--user", _user())
        for node in ("n1", "n2"):
            if node not in self._daemons:
                self.start_node(node)
                self.command("scontrol", "update", f"nodename={node}", "state=resume")
        until(lambda: not self.command("squeue", "-h").strip(), "the queue to be empty")
        until(lambda: self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * 2, "the nodes")

    def stop(self) -> None:
        """End the daemons and what they have started."""
        self.command("scancel", "--user", _user())
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, name: str, *argv: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as output:
            self._daemons[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": _path(), "SLURM_CONF": str(self.config)},
            )


@pytest.fixture(scope="session", name="slurm_daemons")
def cluster_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """The cluster of a session of tests; they are skipped where it cannot start."""
    cluster = _started(SlurmCluster(tmp_path_factory.mktemp("slurm")))
    yield cluster
    cluster.stop()


@pytest.fixture(name="limiting_slurm")
def cluster_with_cgroups(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of a test's own in which the kernel limits the memory of jobs; skipped where cgroups cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can make cgroups")
    cluster = _started(SlurmCluster(tmp_path_factory.mktemp("slurm-cgroups"), LIMITED_MEMORY))
    monkeypatch.setenv("SLURM_CONF", str(cluster.config))
    monkeypatch.setenv("PATH", _path())
    yield
    cluster.stop()


@pytest.fixture(name="slurm")
def idle_cluster(slurm_daemons: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """The cluster with both nodes idle; commands and runs of the test find it."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_daemons.config))
    monkeypatch.setenv("PATH", _path())
    monkeypatch.setattr("dpo_tui.runs.launchers.slurm_refresh.REFRESH_INTERVAL", 0.3)
    slurm_daemons.idle()
    yield slurm_daemons
    slurm_daemons.idle()


def _started(cluster: SlurmCluster) -> SlurmCluster:
    if missing := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        pytest.skip(f"no {', '.join(missing)}: Debian's packages slurm-wlm and munge have them")
    try:
        cluster.start()
    except (AssertionError, OSError) as error:
        logs = "\n".join(path.read_text(errors="replace")[-500:] for path in cluster.folder.glob("*.out"))
        cluster.stop()
        pytest.skip(f"Slurm could not be started here: {error}\n{logs}")
    return cluster


def _path() -> str:
    """Debian installs the daemons where only root's PATH looks."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
