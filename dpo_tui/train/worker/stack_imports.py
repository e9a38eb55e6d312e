"""Faster imports of the training stack: no bitsandbytes where nothing needs it, no garbage collection meanwhile."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.text.plain_documents import parse_json

# In the names of transformers' optimizers that bitsandbytes implements.
_BITSANDBYTES_OPTIMIZERS = ("8bit", "paged")


@contextmanager
def gc_paused() -> Iterator[None]:
    """Import without garbage collection, and leave what was imported out of every later one.

    Collections take a sixth of the time of the imports, and find nothing: modules stay.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def skip_bitsandbytes(config: Config) -> bool:
    """Keep PEFT from importing bitsandbytes where neither the weights nor the optimizer need it.

    PEFT imports it wherever it is installed, and bitsandbytes imports torch's compiler: 1.5 of the 7 CPU seconds of
    the worker's imports. Only a model whose config.json is on this machine is known not to need it.

    Call this before PEFT is imported.

    Returns:
        Whether the import is skipped.
    """
    optimizer_needs_it = any(part in config.optim for part in _BITSANDBYTES_OPTIMIZERS)
    quantised = config.use_4bit or "quantization_config" in config.model_init
    if quantised or optimizer_needs_it or "bitsandbytes" in sys.modules:
        return False
    # The reference may be held in 4 bits by files of its own where the policy is not.
    models = [config.model_name, *([config.ref_model] if config.ref_model else [])]
    if config.ref_adapter or not all(map(_is_known_unquantised, models)):
        return False
    # An entry of None makes `import bitsandbytes` raise ModuleNotFoundError, as if it were not installed.
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    return True


def _is_known_unquantised(model: str) -> bool:
    try:
        model_config = parse_json((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(model_config, dict) and "quantization_config" not in model_config
