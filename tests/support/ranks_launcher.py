"""A launcher of several ranks, and an example of how a launcher is added: one module and one row of the registry.

    python ranks_launcher.py RUN_DIR [--attempt N] -- WORKER ARGV…     the supervisor, with this launcher registered

TESTS_AGENT chooses what starts the ranks: the stand-in by default, or ``torchrun``.
"""

import os
import sys
from pathlib import Path

from dpo_tui.runs import supervisor
from dpo_tui.runs.exit_codes import WorkerEnd
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers import registry
from dpo_tui.runs.launchers.launcher import Command, Worker
from dpo_tui.runs.launchers.local import LocalLauncher, LocalWorker
from dpo_tui.runs.launchers.worker_environment import worker_environment
from dpo_tui.runs.ranks import end_of_ranks, forget_reports, read_reports
from dpo_tui.runs.state import State

RANKS = 2
STANDIN = Path(__file__).with_name("standin_ranks.py")
AGENTS = {
    "": [str(STANDIN), "agent", str(RANKS), sys.executable],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)],
}


class RanksLauncher(LocalLauncher):
    """Starts RANKS processes of the worker's command, which is Python's."""

    def prepare(self, folder: RunFolder, state: State, worker_argv: list[str]) -> Command:
        forget_reports(folder)
        wrapped = [sys.executable, "-P", "-m", "dpo_tui.runs.launchers.end_with_parent", sys.executable]
        return Command(
            [*wrapped, *AGENTS[os.environ.get("TESTS_AGENT", "")], *worker_argv[1:]], worker_environment(state)
        )

    def start(self, folder: RunFolder, command: Command) -> Worker:
        return RanksWorker(folder, command)


class RanksWorker(LocalWorker):
    """Ends as its ranks report, unless the agent that started them was killed: then they may not have ended yet."""

    def end(self, returncode: int) -> WorkerEnd:
        if returncode < 0:
            return super().end(returncode)
        reports = read_reports(self._folder)
        return end_of_ranks(reports, RANKS) if reports else super().end(returncode)


if __name__ == "__main__":
    registry.LAUNCHERS["ranks"] = "tests.support.ranks_launcher:RanksLauncher"
    sys.exit(supervisor.main(sys.argv[1:]))
