"""The folder of a run's result appears complete, alive and on the disk, or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dpo_tui.runs.atomic_files import fsync_folder, fsync_tree
from dpo_tui.runs.ranks import Rank


def publish(partial: Path, target: Path) -> None:
    """Give a complete folder its final name, and replace what an earlier attempt left under it.

    Its files are on the disk before the name is, and both before the run is recorded as done: a power cut must not
    leave a run that is done without its result.

    Raises:
        OSError: the disk could not take it; an earlier folder of the name may be gone by then.
    """
    fsync_tree(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    fsync_folder(target.parent)


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
    publish(partial, target)
