"""Call `dpo-tui` without the time that a new interpreter takes: in a fork of this process, which has it imported."""

import contextlib
import faulthandler
import io
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_POLL = 0.005


@dataclass(frozen=True)
class Command:
    """A command that was called.

    Args:
        argv: without ``dpo-tui``.
        code: its exit code; negative for a signal, None where it hung and was killed.
        out: what it printed to standard output.
        err: and to standard error.
    """

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err


class RunningCommand:
    """A command in a process of its own, which can be killed.

    Args:
        argv: without ``dpo-tui``.
        folder: where its output goes, by file, so that what outlives it holds no pipe.
    """

    def __init__(self, argv: tuple[str, ...], folder: Path) -> None:
        self.argv = argv
        self._out = folder / f"command-{time.monotonic_ns()}"
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv, self._out)

    def wait(self, seconds: float) -> Command:
        """Wait for its end; kill it where it does not come."""
        code = _wait(self.pid, seconds)
        files = [Path(f"{self._out}.{stream}") for stream in ("out", "err")]
        # One that was killed at once has written none.
        text = [file.read_bytes().decode("utf-8", "surrogateescape") if file.exists() else "" for file in files]
        return Command(self.argv, code, *text)


def in_child(work: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Call a function in a fork and return its result: what it starts is not this process's child, nor its threads.

    Raises:
        RuntimeError: it raised, with what it raised as the text.
        TimeoutError: it did not end.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with contextlib.suppress(BaseException):
            try:
                answer = ("result", work())
            except Exception as error:
                answer = ("error", f"{type(error).__name__}: {error}")
            with os.fdopen(writing, "wb") as stream:
                stream.write(pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    # The answer after the end: what the child has started must not hold this pipe open (it is close-on-exec).
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    if _wait(pid, seconds) is None:
        raise TimeoutError("a step of the fault did not end")
    kind, value = pickle.loads(text)  # noqa: S301 - our own child's
    if kind == "error":
        raise RuntimeError(value)
    return value


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(_POLL)


def _become(argv: tuple[str, ...], out: Path) -> NoReturn:
    """Turn this fork into the command; never returns."""
    faulthandler.disable()
    code = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for number, stream in ((1, "out"), (2, "err")):
            descriptor = os.open(f"{out}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        # As a new interpreter has them: a file is no terminal, and lone surrogates are escaped in errors only.
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        sys.argv = ["dpo-tui", *argv]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        from dpo_tui.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            os.write(2, f"{end.code}\n".encode())
    except BaseException:
        code = 1
        with contextlib.suppress(BaseException):
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
