"""Two hosts with a network of their own between them (network namespaces): their ranks meet, and one is cut off."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from dpo_tui.train.worker.distributed import collective_timeout
from tests.support import supervised_runs
from tests.support.repository import ROOT
from tests.support.supervised_runs import until

PORT = 29517
SCRIPT = ROOT / "tests" / "support" / "collective_steps.py"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    """A network namespace with one interface, called ``eth``."""

    name: str
    number: int

    @property
    def address(self) -> str:
        return f"10.213.7.{self.number + 1}"

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """Start torchrun's agent as `runs.launchers.slurm_nodes` does on each node, with one rank."""
        place = ["--nnodes=2", "--nproc-per-node=1", f"--node-rank={self.number}"]
        meeting = ["--master-addr=10.213.7.1", f"--master-port={PORT}"]
        own = {"GLOO_SOCKET_IFNAME": "eth", "NODE": self.name, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        agent = [sys.executable, "-m", "torch.distributed.run", *place, *meeting, str(SCRIPT), str(folder)]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *agent],
            env={**os.environ, **own, "DPO_TUI_COLLECTIVE_SECONDS": "20"},
            stdout=(folder / f"{self.number}.log").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them; skipped where the kernel does not let this user make them."""
    found = tuple(Host(f"dpo-{os.getpid()}-{number}", number) for number in (0, 1))
    try:
        try:
            for host in found:
                ip("netns", "add", host.name)
            first, second = (host.name for host in found)
            ip("link", "add", "eth", "netns", first, "type", "veth", "peer", "name", "eth", "netns", second)
            for host in found:
                ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth")
                for interface in ("lo", "eth"):
                    ip("-n", host.name, "link", "set", interface, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")
        yield found[0], found[1]
    finally:
        for host in found:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def test_a_rank_waits_half_an_hour_in_a_collective_or_as_long_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DPO_TUI_COLLECTIVE_SECONDS", raising=False)
    assert collective_timeout() == timedelta(minutes=30)
    monkeypatch.setenv("DPO_TUI_COLLECTIVE_SECONDS", "7200")
    assert collective_timeout() == timedelta(hours=2)


@pytest.mark.slow
def test_ranks_of_two_hosts_meet_and_both_end_by_the_limit_of_a_collective_when_one_is_cut_off(
    hosts: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised_runs, "PATIENCE", 180.0)
    agents = [host.start(tmp_path) for host in hosts]
    files = [tmp_path / f"{number}.steps" for number in (0, 1)]
    try:
        met = f"{['0 on ' + hosts[0].name, '1 on ' + hosts[1].name]}"
        until(lambda: all(file.exists() and file.read_text().endswith(met) for file in files), "the hosts to meet")
        ip("-n", hosts[1].name, "link", "set", "eth", "down")
        # Nothing tells either that the other is gone: no packet comes, and no connection is closed.
        until(lambda: all((tmp_path / f"{number}.end").exists() for number in (0, 1)), "both ranks to give up")
        for number in (0, 1):
            assert "did not answer in time" in (text := (tmp_path / f"{number}.end").read_text()), text
            assert "network may be cut" in text
        assert all(agent.wait(120) != 0 for agent in agents), "and torchrun with them"
    finally:
        (tmp_path / "stop").touch()
        for agent in agents:
            agent.kill()
            agent.wait()
