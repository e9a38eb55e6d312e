"""A launcher whose ranks are started by a stand-in for torchrun, which needs no torch: one module, one row.

    python ranks_launcher.py RUN_DIR [--attempt N] -- WORKER ARGV…     the supervisor, with this launcher registered

TESTS_AGENT chooses what starts the ranks: the stand-in by default, or ``torchrun``, as in the product.
"""

import os
import sys
from pathlib import Path

from dpo_tui.runs import supervisor
from dpo_tui.runs.launchers import registry
from dpo_tui.runs.launchers.torchrun import TorchrunLauncher
from dpo_tui.runs.state import State

STANDIN = Path(__file__).with_name("standin_ranks.py")


class RanksLauncher(TorchrunLauncher):
    """Starts the ranks as the product does, by the agent that the test chooses."""

    def agent(self, state: State, worker_argv: list[str]) -> list[str]:
        """The stand-in's command, or torchrun's."""
        if os.environ.get("TESTS_AGENT") == "torchrun":
            return super().agent(state, worker_argv)
        return [sys.executable, str(STANDIN), "agent", str(state.ranks), *worker_argv]


if __name__ == "__main__":
    registry.LAUNCHERS["ranks"] = "tests.support.ranks_launcher:RanksLauncher"
    sys.exit(supervisor.main(sys.argv[1:]))
