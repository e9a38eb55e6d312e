"""Where the demo's parts lie inside the installed package. Standard library only.

`scripts/build_demo.py` made them; docs/demo.md says how, and what the toy can and cannot do.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

SHOWCASE: tuple[str, str, str] = (
    "Hi. I cannot sign in on my computer because I do not remember my password.",
    "Good morning. I sent my water bottle back a week ago and I am still waiting for the refund.",
    "When I open your app on my laptop, it crashes and closes again. What now?",
)
"""Three held-out questions whose answers before and after training show the difference best."""


def model_dir() -> Path:
    """The toy model: a Hugging Face folder with weights, tokenizer and chat template."""
    return _HERE / "model"


def pairs_file() -> Path:
    """The preference pairs to train on, as JSONL with prompt, chosen and rejected."""
    return _HERE / "pairs.jsonl"


def heldout_file() -> Path:
    """Pairs whose questions are worded as no pair in `pairs_file` is; the showcase questions come first."""
    return _HERE / "heldout.jsonl"


def config_file() -> Path:
    """The measured settings of the demo's run, without the paths of model and data."""
    return _HERE / "config.toml"
