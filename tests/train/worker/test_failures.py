"""Exceptions of the libraries become what happened, what to do, and an exit code."""

import errno

import pytest
import torch

from dpo_tui.errors import DataError
from dpo_tui.runs import exit_codes
from dpo_tui.train.worker.failures import Failure, describe_failure


@pytest.mark.parametrize(
    ("error", "message", "hint", "exit_code"),
    [
        (DataError("no rows", hint="add some"), "no rows", "add some", DataError.exit_code),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
            "Out of memory: CUDA out of memory. Tried to allocate 2 GiB",
            "smaller per_device_train_batch_size",
            exit_codes.OUT_OF_MEMORY,
        ),
        (MemoryError(), "Out of memory: allocation failed", "use_4bit", exit_codes.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "No space left", "free some space", exit_codes.FAILED),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "quota", "ask for more", exit_codes.FAILED),
        (OSError(errno.EIO, "Input/output error", "x"), "x: Input/output error", "dmesg", exit_codes.FAILED),
        (RuntimeError("PytorchStreamWriter failed writing file"), "No space left", "resume", exit_codes.FAILED),
        (OSError("You are trying to access a gated repo."), "The model is gated", "hf auth login", exit_codes.FAILED),
        (
            AttributeError("'NewMoeConfig' object has no attribute 'num_experts'"),
            "load-balancing loss",
            "router_aux_loss_coef = 0",
            DataError.exit_code,
        ),
        (AttributeError("'tuple' object has no attribute 'dtype'"), "router", "q_proj", DataError.exit_code),
        (OSError("We couldn't connect to the hub"), "the hub cannot be reached", "name that folder", exit_codes.FAILED),
        (OSError("x is not a valid model identifier"), "no such model", "check the name", exit_codes.FAILED),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied", "", exit_codes.FAILED),
        (ValueError("first line\nsecond"), "ValueError: first line", "train.log", exit_codes.FAILED),
        (ValueError(), "ValueError", "train.log", exit_codes.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_is_described_with_its_remedy(error: Exception, message: str, hint: str, exit_code: int) -> None:
    failure = describe_failure(error)
    assert message in failure.message
    assert "\n" not in failure.message
    assert hint in failure.hint
    assert failure.exit_code == exit_code


class LocalEntryNotFoundError(FileNotFoundError):
    """As huggingface_hub names its exception."""


class OfflineModeIsEnabled(ConnectionError):
    """As huggingface_hub names its exception."""


class RepositoryNotFoundError(Exception):
    """As huggingface_hub names its exception."""


HUB = "https://huggingface.co"
NO_FILE = "An error happened while trying to locate the file on the Hub and we cannot find the requested files"


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(
            f"We couldn't connect to '{HUB}' to load the files, and couldn't find them in the cached files.\nCheck"
        ),
        LocalEntryNotFoundError(NO_FILE),
        OfflineModeIsEnabled(f"Cannot reach {HUB}/api/models/a/b: offline mode is enabled."),
        OfflineModeIsEnabled(f"Cannot reach {HUB}/a/b/resolve/main/config.json: offline mode is enabled."),
    ],
)
def test_the_hub_that_cannot_be_reached_for_the_model_is_named(error: Exception) -> None:
    assert describe_failure(error).message == "The model is not on this machine and the hub cannot be reached"


@pytest.mark.parametrize(
    "error",
    [
        # requests, in mlflow with its server gone; and the same from a webhook with urllib3 alone
        ConnectionError(
            "HTTPConnectionPool(host='127.0.0.1', port=5000): Max retries exceeded with url: /api/mlflow/runs/create "
            "(Caused by NewConnectionError('<HTTPConnection object>: Failed to establish a new connection'))"
        ),
        RuntimeError("API request to http://127.0.0.1:5000 failed with exception ConnectionError: refused"),
        RuntimeError("httpx.ConnectError: [Errno 111] Connection refused"),
        RuntimeError("wandb: offline mode cannot be used with this server"),
        OSError("The tracker couldn't connect to https://tracker.example"),
        OfflineModeIsEnabled(f"Cannot reach {HUB}/api/datasets/a/b: offline mode is enabled."),
        OfflineModeIsEnabled(f"Cannot reach {HUB}/api/repos/create: offline mode is enabled."),
        OfflineModeIsEnabled("Offline mode is enabled."),
        raised_from(LocalEntryNotFoundError(NO_FILE), OSError(f"503 for url: {HUB}/datasets/a/b/resolve/main/x")),
        RepositoryNotFoundError(f"404 Client Error. Repository Not Found for url: {HUB}/api/spaces/a/trackio."),
    ],
)
def test_a_connection_that_is_not_for_the_model_keeps_its_own_words(error: Exception) -> None:
    failure = describe_failure(error)
    assert failure.message == f"{type(error).__name__}: {error}"
    assert "model" not in failure.hint


def test_a_closed_connection_to_another_rank_is_only_a_consequence() -> None:
    error = RuntimeError("[gloo/transport/tcp/pair.cc:543] Connection closed by peer [127.0.0.1]:4711")
    assert describe_failure(error).peer_lost
    late = describe_failure(RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:84] Timed out waiting 1800000ms"))
    assert (late.peer_lost, late.message) == (True, "Another rank did not answer in time")
    assert not describe_failure(TimeoutError("Timed out waiting for a lock")).peer_lost
    assert not describe_failure(ConnectionResetError("Connection reset by peer")).peer_lost, "of a download, say"


def test_the_hint_of_an_unknown_exception_is_the_callers() -> None:
    assert describe_failure(KeyError("x"), unknown="") == Failure("KeyError: 'x'")
