"""What a run does not import because it has no use for it: seconds of its start."""

import json
import sys
from pathlib import Path

from dpo_tui.config.schema import Config

_USES_BITSANDBYTES = ("8bit", "paged")


def skip_bitsandbytes(config: Config) -> bool:
    """Keep PEFT from importing bitsandbytes, where neither the weights nor the optimizer need it.

    PEFT imports it wherever it is installed, and it brings torch's compiler along: 1.5 of 7 processor seconds of the
    worker's imports. Only a model whose own config is at hand is known not to need it.

    Returns:
        Whether it is spared. Call this before PEFT is imported.
    """
    if config.use_4bit or any(word in config.optim for word in _USES_BITSANDBYTES) or "bitsandbytes" in sys.modules:
        return False
    try:
        described = json.loads((Path(config.model_name) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(described, dict) or "quantization_config" in described:
        return False
    # As if it were not installed.
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    return True
