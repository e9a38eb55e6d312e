"""Child that merges the adapter of a run into its ``merged/`` folder, for a next stage to train from."""

import sys
from pathlib import Path
from typing import Any

import torch

from dpo_tui.config.files import load
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.merged_model import write_merged_folder
from dpo_tui.train.model.verified_code import trust_code_of
from dpo_tui.train.tools.json_service import Send, serve


def merge_run(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request to merge.

    Args:
        request: ``run`` (folder).
        send: receives progress.

    Returns:
        ``merged``, the folder, and ``check``, the result of the merge check in a sentence.

    Raises:
        TrainingError: the run has no adapter, its base model cannot be found, or the merged model does not agree with
            base and adapter.
    """
    folder = RunFolder(Path(request["run"]))
    config = load(folder.config).config
    trust_code_of(config)
    check = write_merged_folder(
        config,
        folder,
        torch.bfloat16 if config.bf16 else torch.float16 if config.fp16 else torch.float32,
        lambda what, done, total: send("progress", {"message": what, "done": done, "total": total}),
    )
    send("progress", {"message": f"Merged. {check}", "done": 0, "total": None})
    return {"merged": str(folder.merged), "check": check}


if __name__ == "__main__":
    sys.exit(serve(merge_run))
