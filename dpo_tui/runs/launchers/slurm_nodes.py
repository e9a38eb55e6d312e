"""The launcher of a run on several nodes of a Slurm job: srun starts torchrun's agent on each, which meet on the first.

Before that every node is asked whether it sees the run's folder and has as many GPUs as the others: else the ranks of
one would write where nobody looks, or wait for ranks that never come. Standard library only.
"""

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import slurm_commands
from dpo_tui.runs.launchers.launcher import Command, Worker
from dpo_tui.runs.launchers.node_probe import PROBE
from dpo_tui.runs.launchers.torchrun import TorchrunLauncher, TorchrunWorker
from dpo_tui.runs.launchers.worker_environment import worker_environment
from dpo_tui.runs.process import PARENT_PID_VARIABLE, host_name
from dpo_tui.runs.ranks import RankReport, delete_reports
from dpo_tui.runs.state import State, read_state
from dpo_tui.text.plain_documents import parse_json

PORT_VARIABLE = "DPO_TUI_RENDEZVOUS_PORT"
"""Environment variable: the port on the first node where the nodes meet; a free one by default."""
_PROBE_DEADLINE = 120.0
"""Seconds in which every node has answered: a node may have to load Python from a busy file system."""
_LAST_PORT = 65535


@dataclass(frozen=True)
class NodeAnswer:
    """What one node says of itself (`dpo_tui.runs.launchers.node_probe`).

    Args:
        node: its name.
        sees_folder: whether the run's folder is the same one there.
        gpus: how many GPUs the job has on it.
    """

    node: str
    sees_folder: bool
    gpus: int


class NodesLauncher(TorchrunLauncher):
    """Starts the ranks of a run on all nodes of the job in which this process runs.

    Args:
        nodes: how many there are, each with as many ranks.
    """

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        """Ask every node, and return the command that starts the agents.

        Raises:
            RunError: the nodes cannot train together; the reason names them.
        """
        require_alike(folder, self._ask_nodes(folder, worker_argv[0]), self.nodes)
        delete_reports(folder)
        environment = worker_environment(state)
        # Those of the first node; on each, its step of the job has its own.
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        environment.setdefault("OMP_NUM_THREADS", "1")
        ends_with_supervisor = [worker_argv[0], "-P", "-m", "dpo_tui.runs.launchers.end_with_parent"]
        return Command([*ends_with_supervisor, *self.agent(state, worker_argv)], environment)

    def agent(self, state: State, worker_argv: list[str]) -> list[str]:
        """The command that starts an agent on every node, each with its share of the ranks."""
        place = f"--nnodes={self.nodes} --nproc-per-node={state.ranks // self.nodes}"
        meeting = f"--master-addr={host_name()} --master-port={rendezvous_port()}"
        # srun gives all nodes the same words. The shell of each fills in which one it is, so that rank 0 is on the
        # first, and, since exec keeps its pid, which process the ranks must end with: srun's pid means nothing there.
        here = f'export {PARENT_PID_VARIABLE}=$$; node="$SLURM_PROCID"'
        script = f'{here}; exec "$0" -P -m torch.distributed.run {place} --node-rank="$node" {meeting} --no-python "$@"'
        return [*self._srun(), "/bin/sh", "-c", script, worker_argv[0], *worker_argv]

    def start(self, folder: RunFolder, command: Command) -> Worker:
        """Start the agents."""
        state = read_state(folder)
        return NodesWorker(folder, command, state.ranks if state else self.nodes)

    def _srun(self) -> list[str]:
        # When the agent of one node ends badly, those of the others would wait for its ranks.
        counts = [f"--nodes={self.nodes}", f"--ntasks={self.nodes}", "--ntasks-per-node=1"]
        return ["srun", *counts, "--kill-on-bad-exit=1", "--input=none"]

    def _ask_nodes(self, folder: RunFolder, python: str) -> list[NodeAnswer]:
        token = secrets.token_hex(16)
        probe = folder.path / PROBE
        probe.write_text(token, encoding="utf-8")
        argv = [*self._srun(), python, "-P", "-m", "dpo_tui.runs.launchers.node_probe", str(folder.path), token]
        try:
            output = slurm_commands.run_command(argv, deadline=_PROBE_DEADLINE)
        except RunError as error:
            raise RunError(f"the nodes of the job cannot be asked what they see: {error.message}") from None
        finally:
            probe.unlink(missing_ok=True)
        return parse_answers(output)


class NodesWorker(TorchrunWorker):
    """The agents of all nodes, as one srun."""

    def kill(self) -> None:
        """SIGKILL to what runs here, and to the job's steps: srun's own death reaches no other node."""
        super().kill()
        _kill_steps()

    def end_hung(self, report: RankReport) -> None:
        """End a rank that hangs: on another node with its whole step."""
        if report.host == host_name():
            super().end_hung(report)
        else:
            _kill_steps()


def parse_answers(output: str) -> list[NodeAnswer]:
    """Read the lines of `node_probe`; what else a node printed is passed over."""
    found = []
    for line in output.splitlines():
        try:
            document: Any = parse_json(line)
        except ValueError:
            continue
        if isinstance(document, dict) and isinstance(document.get("node"), str):
            gpus = document.get("gpus")
            sees = document.get("sees_folder") is True
            found.append(NodeAnswer(document["node"], sees, gpus if isinstance(gpus, int) else 0))
    return sorted(found, key=lambda answer: answer.node)


def require_alike(folder: RunFolder, answers: Sequence[NodeAnswer], nodes: int) -> None:
    """Refuse nodes that cannot train together.

    Raises:
        RunError: one did not answer, has another folder, or another number of GPUs.
    """
    if len(answers) != nodes:
        heard = ", ".join(answer.node for answer in answers) or "none"
        raise RunError(f"{len(answers)} of {nodes} nodes answered ({heard}): the others cannot start Python as here")
    blind = [answer.node for answer in answers if not answer.sees_folder]
    if blind:
        raise RunError(
            f"{', '.join(blind)} {'does' if len(blind) == 1 else 'do'} not see the run's folder {folder.path}",
            hint="Set DPO_TUI_HOME to a folder that all nodes share.",
        )
    if len({answer.gpus for answer in answers}) > 1:
        counts = ", ".join(f"{answer.node} {answer.gpus}" for answer in answers)
        raise RunError(
            f"the job has unlike numbers of GPUs on its nodes: {counts}",
            hint="Ask for as many on each: gres counts those of one node.",
        )


def rendezvous_port() -> int:
    """A free port of this machine, or the one that `PORT_VARIABLE` names.

    Raises:
        RunError: that one is no port, or in use.
    """
    asked = os.environ.get(PORT_VARIABLE, "")
    if asked and not (asked.isdigit() and 0 < int(asked) <= _LAST_PORT):
        raise RunError(f"{PORT_VARIABLE}={asked} is no port", hint="Set one from 1024 to 65535, or leave it out.")
    with socket.socket() as listening:
        try:
            listening.bind(("", int(asked or 0)))
        except OSError as error:
            raise RunError(
                f"port {asked} of {host_name()}, where the nodes are to meet, cannot be used: {error.strerror}",
                hint=f"Set {PORT_VARIABLE} to another, or leave it out: a free one is found then.",
            ) from None
        port: int = listening.getsockname()[1]
    return port


def _kill_steps() -> None:
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None:
        slurm_commands.kill_steps(job)
