"""Paths of the demo's model, pairs and config inside the installed package. Standard library only.

`scripts/build_demo.py` builds them; docs/demo.md says how, and what the toy model can do.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

SHOWCASE: tuple[str, str, str] = (
    "When I opened the parcel, my new water bottle was broken and full of scratches. What should I do?",
    "Hi there. My computer says that my account is locked after too many attempts. Any ideas?",
    "Hey. I charge my fitness tracker all day, but the battery is empty after an hour. What now?",
)
"""Three held-out questions whose answers before and after training show the difference best."""

RECIPE_RATES = {"ipo": 3e-4, "dpo-norm": 3e-4, "cpo": 3e-3}
"""Learning rates of recipes that the one of the config does not suit. For ipo and dpo-norm it is too high: at 1e-3
their losses, of means per token, push whole answers apart without end, and the held-out accuracy falls below 0.1 and
0.7. For cpo 50 steps of it are too few: it compares whole answers and subtracts nothing, and all the chosen ones are
longer, and so less likely at first. The rates suit the toy model; the recipes' own are for real ones."""


def model_dir() -> Path:
    """The toy model: a folder in Hugging Face's format with weights, tokenizer and chat template."""
    return _HERE / "model"


def pairs_file() -> Path:
    """The preference pairs to train on, as JSONL with prompt, chosen and rejected."""
    return _HERE / "pairs.jsonl"


def heldout_file() -> Path:
    """Pairs whose questions are worded as no pair in `pairs_file` is; the showcase questions come first."""
    return _HERE / "heldout.jsonl"


def prompts_file() -> Path:
    """Questions alone, one a line, for `dpo-tui demo --improve`."""
    return _HERE / "prompts.txt"


def config_file() -> Path:
    """The measured settings of the demo's run, without the paths of model and data."""
    return _HERE / "config.toml"
