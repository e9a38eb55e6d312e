"""Upload an exported folder to the hub: private unless asked otherwise, and never without saying what goes out.

The token is the hub client's own (`hf auth login`, or $HF_TOKEN); it is neither kept nor told here.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.errors import DpoTuiError, UsageError

_UNAUTHORISED, _FORBIDDEN = 401, 403
_MB = 1e6


class PushError(DpoTuiError):
    """The folder could not be uploaded; it is written all the same."""


@dataclass(frozen=True)
class UploadManifest:
    """What would be uploaded.

    Attributes:
        folder: where it lies.
        files: names and sizes in bytes, largest first.
    """

    folder: Path
    files: tuple[tuple[str, int], ...]

    @staticmethod
    def of(folder: Path) -> "UploadManifest":
        """Look at a folder."""
        found = [(str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file()]
        return UploadManifest(folder, tuple(sorted(found, key=lambda one: (-one[1], one[0]))))

    def words(self) -> list[str]:
        """Say what it is, a line a file."""
        size = max((len(name) for name, _ in self.files), default=0)
        return [f"{name.ljust(size)}  {length / _MB:>10,.1f} MB" for name, length in self.files]

    @property
    def total_mb(self) -> float:
        """Megabytes in all."""
        return sum(length for _, length in self.files) / _MB


def check_push(repository: str) -> None:
    """Refuse before any work what cannot be uploaded in the end; asks nobody over the network.

    Raises:
        UsageError: the name is no repository's.
        PushError: the hub client is told to stay offline, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"--push {repository}: {_first_line(error)}", hint="write it as NAME or OWNER/NAME") from None
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
        repository: ``OWNER/NAME``, or ``NAME`` for the owner of the token; made if it is not there.
        public: make a new repository that everyone can read, or upload to one that everyone can.

    Raises:
        PushError: the hub cannot be reached, refuses, or the repository is public and ``public`` is False.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=not public, exist_ok=True)
        is_private = bool(api.repo_info(made.repo_id).private)
        if is_private or public:
            api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Upload with dpo-tui")
            return str(made)
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
    """What went wrong, in words without the token."""
    what = _first_line(error) or type(error).__name__
    # The hub client's HTTP library differs between its versions, so errors of the network go by name.
    names = {base.__name__ for base in type(error).__mro__}
    if _status(error) is None and names & {"TransportError", "RequestException", "OSError"}:
        return f"the hub cannot be reached ({what})"
    return {
        _UNAUTHORISED: "the hub does not know the token",
        _FORBIDDEN: "the token may not write there",
    }.get(_status(error) or 0, what)


def _advice(error: Exception) -> str:
    return {
        _UNAUTHORISED: "log in anew with `hf auth login`, then",
        _FORBIDDEN: "with a token of the role write, and an owner who is you",
    }.get(_status(error) or 0, "to send it later")


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _first_line(error: Exception) -> str:
    from huggingface_hub import get_token

    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    token = get_token()
    return text.replace(token, "…") if token else text
