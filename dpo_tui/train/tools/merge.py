"""Write the ``merged/`` of a run that has only its adapter, for a next stage to train from."""

import sys
from pathlib import Path
from typing import Any

import torch

from dpo_tui.config.files import load
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.merged_model import write_merged_folder
from dpo_tui.train.tools.json_service import Tell, serve


def merge_run(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Merge the run whose folder ``run`` names; the result names the merged folder."""
    folder = RunFolder(Path(request["run"]))
    config = load(folder.config).config
    write_merged_folder(
        config,
        folder,
        torch.bfloat16 if config.bf16 else torch.float32,
        lambda done, total: tell("progress", {"message": "Merging", "done": done, "total": total}),
    )
    return {"merged": str(folder.merged)}


if __name__ == "__main__":
    sys.exit(serve(merge_run))
