"""The tokenizer files of a model: in its folder, or downloaded from the hub (a few megabytes, no weights)."""

from pathlib import Path

from dpo_tui.errors import DataError
from dpo_tui.hub.client_errors import first_line
from dpo_tui.hub.repository import looks_like_hub_id
from dpo_tui.paths import expanded

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
)


def tokenizer_folder(model: str, revision: str | None = None, *, download: bool = True) -> Path:
    """Return a local folder with the tokenizer's files, downloading them for a hub id.

    Args:
        model: a folder or a hub id.
        revision: branch, tag or commit on the hub.
        download: whether the network may be used; if not, only the hub's cache is looked at.

    Raises:
        DataError: there is no such folder, and no such model that can be reached.
    """
    folder = expanded(model)
    if folder.is_dir():
        return folder
    if folder.exists() or not looks_like_hub_id(model):
        raise DataError(f"{model} is no model folder", hint="Give the folder that holds tokenizer.json, or a hub id.")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=list(_FILES), local_files_only=not download)
        return Path(found)
    except Exception as error:  # the hub client raises its HTTP library's errors, which have no base of their own
        raise DataError(
            f"the tokenizer of {model} cannot be fetched: {first_line(error)}",
            hint="Without a network give a local model folder; for a gated model set HF_TOKEN.",
        ) from error
