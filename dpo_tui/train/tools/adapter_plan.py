"""Child that says, before a run starts, what the adapter of its config adapts, and whether it can be merged."""

import sys
from pathlib import Path
from typing import Any

from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError, TrainingError
from dpo_tui.train.export.planned_adapter import plan_adapter
from dpo_tui.train.model.load import lora_config
from dpo_tui.train.tools.json_service import Send, serve


def check(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for a check.

    Args:
        request: ``model`` (a folder), ``settings`` (those of the config that shape the adapter),
            ``merge`` (whether the adapter has to be merged).
        send: not used: there is no progress to report.

    Returns:
        ``absent``, names of target modules that match nothing.

    Raises:
        DpoTuiError: there can be no such adapter, or it cannot be merged.
    """
    config = from_values({**request["settings"], "model_name": request["model"], "dataset": "-"})
    try:
        settings = lora_config(config)
    except TrainingError as error:
        raise ConfigError(error.message, hint=error.hint) from error
    return {"absent": plan_adapter(Path(request["model"]), settings, merge=bool(request["merge"]))}


if __name__ == "__main__":
    sys.exit(serve(check))
