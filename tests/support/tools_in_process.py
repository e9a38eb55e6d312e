"""The tools of `dpo_tui.train.tools` called in this process, for tests of what a tool does and not of how it starts.

A child imports the torch stack anew, which takes longer than what most tests ask of it. Requests and messages go
through JSON here too, and what a tool prints goes nowhere. That tools are children is held by `tests/processes`.
"""

import contextlib
import io
import json
import runpy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dpo_tui.processes.torch_tool import TorchTool


def work_of(name: str) -> Any:
    """What the tool passes to `json_service.serve` when it is run as a program."""
    from dpo_tui.train.tools import json_service

    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runpy's: the module may be imported already
        patch.setattr(json_service, "serve", found.append)
        with pytest.raises(SystemExit):
            runpy.run_module(f"dpo_tui.train.tools.{name}", run_name="__main__")
    return found[0]


def call_tools_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `TorchTool` call its tool where it would start a child."""

    def begin(self: Any, name: str, *, environment: Mapping[str, str]) -> None:
        self.task, self.work, self.requests = name, work_of(name), []

    def send(self: Any, request: Mapping[str, Any]) -> None:
        self.requests.append(json.dumps(request))

    def messages(self: Any) -> Iterator[dict[str, Any]]:
        from dpo_tui.train.tools.json_service import answer

        while self.requests:
            sent: list[str] = []

            def write(kind: str, message: dict[str, Any], sent: list[str] = sent) -> None:
                sent.append(json.dumps({**message, "kind": kind}))

            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                answer(self.work, self.requests.pop(0), write)
            yield from map(json.loads, sent)

    def close(self: Any) -> None:
        self.work = None

    for method in (send, messages, close):
        monkeypatch.setattr(TorchTool, method.__name__, method, raising=False)
    monkeypatch.setattr(TorchTool, "__init__", begin)
