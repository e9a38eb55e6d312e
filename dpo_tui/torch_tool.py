"""Children that need the torch stack, and how to talk with them: one JSON object a line, both ways.

A child is `python -m dpo_tui.train.tools.NAME`. It reads a request, tells how it goes, and ends with a result:

    {"kind": "progress", "message": …, "done": n, "total": n}   any number of them, and other kinds of its own
    {"kind": "result", …}                                        the last one of a request
    {"kind": "failed", "message": …, "hint": …, "exit_code": n}  instead of it

Standard library only: whoever starts one stays light, and torch is loaded and freed with the child.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from dpo_tui.child_environment import child_environment
from dpo_tui.errors import DpoTuiError
from dpo_tui.tool_device import tool_environment

Message = dict[str, Any]


class ToolError(DpoTuiError):
    """A child could not do what it was asked; the exit code is that of its own error."""

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class TorchTool:
    """One child process. Use it as a context manager; leaving it ends the child.

    Args:
        name: of the module under ``dpo_tui.train.tools``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"dpo_tui.train.tools.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=child_environment() | tool_environment() | {"PYTHONUNBUFFERED": "1"},
            # Ctrl-C is for whoever asked; it ends the child by leaving the context.
            start_new_session=True,
        )

    def ask(self, request: Mapping[str, Any]) -> Iterator[Message]:
        """Send a request and yield what the child tells; the last message is of kind ``result``.

        Raises:
            ToolError: the child said that it failed, or it died.
        """
        assert self._process.stdin is not None  # noqa: S101 (asked for in the constructor)
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        for line in self._process.stdout:
            message: Message = json.loads(line)
            if message["kind"] == "failed":
                code = message.get("exit_code", 1)
                raise ToolError(message["message"], hint=message.get("hint") or None, exit_code=code)
            yield message
            if message["kind"] == "result":
                return
        raise self._died()

    def end(self) -> None:
        """Tell the child to end, from whatever thread; whoever is asking it gets a `ToolError`."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def close(self) -> None:
        """End the child; nothing happens if it has ended."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self.end()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> "TorchTool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _died(self) -> ToolError:
        code = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        if code < 0:
            hint = "The machine may be out of memory." if code == -signal.SIGKILL else None
            return ToolError(f"{self.name} was ended by {signal.Signals(-code).name}", hint=hint)
        return ToolError(f"{self.name} ended early: {told[-1] if told else f'exit code {code}'}")


def run_tool(name: str, request: Mapping[str, Any], tell: Callable[[Message], None] = lambda _: None) -> Message:
    """Start a child for one request and return its result.

    Args:
        name: of the module under ``dpo_tui.train.tools``.
        request: what to do.
        tell: called with every message on the way.

    Raises:
        ToolError: it failed.
    """
    with TorchTool(name) as tool:
        for message in tool.ask(request):
            if message["kind"] == "result":
                return message
            tell(message)
    raise ToolError(f"{name} ended without a result")
