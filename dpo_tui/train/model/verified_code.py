"""Whether this process may run the Python code that a model brings: only the code that its run's config allows.

Every loader of transformers that could run such code is given ``trust_remote_code=may_run_code_of(…)``, which is False
for everything but folders whose every Python file has been verified here. A merged or saved model holds copies of the
same files and is trusted by their content.
"""

from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.hub.model_code import code_digest, code_files, foreign_code

_verified: set[str] = set()
"""Digests of the files that may run in this process."""


def trust_code_of(config: Config) -> None:
    """Allow the code of a run's model in this process, where its config names the digest of exactly that code.

    Raises:
        TrainingError: the code is other code now.
    """
    if config.trust_remote_code is None:
        return
    folder = Path(config.model_name)
    files = code_files(folder) if folder.is_dir() else {}
    if not files or code_digest(files) != config.trust_remote_code or foreign_code(folder) is not None:
        raise TrainingError(
            f"the code of {config.model_name} is not what trust_remote_code allows: a Python file has changed since",
            hint="read it again and start a new run: `dpo-tui train` asks in a terminal",
        )
    _verified.update(files.values())


def may_run_code_of(place: str | Path) -> bool:
    """Whether a folder holds code, and nothing but verified code; always False for a hub id."""
    if not _verified:
        return False
    folder = Path(place)
    files = code_files(folder) if folder.is_dir() else {}
    return bool(files) and set(files.values()) <= _verified and foreign_code(folder) is None
