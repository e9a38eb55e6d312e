"""The Python environment in which the provider ``unsloth`` trains: where it is, what it lacks, how to create it.

Unsloth 2026.10 requires trl ≤ 1.15, transformers ≤ 5.17 and datasets < 5, which conflicts with the versions that
`dpo_tui` trains with by default. The worker of such a run is the same module, run by that environment's interpreter;
all other processes use the default environment. Standard library only.
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
        message: what is missing, to follow ``provider = "unsloth": ``.
        fix: what to do.
    """

    message: str
    fix: str


def interpreter() -> Path:
    """The path of the environment's Python, whether it exists or not."""
    return _folder() / "bin" / "python"


def site_packages() -> Path | None:
    """The folder of the environment's packages; None where there is none."""
    return next(iter(sorted(_folder().glob("lib/python3*/site-packages"))), None)


def obstacle(*, has_gpu: bool) -> Obstacle | None:
    """Why training with Unsloth is not possible; None if no reason is known.

    Args:
        has_gpu: whether a run may use an NVIDIA GPU here.
    """
    if not has_gpu:
        return Obstacle(
            "it speeds up NVIDIA GPUs, and there is none that a run may use here",
            'set provider = "huggingface": the same training through transformers, TRL and PEFT',
        )
    create = f"python3 -m venv {shlex.quote(str(_folder()))} && {_install()}"
    if not os.access(interpreter(), os.X_OK):
        return Obstacle(
            f"it needs a Python environment of its own in {_folder()}, some gigabytes, and there is none",
            create,
        )
    found = _versions()
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        return Obstacle(f"its environment in {_folder()} lacks {', '.join(missing)}", _install())
    if found["dpo-tui"] != dpo_tui.__version__:
        message = f"its environment has dpo-tui {found['dpo-tui']}, and this is {dpo_tui.__version__}"
        return Obstacle(message, _install("--upgrade"))
    return None


def versions() -> str:
    """The versions of the packages that would train: ``unsloth 2026.10.9 with trl 1.14.2 and torch 2.10.0``."""
    found = _versions()
    return f"unsloth {found['unsloth']} with trl {found['trl']} and torch {found['torch']}"


def _folder() -> Path:
    return paths.environments() / "unsloth"


def _versions() -> dict[str, str]:
    folders = [str(folder) for folder in sorted(_folder().glob("lib/python3*/site-packages"))]
    # An interrupted install leaves metadata without a name.
    complete = [found for found in distributions(path=folders) if found.metadata["Name"]]
    return {found.name.lower().replace("_", "-"): found.version for found in complete}


def _install(*options: str) -> str:
    return shlex.join([str(interpreter()), "-m", "pip", "install", *options, "unsloth", _this_package()])


def _this_package() -> str:
    """The requirement of this same dpo-tui for pip: the URL that it was installed from (PEP 610), else its version."""
    try:
        origin = json.loads(distribution("dpo-tui").read_text("direct_url.json") or "{}")
        url = str(origin.get("url") or "")
    except (PackageNotFoundError, ValueError, AttributeError):
        return f"dpo-tui=={dpo_tui.__version__}"
    if url.startswith("file://"):
        return unquote(urlsplit(url).path)
    if commit := origin.get("vcs_info", {}).get("commit_id"):
        url = f"git+{url}@{commit}"
    return f"dpo-tui @ {url}" if url else f"dpo-tui=={dpo_tui.__version__}"
