"""Why a worker died: translate what libraries raise into what happened, and what to do about it.

What the supervisor says of a worker that could not tell is in `dpo_tui.runs.launchers.local`.
Each translation is a function that takes an exception and returns a :class:`Failure` or None.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass

import torch

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import exit_codes


@dataclass(frozen=True)
class Failure:
    """Why a worker ends.

    Attributes:
        message: what happened.
        hint: what to do; empty where nobody knows.
        exit_code: for the supervisor.
        peer_lost: whether this is only the consequence of another rank's end.
    """

    message: str
    hint: str = ""
    exit_code: int = exit_codes.FAILED
    peer_lost: bool = False


def describe_failure(error: BaseException, unknown: str = "train.log has the whole traceback") -> Failure:
    """Return the first translation that fits, else the exception's own words with the hint ``unknown``."""
    for translate in TRANSLATIONS:
        if failure := translate(error):
            return failure
    words = str(error).strip().splitlines()
    first = f": {words[0]}" if words else ""
    return Failure(f"{type(error).__name__}{first}", unknown)


def our_own(error: BaseException) -> Failure | None:
    """Our errors are written for people already."""
    return Failure(error.message, error.hint or "", error.exit_code) if isinstance(error, DpoTuiError) else None


def out_of_memory(error: BaseException) -> Failure | None:
    """The GPU's memory ran out, or the allocator of the CPU gave up."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | MemoryError)
        and ("out of memory" in text or "can't allocate memory" in text or isinstance(error, MemoryError))
    ):
        return Failure(
            "Out of memory: " + (text.strip().splitlines() or ["allocation failed"])[0],
            "use_4bit = true, a smaller per_device_train_batch_size with more gradient_accumulation_steps, a shorter "
            "max_seq_length, or a smaller model",
            exit_codes.OUT_OF_MEMORY,
        )
    return None


def disk_full(error: BaseException) -> Failure | None:
    """Torch and safetensors report a full disk in words of their own."""
    text = str(error)
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    torn = "PytorchStreamWriter failed" in text or "No space left" in text or "unexpected pos" in text
    if not (full or torn):
        return None
    return Failure(
        "No space left on the disk while saving",
        "free some space and resume: earlier checkpoints are whole. A smaller save_total_limit keeps fewer of them",
    )


def model_not_found(error: BaseException) -> Failure | None:
    """Transformers and huggingface_hub: an unknown hub id, a gated model, or no connection."""
    text = str(error)
    name = type(error).__name__
    if name == "GatedRepoError" or "gated repo" in text:
        return Failure(
            "The model is gated: its owner asks you to accept a licence",
            "accept it on the model's hub page, then log in with `hf auth login` or set HF_TOKEN",
        )
    offline = ("couldn't connect", "Cannot find the requested files", "offline mode", "ConnectError", "ConnectionError")
    if name in {"LocalEntryNotFoundError", "OfflineModeIsEnabled"} or any(sign in text for sign in offline):
        return Failure(
            "The model is not on this machine and the hub cannot be reached",
            'download it where there is a connection, copy the folder here, and set model_name = "/path/to/folder"',
        )
    if "Repo id must" in text:
        return Failure("The model is no folder on this machine and no hub id", "check its name")
    if name == "RepositoryNotFoundError" or "is not a valid model identifier" in text:
        return Failure(
            "The hub has no such model, or it is private",
            "check model_name; for a private model log in with `hf auth login` or set HF_TOKEN",
        )
    return None


def peer_lost(error: BaseException) -> Failure | None:
    """Another rank went away: gloo and NCCL report the closed connection, and the other rank says why."""
    text = str(error)
    closed = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    if not (any(name in text for name in ("gloo", "NCCL")) and any(sign in text for sign in closed)):
        return None
    return Failure("Another rank went away", "the rank that ended first says why", peer_lost=True)


def file_refused(error: BaseException) -> Failure | None:
    """The system names the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Failure(f"{error.filename}: {error.strerror}")
    return None


TRANSLATIONS: tuple[Callable[[BaseException], Failure | None], ...] = (
    our_own,
    out_of_memory,
    disk_full,
    peer_lost,
    model_not_found,
    file_refused,
)
