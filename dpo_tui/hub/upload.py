"""Upload an exported folder to a hub repository, private by default.

The token is the hub client's own (`hf auth login`, or $HF_TOKEN); it is neither stored nor shown here.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.hub.client_errors import first_line, http_status, is_unreachable

_UNAUTHORISED, _FORBIDDEN = 401, 403
_MB = 1e6


class PushError(DpoTuiError):
    """The folder could not be uploaded; it is complete on this machine."""


@dataclass(frozen=True)
class UploadManifest:
    """The files of a folder that is to be uploaded.

    Attributes:
        folder: the folder.
        files: relative names and sizes in bytes, largest first.
    """

    folder: Path
    files: tuple[tuple[str, int], ...]

    @staticmethod
    def of(folder: Path) -> "UploadManifest":
        """List a folder."""
        found = [(str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file()]
        return UploadManifest(folder, tuple(sorted(found, key=lambda one: (-one[1], one[0]))))

    def lines(self) -> list[str]:
        """One line a file: its name and its size in megabytes."""
        size = max((len(name) for name, _ in self.files), default=0)
        return [f"{name.ljust(size)}  {length / _MB:>10,.1f} MB" for name, length in self.files]

    @property
    def total_mb(self) -> float:
        """Size of all files in megabytes."""
        return sum(length for _, length in self.files) / _MB


def check_push(repository: str) -> None:
    """Check, before any work and without the network, that a folder can be uploaded.

    Raises:
        UsageError: it is not the id of a repository.
        PushError: ``HF_HUB_OFFLINE`` is set, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"--push {repository}: {first_line(error)}", hint="write it as NAME or OWNER/NAME") from None
    if constants.HF_HUB_OFFLINE:
        raise PushError(
            f"--push {repository}: HF_HUB_OFFLINE is set, so nothing is sent to the hub",
            hint="unset it, or leave --push out and send the folder later: hf upload --private REPO FOLDER",
        )
    if get_token() is None:
        raise PushError(
            f"--push {repository}: nobody is logged in to the hub on this machine",
            hint="log in with `hf auth login` (a token with the role write), or set HF_TOKEN",
        )


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder and return the repository's address.

    Args:
        folder: as `dpo-tui export` wrote it.
        repository: ``OWNER/NAME``, or ``NAME`` for the owner of the token; created if it does not exist.
        public: create a public repository, or upload to one that is public.

    Raises:
        PushError: the hub cannot be reached or rejects the upload, or the repository is public and ``public`` is False.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        created = api.create_repo(repository, private=not public, exist_ok=True)
        # An existing repository keeps its visibility: create_repo ignores `private` then.
        is_private = bool(api.repo_info(created.repo_id).private)
        if is_private or public:
            api.upload_folder(repo_id=created.repo_id, folder_path=folder, commit_message="Upload with dpo-tui")
            return str(created)
    except Exception as error:
        raise PushError(
            f"{folder} is written, and the upload to {repository} failed: {_reason(error)}",
            hint=f"{_advice(error)}: hf upload{'' if public else ' --private'} {repository} {shlex.quote(str(folder))}",
        ) from None
    raise PushError(
        f"{repository} is there already and everyone can read it: nothing was uploaded. {folder} is written",
        hint="add --public if that is meant, or name another repository",
    )


def _reason(error: Exception) -> str:
    """Why an upload failed, without the user's token."""
    if is_unreachable(error):
        return f"the hub cannot be reached ({first_line(error)})"
    return {
        _UNAUTHORISED: "the hub does not know the token",
        _FORBIDDEN: "the token may not write there",
    }.get(http_status(error) or 0, first_line(error))


def _advice(error: Exception) -> str:
    """What to do before sending the folder again, as the beginning of a sentence."""
    return {
        _UNAUTHORISED: "log in anew with `hf auth login`, then",
        _FORBIDDEN: "with a token of the role write, and an owner who is you",
    }.get(http_status(error) or 0, "to send it later")
