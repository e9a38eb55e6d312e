"""Where the tokenizer of a model is: its folder, or the files fetched from the hub (a few megabytes, no weights)."""

from pathlib import Path

from dpo_tui.errors import DataError
from dpo_tui.hub.repository import looks_like_hub_id

_NEEDED = ("tokenizer.json", "tokenizer_config.json")
_WELCOME = ("chat_template.jinja", "chat_template.json", "special_tokens_map.json")


def tokenizer_folder(model: str, revision: str | None = None, *, download: bool = True) -> Path:
    """Return a local folder with the tokenizer's files, downloading them for a hub id.

    Args:
        model: a folder or a hub id.
        revision: of the hub's model.
        download: whether they may be fetched; if not, only what an earlier download left is taken.

    Raises:
        DataError: there is no such folder, and no such model that can be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not looks_like_hub_id(model):
        raise DataError(f"{model} is no model folder", hint="Give the folder that holds tokenizer.json, or a hub id.")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            model, revision=revision, allow_patterns=[*_NEEDED, *_WELCOME], local_files_only=not download
        )
        return Path(found)
    except Exception as error:  # one family for each HTTP library; the reason is in the text
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the tokenizer of {model} cannot be fetched: {reason}",
            hint="Without a network give a local model folder; for a gated model set HF_TOKEN.",
        ) from error
