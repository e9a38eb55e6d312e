"""The rows of configs with their checks, read once for all configs that read the same: those of a sweep mostly do."""

import hashlib
from typing import Any

from dpo_tui.config.schema import SECTIONS, Config
from dpo_tui.data.load_split import Split, split_of
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.start.trained_text_check import check_trained_text

_READ_BY_TRAINING_ALONE = frozenset(
    name
    for table in ("lora", "training", "dpo", "kto", "cpo", "compute", "slurm", "peft")
    for name in SECTIONS[table].model_fields
) - {"seed"}
"""Settings that say how rows are trained on, and not which or how they are read. The seed chooses those held out."""
_NEITHER = frozenset({"name", "report_to", "eval_steps", "kl_prompts", "kl_max_new_tokens", "kl_stop", "load_best"})


class CheckedRows:
    """Reads and checks the rows of configs, each data once."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Split[Any], tuple[TemplateFinding, ...]]] = {}

    def of(self, config: Config) -> tuple[Split[Any], tuple[TemplateFinding, ...]]:
        """A config's rows, and what is wrong with the text that its chat template makes of them.

        Raises:
            ConfigError: its tokenizer cannot be used.
            DataError: the data cannot be read, has no usable row, or none that fits.
        """
        key = reading_key(config)
        if key not in self._found:
            split: Split[Any] = split_of(config, download=False)
            self._found[key] = (split, check_trained_text(config, split))
        return self._found[key]


def reading_key(config: Config) -> str:
    """A digest of the settings that decide which rows are read, and which text and tokens they become.

    A setting that is not known to be read by training alone counts: at worst data are read twice.
    """
    ignored = _READ_BY_TRAINING_ALONE | _NEITHER
    kept = {name: value for name, value in sorted(config.model_dump().items()) if name not in ignored}
    return hashlib.sha256(repr(kept).encode("utf-8", "surrogatepass")).hexdigest()[:16]
