"""Why a worker died: exceptions of the libraries translated into what happened, and what to do about it.

Each translation is a function that takes an exception and returns a :class:`Failure` or None (:data:`TRANSLATIONS`).
A worker that was killed or crashed cannot say why: then its launcher does (:mod:`dpo_tui.runs.launchers.local`,
:mod:`dpo_tui.runs.exit_codes`). A worker that ends on request: :mod:`dpo_tui.train.worker.stop_requests`.
"""

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from dpo_tui.errors import ConfigError, DpoTuiError
from dpo_tui.runs import disk_problem, exit_codes

_NO_MODEL_URL = re.compile(r"https?://\S+?/(?:datasets|spaces|buckets|repos|whoami-v2)\b")
"""An address of the hub that belongs to no model: of a data set or a space, of creating a repository, of a login."""


@dataclass(frozen=True)
class Failure:
    """Why a worker ends.

    Attributes:
        message: what happened.
        hint: what to do; empty where no remedy is known.
        exit_code: of the worker; the supervisor retries an out-of-memory with a smaller micro-batch.
        peer_lost: whether this rank failed only because another one ended.
    """

    message: str
    hint: str = ""
    exit_code: int = exit_codes.FAILED
    peer_lost: bool = False


def describe_failure(error: BaseException, unknown: str = "train.log has the whole traceback") -> Failure:
    """Return the first translation that applies.

    Args:
        error: what ended the work.
        unknown: the hint where no translation applies; the message is then the exception's first line.
    """
    for translate in TRANSLATIONS:
        if failure := translate(error):
            return failure
    lines = str(error).strip().splitlines()
    first_line = f": {lines[0]}" if lines else ""
    return Failure(f"{type(error).__name__}{first_line}", unknown)


def dpo_tui_error(error: BaseException) -> Failure | None:
    """Our own errors carry their message, hint and exit code."""
    return Failure(error.message, error.hint or "", error.exit_code) if isinstance(error, DpoTuiError) else None


def out_of_memory(error: BaseException) -> Failure | None:
    """Out of memory, on the GPU or in torch's CPU allocator."""
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
    """A full disk or quota, which torch and safetensors report by messages of their own."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EDQUOT or "Disk quota exceeded" in text:
        return Failure(
            "The disk quota of this account is used up",
            "delete what is not needed, or ask for more, and resume: earlier checkpoints are whole. A smaller "
            "save_total_limit keeps fewer of them",
        )
    truncated = "PytorchStreamWriter failed" in text or "No space left" in text or "unexpected pos" in text
    if not (number == errno.ENOSPC or truncated):
        return None
    return Failure(
        "No space left on the disk while saving",
        "free some space and resume: earlier checkpoints are whole. A smaller save_total_limit keeps fewer of them",
    )


def model_not_found(error: BaseException) -> Failure | None:
    """An unknown hub id, a gated model, or no connection, as transformers and huggingface_hub report them.

    By name and message, since transformers raises most of them again as OSError. Trackers, webhooks and uploads need
    the network too: an error that only says "connection" is not about the model, nor is one of the hub whose address
    belongs to something else.
    """
    text = str(error)
    name = type(error).__name__
    if any(_NO_MODEL_URL.search(str(one)) for one in _with_causes(error)):
        return None
    if name == "GatedRepoError" or "gated repo" in text:
        return Failure(
            "The model is gated: its owner asks you to accept a licence",
            "accept it on the model's hub page, then log in with `hf auth login` or set HF_TOKEN",
        )
    # The first is how transformers begins; the others are of huggingface_hub, which names the address it did not reach.
    if (
        (isinstance(error, OSError) and text.startswith("We couldn't connect to "))
        or name == "LocalEntryNotFoundError"
        or (name == "OfflineModeIsEnabled" and ("/api/models/" in text or "/resolve/" in text))
    ):
        return Failure(
            "The model is not on this machine and the hub cannot be reached",
            "download it where there is a connection, copy the folder here, and name that folder in the config",
        )
    if "Repo id must" in text:
        return Failure("The model is no folder on this machine and no hub id", "check its name")
    if name == "RepositoryNotFoundError" or "is not a valid model identifier" in text:
        return Failure(
            "The hub has no such model, or it is private",
            "check the name; for a private model log in with `hf auth login` or set HF_TOKEN",
        )
    return None


def fused_experts(error: BaseException) -> Failure | None:
    """An adapter that PEFT cannot make on experts that are fused into one parameter."""
    refused = re.search(r"ParamWrapper does not work with (lora_dropout|use_dora)", str(error))
    if refused is None:
        return None
    remedy = {
        "lora_dropout": "set lora_dropout = 0 (for DPO, disable_dropout = true does so too)",
        "use_dora": "set use_dora = false",
    }[refused[1]]
    return Failure(
        f"The experts of this model are fused into one parameter, and PEFT has no {refused[1]} for an adapter on those",
        f'{remedy}, or adapt the attention only: lora_target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]',
        ConfigError.exit_code,
    )


def untrainable_experts(error: BaseException) -> Failure | None:
    """A mixture of experts whose config or router is not as TRL's load-balancing loss or PEFT expects it."""
    if not isinstance(error, AttributeError):
        return None
    if str(error).endswith("Config' object has no attribute 'num_experts'"):
        return Failure(
            "TRL cannot compute the load-balancing loss of this mixture of experts: its config has no num_experts",
            'set router_aux_loss_coef = 0, or write "router_aux_loss_coef": 0.0 into a copy of its config.json',
            ConfigError.exit_code,
        )
    if str(error) == "'tuple' object has no attribute 'dtype'":
        return Failure(
            "PEFT cannot adapt a layer in lora_target_modules, which returns several values: a router, perhaps",
            'adapt the attention only: lora_target_modules = ["q_proj", "k_proj", "v_proj", "o_proj"]',
            ConfigError.exit_code,
        )
    return None


def peer_lost(error: BaseException) -> Failure | None:
    """Another rank ended: gloo and NCCL report the closed connection, and that rank reports the cause."""
    text = str(error)
    if not any(name in text for name in ("gloo", "NCCL")):
        return None
    # The words of gloo, and of NCCL's watchdog, after the longest time that a rank waits in a collective.
    if "Timed out waiting" in text or "Watchdog caught collective operation timeout" in text:
        hint = "its log, ranks/N.log, may say why; on several nodes their network may be cut"
        return Failure("Another rank did not answer in time", hint, peer_lost=True)
    closed = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    if not any(sign in text for sign in closed):
        return None
    return Failure("Another rank went away", "the rank that ended first says why", peer_lost=True)


def unsafe_pickle(error: BaseException) -> Failure | None:
    """A file that torch refuses to unpickle; torch's own words advise to switch the protection off."""
    if type(error).__name__ != "UnpicklingError" and "weights_only" not in str(error):
        return None
    return Failure(
        "A file of weights cannot be loaded: it is damaged, or made to run code when it is loaded",
        "of a model: convert it to safetensors where you trust it. Of a checkpoint: delete the newest folder in "
        "checkpoints/ of the run and resume",
    )


def file_error(error: BaseException) -> Failure | None:
    """A file that the system cannot open, read or write; it names the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Failure(f"{error.filename}: {error.strerror}", disk_problem.remedy(error))
    return None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


TRANSLATIONS: tuple[Callable[[BaseException], Failure | None], ...] = (
    dpo_tui_error,
    out_of_memory,
    disk_full,
    peer_lost,
    model_not_found,
    fused_experts,
    unsafe_pickle,
    untrainable_experts,
    file_error,
)
"""In order: a specific translation before the general one of its exception type (disk_full before file_error)."""
