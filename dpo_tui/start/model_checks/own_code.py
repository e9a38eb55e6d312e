"""Check of a model that brings code of its own: whether the user has allowed exactly this code to run.

Allowed is a digest of all its Python files, and not a name: a file that changes is asked about again. The command line
and the app never import the code; the processes that train, generate and export do, after they have computed the digest
again (:mod:`dpo_tui.train.model.verified_code`).
"""

import time
from pathlib import Path

from dpo_tui import paths
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hub.model_code import code_digest, code_files, foreign_code
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.printable import printable

SETTING = "trust_remote_code"
MEANING = "It would run here with all your rights: it can read, send and delete what you can. Read it first."
"""What a yes means."""
_MOST_FILES = 12
"""Files that a message names."""


class UntrustedCodeError(ConfigError):
    """A model's code has not been allowed to run.

    Attributes:
        files: SHA-256 of each of its Python files, by path.
        digest: of them all.
        model: name of the model, for people.
        explanation: what it is, its files, and what allowing it means, in lines.
    """

    def __init__(
        self, message: str, hint: str, *, files: dict[str, str], digest: str, model: str, explanation: tuple[str, ...]
    ) -> None:
        super().__init__(message, hint=hint)
        self.files, self.digest, self.model, self.explanation = files, digest, model, explanation


def require_trusted_code(folder: ModelFolder, config: Config) -> str:
    """Check that a model's own code may run.

    Args:
        folder: of a model whose type transformers does not know and which has an ``auto_map``.
        config: of the run.

    Returns:
        What it means, as a sentence.

    Raises:
        UntrustedCodeError: it has not been allowed, or other code was.
        ConfigError: it cannot be allowed here.
    """
    what = f"config.json: model_type {folder.config.get('model_type')!r} is made by code that the model brings"
    if folder.cached or not Path(folder.name).is_absolute():
        raise folder.error(
            f"{what}; code is run out of a local folder alone, where it does not change by itself",
            f"download it, read its Python files, and name the folder: hf download {folder.name} --local-dir DIR",
        )
    if config.provider != "huggingface":
        raise folder.error(f"{what}, which the provider {config.provider} does not run", 'set provider = "huggingface"')
    if not config.use_lora and strategy_of(config).has_reference:
        raise folder.error(
            f"{what}, and TRL loads the reference of full fine-tuning by a class of transformers", "train an adapter"
        )
    outside = foreign_code(folder.path)
    if outside is not None:
        raise folder.error(
            f"{what}; {SETTING} covers the Python files of its folder, and "
            f"{printable(outside, single_line=True)} is none of them",
            "copy that code into the folder and name it in auto_map as module.Class",
        )
    files = code_files(folder.path)
    digest = code_digest(files)
    if digest != config.trust_remote_code:
        raise _untrusted(folder, config, files, digest, what)
    return (
        f"Its own code makes it ({len(files)} Python files, allowed as {digest[:12]}…): weights and adapter are not "
        "compared with it before the start, and memory is a guess"
    )


def brings_code(folder: ModelFolder, packages: WorkerPackages) -> bool:
    """Whether a model is made by code that it brings, because the worker's transformers has no such type."""
    model_type, known = folder.config.get("model_type"), packages.model_types()
    unknown = bool(known) and isinstance(model_type, str) and model_type not in known
    return unknown and bool(folder.config.get("auto_map"))


def with_trusted_code(config: Config, packages: WorkerPackages) -> Config:
    """Return a config that names the digest of its model's code, where that has been allowed before."""
    folder = ModelFolder(Path(config.model_name), config.model_name)
    named = config.trust_remote_code is not None or not folder.path.is_absolute()
    if named or not (folder.path / "config.json").is_file() or not brings_code(folder, packages):
        return config
    digest = code_digest(code_files(folder.path))
    return config.model_copy(update={SETTING: digest}) if digest in _remembered() else config


def remember_trust(error: UntrustedCodeError) -> None:
    """Keep that the code of a model has been allowed, until it changes."""
    known = _remembered() | {error.digest: {"model": error.model, "time": time.time()}}
    paths.make_private(paths.trusted_code().parent)
    write_json_atomic(paths.trusted_code(), known)


def _remembered() -> dict[str, object]:
    return dict(read_json(paths.trusted_code()) or {})


def _untrusted(
    folder: ModelFolder, config: Config, files: dict[str, str], digest: str, what: str
) -> UntrustedCodeError:
    changed = config.trust_remote_code is not None
    named = [printable(name, single_line=True) for name in files]
    more = len(named) - _MOST_FILES
    listed = ", ".join(named[:_MOST_FILES]) + (f" and {more} more" if more > 0 else "")
    reason = f"{SETTING} allows other code than is there now" if changed else "and it has not been allowed to run"
    return UntrustedCodeError(
        printable(f"model_name = {folder.name}: {what}, {reason}", single_line=True),
        f"Read {listed}. To allow exactly this code, choose the model in the app or start `dpo-tui train` in a "
        "terminal: both ask. Or set "
        f'{SETTING} = "{digest}" in [model]',
        files=files,
        digest=digest,
        model=folder.name,
        explanation=(
            f"The model {printable(folder.name, single_line=True)} is made by Python code that it brings:",
            *(f"  {name}" for name in named[:_MOST_FILES]),
            MEANING,
            f"Your answer holds for exactly this code ({digest[:12]}…); when a file changes, it is asked again.",
        ),
    )
