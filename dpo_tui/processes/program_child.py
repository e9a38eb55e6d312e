"""A program of the user's as a child process that takes lines on stdin and gives lines on stdout.

Both directions flow at the same time, so that neither side blocks whatever the program reads first. It ends with this
process, as :class:`dpo_tui.processes.json_child.JsonChild` does and for the same reasons.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from dpo_tui.processes import child
from dpo_tui.processes.json_child import ChildError

LONGEST_LINE = 1 << 20
"""Bytes of a line that is read; what is longer is no answer of a few fields."""
_TAIL = 1 << 13
_LINES_AHEAD = 1000
"""Lines that wait to be taken; the program then waits to write."""
_AFTER_OUTPUT_SECONDS = 10.0
"""For which a program may live on after it closed its stdout."""


class ProgramTimeoutError(ChildError):
    """A program gave no line for too long."""


class ProgramChild:
    """One run of a program, in a new session; leaving the context ends it and what it forked.

    Args:
        command: the program and its arguments; no shell reads them.
        name: of the program in error messages.
        environment: all of its variables.

    Raises:
        ChildError: no process can be started.
    """

    def __init__(self, command: Sequence[str], name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        # A file and not a pipe, which would be full at some time: nobody reads it while the program runs.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        read_end, write_end = os.pipe()
        self._parent_pipe = open(write_end, "wb", buffering=0)  # noqa: SIM115 (closed with the process)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", child.__file__, str(read_end), "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=dict(environment),
                pass_fds=(read_end,),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: a null character in the command
            self._parent_pipe.close()
            self._errors.close()
            raise ChildError(f"{name} could not be started: {error}") from error
        finally:
            os.close(read_end)
        self._lines: queue.Queue[bytes | None] = queue.Queue(_LINES_AHEAD)
        self._closing = threading.Event()

    def exchange(self, lines: Iterable[bytes], timeout: float) -> Iterator[bytes]:
        """Send all lines, and yield what the program writes, line by line, until it closes its stdout.

        Args:
            lines: with their line feeds.
            timeout: seconds that the program may go without a line.

        Raises:
            ProgramTimeoutError: no line came for that long; the program is ended.
            ChildError: a line is too long, or the program ended with another exit code than 0; what it wrote to stderr
                last is in the message, as it is.
        """
        threading.Thread(target=self._write, args=(lines,), daemon=True, name="program-stdin").start()
        threading.Thread(target=self._read, daemon=True, name="program-stdout").start()
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                self.end()
                raise ProgramTimeoutError(f"{self.name} gave no line for {timeout:g} s, and was ended") from None
            if line is None:
                break
            if len(line) > LONGEST_LINE:
                raise ChildError(f"{self.name} wrote a line of more than {LONGEST_LINE:,} bytes")
            yield line
        try:
            code = self._process.wait(_AFTER_OUTPUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return
        if code:
            said = self.last_error_lines()
            raise ChildError(f"{self.name} ended with exit code {code}" + (f":\n{said}" if said else ""))

    def last_error_lines(self, count: int = 5) -> str:
        """Return what the program wrote to stderr last."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return "\n".join(self._errors.read().decode("utf-8", "replace").strip().splitlines()[-count:])

    def end(self) -> None:
        """Kill the program and what it forked."""
        # The group may live on after its leader, which waits for the program alone.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._process.returncode is None:  # a reaped leader's number may be another's
            self.end()
        self._process.wait()
        self._parent_pipe.close()
        self._errors.close()

    def _write(self, lines: Iterable[bytes]) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 (asked for in the constructor)
        # A program that does not read to the end is judged by what it wrote.
        with contextlib.suppress(BrokenPipeError, ValueError):
            stdin.writelines(lines)
        with contextlib.suppress(BrokenPipeError, ValueError):
            stdin.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 (asked for in the constructor)
        with stdout:
            while line := stdout.readline(LONGEST_LINE + 2):
                if not self._put(line):
                    return
        self._put(None)

    def _put(self, line: bytes | None) -> bool:
        """Hand a line over; give up, False, once nobody takes lines any more."""
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put(line, timeout=0.2)
                return True
        return False
