"""What the hub client has already downloaded: its cache folder and the small files of a model in it; no network.

These are huggingface_hub's own rules, without importing it: that takes longer than the app's first paint may.
"""

import contextlib
import os
from pathlib import Path

from dpo_tui.paths import expanded


def hub_cache() -> Path:
    """The folder where the hub client keeps downloads.

    ``HF_HUB_CACHE`` goes before the older ``HUGGINGFACE_HUB_CACHE``, then ``HF_HOME/hub``, then
    ``XDG_CACHE_HOME/huggingface/hub``, then ``~/.cache/huggingface/hub``.
    """
    if explicit := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return expanded(explicit)
    if home := os.environ.get("HF_HOME"):
        return expanded(home) / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(cache) / "huggingface" / "hub"


def cached_config(model_name: str, revision: str | None = None) -> Path | None:
    """The cached ``config.json`` of a hub model.

    The cache's layout is ``models--ORG--NAME/refs/REVISION``, a file that holds a commit, and
    ``models--ORG--NAME/snapshots/COMMIT/``, the files of that commit.

    Args:
        model_name: the hub id.
        revision: a branch, tag or commit. None takes ``main``, or else the snapshot that was downloaded last.

    Returns:
        None when that revision is not in the cache.
    """
    if ".." in model_name or "\0" in model_name:
        return None
    repository = hub_cache() / ("models--" + model_name.replace("/", "--"))
    commit = revision or "main"
    with contextlib.suppress(OSError, ValueError):  # refs/ has no file of a commit's hash: it is used as it is
        commit = (repository / "refs" / commit).read_text(encoding="utf-8").strip()
    exact = repository / "snapshots" / commit / "config.json"
    try:
        if exact.is_file():
            return exact
        found = sorted((repository / "snapshots").glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    except (OSError, ValueError):
        return None
    return found[-1] if found and revision is None else None


def local_model_folder(model_name: str, revision: str | None = None) -> Path | None:
    """The folder on this machine that holds a model's configuration and tokenizer.

    Args:
        model_name: a folder, or a hub id.
        revision: of the hub's model; see :func:`cached_config`.

    Returns:
        The model's own folder, or its snapshot in the hub's cache; None when it is in neither.
    """
    folder = expanded(model_name)
    if folder.is_dir():
        return folder
    cached = cached_config(model_name, revision)
    return cached.parent if cached is not None else None
