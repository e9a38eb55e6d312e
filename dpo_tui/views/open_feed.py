"""Choose the feed for a folder: a run folder of this app, or the output folder of another trainer."""

from pathlib import Path

from dpo_tui.errors import UsageError
from dpo_tui.paths import expanded
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.foreign_feed import ForeignFeed, holds_foreign_run
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.views.trainer_log import LOG_NAMES


def open_feed(path: Path) -> Feed:
    """Make the feed for a folder, or for the folder of a file.

    Raises:
        UsageError: the path does not exist, or there is nothing in it to show.
    """
    path = expanded(path).absolute()
    if not path.exists():
        raise UsageError(f"{path} does not exist", hint="Give a run folder, or a trainer's output folder.")
    folder = path if path.is_dir() else path.parent
    if (folder / "state.json").is_file() or (folder / "metrics.jsonl").is_file():
        return RunFeed(RunFolder(folder))
    if holds_foreign_run(folder):
        return ForeignFeed(folder)
    raise UsageError(
        f"{path} holds nothing to watch",
        hint="dpo-tui reads metrics.jsonl, trainer_state.json (also in checkpoint-N), TensorBoard event files, and the "
        f"logs of LLaMA-Factory and ms-swift ({', '.join(LOG_NAMES)}).",
    )
