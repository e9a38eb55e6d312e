"""One rank that joins the others and then agrees with them on flags, step after step, as a worker does after each step.

python collective_steps.py FOLDER     writes FOLDER/N.steps, and FOLDER/N.end with the words for the error that ended it
"""

import os
import sys
import time
from pathlib import Path

from dpo_tui.runs.ranks import Rank
from dpo_tui.train.worker.distributed import AllReduceAny, join_ranks, values_of_ranks
from dpo_tui.train.worker.failures import peer_lost


def main(folder: Path) -> None:
    """Go on until a collective fails."""
    me = Rank.from_environment()
    steps, end = folder / f"{me.rank}.steps", folder / f"{me.rank}.end"
    try:
        join_ranks(me, on_gpu=False)
        met = values_of_ranks(f"{me.rank} on {os.environ['NODE']}")
        number = 0
        while not (folder / "stop").exists():
            assert AllReduceAny()((me.is_first, False)) == (True, False)
            number += 1
            steps.write_text(f"{number} {met}")
            time.sleep(0.05)
    except Exception as error:  # whatever gloo or torch raises
        failure = peer_lost(error)
        end.write_text(f"{failure.message}; {failure.hint}" if failure else repr(error))
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
