"""Child process that asks the hub: it searches models, and downloads one and counts its bytes.

A process and not a thread: the hub's client has no deadline for a search and repeats requests that fail, a lookup of a
name can hang for longer, and only a process can be ended at any time. Requests and answers are JSON lines.
"""

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from dpo_tui.hub.cache import hub_cache
from dpo_tui.hub.client_errors import first_line, had_connection, is_unreachable
from dpo_tui.hub.repository import MODEL_FILES

_SECONDS = 0.5
"""Between two messages about a download."""
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 3.0
"""For the answer to a question whose answer does not matter."""
_mute_endpoints: set[str] = set()
"""Those that took a connection and gave no answer: they would cost `_ANSWER_SECONDS` before each search."""


def main() -> None:
    """Answer the requests on stdin, one after the other."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _search(request) if "search" in request else _download(request)
        except Exception as error:  # the hub's client lets every exception of its HTTP library through
            message, hint = explained(error, str(request.get("download", "")))
            answer = {"event": "error", "message": message, "hint": hint}
        _send(answer)


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _search(request: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import HfApi

    _require_hub()
    found = HfApi().list_models(
        search=request["search"],
        filter="transformers",
        sort="downloads",
        limit=request["limit"],
        expand=["downloads", "gated"],
    )
    models = [{"name": one.id, "downloads": one.downloads or 0, "gated": bool(one.gated)} for one in found]
    return {"event": "models", "models": models}


def _require_hub() -> None:
    """Connect to the hub once: a search is repeated for 23 seconds where there is no network.

    What it answers does not matter, nor whether it does: a mirror may know nothing but searches and files.

    Raises:
        Exception: what the client raises where there is no connection.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.ENDPOINT in _mute_endpoints:
        return
    seconds = _CONNECT_SECONDS, _ANSWER_SECONDS, _CONNECT_SECONDS, _CONNECT_SECONDS  # to connect, read, write, and wait
    try:
        get_session().head(constants.ENDPOINT, timeout=seconds, follow_redirects=False)
    except Exception as error:
        if not had_connection(error):
            raise
        _mute_endpoints.add(constants.ENDPOINT)


def _download(request: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import filter_repo_objects

    name, revision = request["download"], request.get("revision")
    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    total = sum(sizes[file] for file in filter_repo_objects(sizes, allow_patterns=list(MODEL_FILES)))
    blobs = hub_cache() / f"models--{name.replace('/', '--')}" / "blobs"
    missing, free = total - _bytes_in(blobs), _free_bytes(hub_cache())
    if missing > free:
        message = f"{name} needs {missing / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {hub_cache()}"
        return {"event": "error", "message": message, "hint": "Make room there, or name another place in HF_HUB_CACHE."}
    done = threading.Event()

    def report() -> None:
        while not done.wait(_SECONDS):
            _send({"event": "progress", "done": min(_bytes_in(blobs), total), "total": total})

    _send({"event": "progress", "done": min(_bytes_in(blobs), total), "total": total})
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(MODEL_FILES))
    finally:
        done.set()
        thread.join()
    return {"event": "done", "folder": str(folder), "total": total}


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder, unfinished ones included; the client's own bars count each file by itself."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:  # it is not made yet, or a file was renamed meanwhile
        return 0


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def explained(error: Exception, name: str) -> tuple[str, str]:
    """What an error of the hub's client means, and what to do.

    Args:
        error: of any request.
        name: the model asked for; empty for a search.
    """
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"{name} is gated: its owner asks you to accept a licence", gated_hint(name)
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no model {name}, or it is private", "Check the name; a private model needs a token."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the hub is not asked", ""
    if is_unreachable(error):
        return f"the hub cannot be reached: {first_line(error)}", ""
    return f"the hub answered: {first_line(error)}", ""


def gated_hint(name: str) -> str:
    """The two steps to a gated model."""
    return (
        f"1. Accept its licence at https://huggingface.co/{name}, logged in. 2. Make a token that may read at "
        "https://huggingface.co/settings/tokens, and give it in Settings (,) or as HF_TOKEN."
    )


if __name__ == "__main__":
    main()
