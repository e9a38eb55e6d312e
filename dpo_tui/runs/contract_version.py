"""The version of the run folder's contract, and the refusal of folders of a newer one. Standard library only."""

from typing import Any

from dpo_tui.errors import RunError

CONTRACT_VERSION = 1
"""The version of the contract that this package writes, and the newest that it reads."""


class NewerVersionError(RunError):
    """A newer dpo-tui wrote a run's folder: what is in it may mean something else, so nothing in it is changed."""


def refuse_newer(document: dict[str, Any] | None, run: str) -> None:
    """Check the version of a ``state.json``.

    Args:
        document: what is in it; None where it is missing or torn.
        run: id of the run, for the error.

    Raises:
        NewerVersionError: a newer dpo-tui wrote it.
    """
    version = (document or {}).get("version", CONTRACT_VERSION)
    if type(version) is int and version > CONTRACT_VERSION:
        raise NewerVersionError(
            f"run {run}: its folder has version {version}, written by a newer dpo-tui; "
            f"this one reads up to version {CONTRACT_VERSION}",
            hint="Update dpo-tui, or look at the run with the version that made it.",
        )
