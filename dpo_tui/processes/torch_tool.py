"""Child processes that need the torch stack: the modules of ``dpo_tui.train.tools``.

A child reads a request as a JSON line, and answers with JSON lines:

    {"kind": "progress", "message": …, "done": n, "total": n}   any number of them; a tool may add other kinds
    {"kind": "result", …}                                        the last one of a request
    {"kind": "failed", "message": …, "hint": …, "exit_code": n}  instead of it

Standard library only: torch is loaded in the child and freed with it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dpo_tui.processes.json_child import ChildError, JsonChild, Message

# The subject of error messages, by module: a user does not know the modules' names.
_TASKS = {
    "evaluate_run": "the evaluation",
    "export_run": "the export",
    "merge": "merging the adapter",
    "adapter_plan": "the check of the adapter",
    "loading_plan": "the check of the weights",
    "library_arguments": "listing the libraries' arguments",
    "memory_probe": "the probe",
    "score": "scoring answers",
    "generate": "generating answers",
    "verify_saved": "the verification",
}


class TorchTool(JsonChild):
    """A child process that runs one of these tools. Use it as a context manager; leaving it ends the child.

    Args:
        name: of the module under ``dpo_tui.train.tools``.
        environment: variables to set in the child: those by which CUDA shows it a GPU that no run holds
            (:func:`dpo_tui.hardware.tool_gpu.tool_environment`).

    Raises:
        ChildError: no process can be started.
    """

    def __init__(self, name: str, *, environment: Mapping[str, str]) -> None:
        super().__init__(f"dpo_tui.train.tools.{name}", _TASKS[name], environment=environment)

    def ask(self, request: Mapping[str, Any]) -> Iterator[Message]:
        """Send a request and yield the child's messages; the last one is of kind ``result``.

        Raises:
            ChildError: the child reported a failure, or it ended early.
        """
        self.send(request)
        for message in self.messages():
            if message["kind"] == "failed":
                code = message.get("exit_code", 1)
                raise ChildError(message["message"], hint=message.get("hint") or None, exit_code=code)
            yield message
            if message["kind"] == "result":
                return
        raise self.died()


def run_tool(
    name: str,
    request: Mapping[str, Any],
    on_message: Callable[[Message], None] = lambda _: None,
    *,
    environment: Mapping[str, str],
) -> Message:
    """Start a child for one request and return its result.

    Args:
        name: of the module under ``dpo_tui.train.tools``.
        request: what to do.
        on_message: called with every message before the result.
        environment: variables to set in the child: those by which CUDA shows it a GPU that no run holds
            (:func:`dpo_tui.hardware.tool_gpu.tool_environment`).

    Raises:
        ChildError: it failed.
    """
    with TorchTool(name, environment=environment) as tool:
        for message in tool.ask(request):
            if message["kind"] == "result":
                return message
            on_message(message)
    raise ChildError(f"{tool.task} ended without a result")
