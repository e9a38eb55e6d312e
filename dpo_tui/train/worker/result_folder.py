"""The folder of a run's result appears complete, alive and on the disk, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dpo_tui.runs.ranks import Rank


def save_result(save: Callable[[str], None], target: Path, rank: Rank, check: Callable[[Path], None]) -> None:
    """Save adapter (or model) and tokenizer.

    Args:
        save: writes the files into a folder; called by every rank, since sharded weights are gathered from all.
        target: the folder.
        rank: this process; rank 0 writes.
        check: of the saved files, before they are the result; raises where they are not what was trained.
    """
    partial = target.with_name(f".{target.name}.partial")
    if not rank.is_first:
        save(str(partial))
        return
    shutil.rmtree(partial, ignore_errors=True)
    save(str(partial))
    # Trainer pickles its arguments into this file; a result must load without unpickling anything.
    (partial / "training_args.bin").unlink(missing_ok=True)
    try:
        check(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
