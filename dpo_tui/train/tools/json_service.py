"""The child's side of :mod:`dpo_tui.processes.torch_tool`: requests in, messages out, nothing else on stdout."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from dpo_tui.errors import DpoTuiError

Tell = Callable[[str, dict[str, Any]], None]
"""Send a message: its kind, and the rest of it."""
Work = Callable[[dict[str, Any], Tell], dict[str, Any]]
"""Do what a request asks, telling how it goes; return the result."""


def serve(work: Work) -> int:
    """Answer requests from stdin until it ends; return the exit code.

    What libraries print goes to stderr, so that stdout carries messages only.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(kind: str, message: dict[str, Any]) -> None:
        out.write(json.dumps({**message, "kind": kind}) + "\n")
        out.flush()

    for line in sys.stdin:
        try:
            result = work(json.loads(line), tell)
        except BrokenPipeError:
            return 1
        except Exception as error:
            traceback.print_exc()
            from dpo_tui.train.worker.failures import describe_failure

            failure = describe_failure(error, unknown="")
            code = error.exit_code if isinstance(error, DpoTuiError) else 1
            tell("failed", {"message": failure.message, "hint": failure.hint, "exit_code": code})
            return 1
        tell("result", result)
    return 0
