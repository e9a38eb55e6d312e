"""Stand-ins for torchrun (the agent) and for its ranks, without torch, for tests of launchers.

python standin_ranks.py agent N COMMAND…     start COMMAND as N ranks; exit code 1 if any fails, as torchrun
python standin_ranks.py rank RUN_DIR [options]
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dpo_tui.runs import control_requests, exit_codes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import set_pdeathsig
from dpo_tui.runs.ranks import Rank, RankReporter

PARSER = argparse.ArgumentParser()
PARSER.add_argument("folder", type=Path)
PARSER.add_argument("--failing", type=int, default=-1, help="this rank fails, in the first attempt")
PARSER.add_argument("--code", type=int, default=exit_codes.FAILED, help="with this code; -9: by SIGKILL")
PARSER.add_argument("--hold", action="store_true", help="wait for a request to stop")


def agent(count: int, command: list[str]) -> int:
    """Start the ranks, pass SIGTERM on, and end the others when one fails."""
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    ranks = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": str(count)})
        for n in range(count)
    ]
    passed_on = False
    while any(rank.poll() is None for rank in ranks):
        if not passed_on and (signals or any(rank.poll() for rank in ranks)):
            passed_on = True
            for rank in ranks:
                rank.terminate()
        time.sleep(0.01)
    return 1 if any(rank.returncode for rank in ranks) else 0


def rank(arguments: list[str]) -> int:
    """Behave as the options say; the return value is the exit code."""
    options = PARSER.parse_args(arguments)
    folder, me = RunFolder(options.folder), Rank.from_environment()
    reporter = RankReporter(folder, me)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    set_pdeathsig()
    reporter.beat_in_background()
    reporter.heartbeat("train", step=1)
    first_attempt = "DPO_TUI_MICRO_BATCH" not in os.environ
    if me.rank == options.failing and first_attempt:
        if options.code < 0:
            os.kill(os.getpid(), -options.code)
        reporter.ended(options.code, "the loss is no number", "Lower the learning rate.")
        return int(options.code)
    wait = options.hold or (options.failing >= 0 and first_attempt)
    while wait and not signals and not control_requests.is_requested(folder, control_requests.STOP):
        time.sleep(0.01)
    code = exit_codes.STOPPED if wait else exit_codes.DONE
    reporter.ended(code)
    return code


if __name__ == "__main__":
    if sys.argv[1] == "agent":
        sys.exit(agent(int(sys.argv[2]), sys.argv[3:]))
    sys.exit(rank(sys.argv[2:]))
