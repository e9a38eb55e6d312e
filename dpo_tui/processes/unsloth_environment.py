"""The Python environment in which the provider ``unsloth`` trains: where it is, what it lacks, how to make it.

Unsloth 2026.10 demands trl ≤ 1.15, transformers ≤ 5.17 and datasets < 5, so it cannot share one with the stack that
`dpo_tui` trains with by default. The worker of such a run is the same worker, under that environment's interpreter;
everything else stays in this process's own. Standard library only.
"""

import json
import os
import shlex
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dpo_tui
from dpo_tui import paths

_NEEDED = ("unsloth", "unsloth-zoo", "trl", "torch", "dpo-tui")


@dataclass(frozen=True)
class Obstacle:
    """Why the provider cannot train here.

    Args:
        message: what is missing, after the words ``provider = "unsloth": ``.
        fix: what to do.
    """

    message: str
    fix: str


def interpreter() -> Path:
    """The environment's Python, whether it is there or not."""
    return _folder() / "bin" / "python"


def obstacle(*, has_gpu: bool) -> Obstacle | None:
    """What stands in the way of training with Unsloth; None where nothing is known to.

    Args:
        has_gpu: whether a run may use an NVIDIA GPU here.
    """
    if not has_gpu:
        return Obstacle(
            "it speeds up NVIDIA GPUs, and there is none that a run may use here",
            'set provider = "huggingface": the same training through transformers, TRL and PEFT',
        )
    make = f"python3 -m venv {shlex.quote(str(_folder()))} && {_install()}"
    if not os.access(interpreter(), os.X_OK):
        return Obstacle(
            f"it needs a Python environment of its own in {_folder()}, some gigabytes, and there is none",
            make,
        )
    found = _versions()
    lacking = [name for name in _NEEDED if name not in found]
    if lacking:
        return Obstacle(f"its environment in {_folder()} lacks {', '.join(lacking)}", _install())
    if found["dpo-tui"] != dpo_tui.__version__:
        words = f"its environment has dpo-tui {found['dpo-tui']}, and this is {dpo_tui.__version__}"
        return Obstacle(words, _install("--upgrade"))
    return None


def versions() -> str:
    """What would train, in words, such as ``unsloth 2026.10.9 with trl 1.14.2 and torch 2.10.0``."""
    found = _versions()
    return f"unsloth {found['unsloth']} with trl {found['trl']} and torch {found['torch']}"


def _folder() -> Path:
    return paths.environments() / "unsloth"


def _versions() -> dict[str, str]:
    places = [str(place) for place in sorted(_folder().glob("lib/python3*/site-packages"))]
    whole = [found for found in distributions(path=places) if found.metadata["Name"]]  # an install may have been cut
    return {found.name.lower().replace("_", "-"): found.version for found in whole}


def _install(*options: str) -> str:
    return shlex.join([str(interpreter()), "-m", "pip", "install", *options, "unsloth", _this_package()])


def _this_package() -> str:
    """What to give pip for the same dpo-tui as this one: the place that it came from (PEP 610), else its version."""
    try:
        told = json.loads(distribution("dpo-tui").read_text("direct_url.json") or "{}")
        url = str(told.get("url") or "")
    except (PackageNotFoundError, ValueError, AttributeError):
        return f"dpo-tui=={dpo_tui.__version__}"
    if url.startswith("file://"):
        return unquote(urlsplit(url).path)
    if commit := told.get("vcs_info", {}).get("commit_id"):
        url = f"git+{url}@{commit}"
    return f"dpo-tui @ {url}" if url else f"dpo-tui=={dpo_tui.__version__}"
