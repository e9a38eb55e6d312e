"""The child's side of :mod:`dpo_tui.processes.torch_tool`: read requests from stdin, write messages to stdout."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from dpo_tui.errors import DpoTuiError

Send = Callable[[str, dict[str, Any]], None]
"""Sends a message: takes its kind, and its other fields."""
Work = Callable[[dict[str, Any], Send], dict[str, Any]]
"""Handles a request, sends messages meanwhile, and returns the fields of the result."""


def serve(work: Work) -> int:
    """Handle requests from stdin, one JSON object a line, until it ends.

    Returns:
        The exit code: 1 after the first request that failed, or when nobody reads the messages any more.
    """
    # Messages go to a copy of descriptor 1, which then becomes stderr: libraries, in C too, print to 1.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(kind: str, message: dict[str, Any]) -> None:
        out.write(json.dumps({**message, "kind": kind}) + "\n")
        out.flush()

    try:
        answered = all(answer(work, line, send) for line in sys.stdin)
    except BrokenPipeError:
        return 1
    return 0 if answered else 1


def answer(work: Work, line: str, send: Send) -> bool:
    """Handle one request and send its result, or why it failed.

    Args:
        work: handles it.
        line: the request, a JSON object.
        send: sends a message.

    Returns:
        Whether it was handled; after a failure the tool takes no other.
    """
    try:
        result = work(json.loads(line), send)
    except BrokenPipeError:
        raise
    except Exception as error:
        traceback.print_exc()
        from dpo_tui.train.worker.failures import describe_failure

        failure = describe_failure(error, unknown="")
        code = error.exit_code if isinstance(error, DpoTuiError) else 1
        send("failed", {"message": failure.message, "hint": failure.hint, "exit_code": code})
        return False
    send("result", result)
    return True
