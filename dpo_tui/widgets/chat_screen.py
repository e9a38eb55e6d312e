"""A conversation with the model of a run that is over, beside the model it was trained from; over the monitor."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.torch_tool import TorchTool
from dpo_tui.runs.folder import RunFolder
from dpo_tui.text.printable import printable
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.text_pane import TextPane

_SIDES = ("base", "tuned")
_LONGEST = 256
"""Tokens of an answer, as `dpo-tui chat` has it."""
_DRAW_SECONDS = 0.2
"""Between two redraws while an answer comes."""
_HELP = "enter asks both · /new forgets the conversation · esc leaves"


class ChatScreen(ModalScreen[None]):
    """Questions in a field, the answers of base and tuned model above it, as they come.

    The models are loaded by a child process, which ends with the screen.

    Args:
        folder: a run with a result.
        name: of the run, printable.
    """

    DEFAULT_CSS = """
    ChatScreen { background: $background; }
    ChatScreen > Vertical { padding: 0 1; }
    ChatScreen .-title { text-style: bold; }
    ChatScreen TextPane { height: 1fr; margin: 1 0; }
    ChatScreen .-keys { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", id="chat.leave", priority=True)]

    def __init__(self, folder: RunFolder, name: str) -> None:
        super().__init__()
        self._folder, self._run_name = folder, name
        self._tool: TorchTool | None = None
        self._said: list[Paragraph] = []
        self._histories: dict[str, list[dict[str, Any]]] = {who: [] for who in _SIDES}
        self._turn = 0
        self._answering = True
        """Whether a question has to wait: the models are being loaded, or answer."""

    def compose(self) -> ComposeResult:
        """Title, the conversation, the field, keys."""
        with Vertical():
            yield Static(Content(f"Chat with {self._run_name}, beside its base"), classes="-title")
            yield TextPane([("Loading the libraries and the model takes a while …", "muted")], follow=True)
            yield LineInput(placeholder="a question", id="question")
            yield Static(Content(_HELP), classes="-keys")

    def on_mount(self) -> None:
        """Load the models."""
        self.query_one(Input).focus()
        self._load()

    def on_unmount(self) -> None:
        """End the child, and with it an answer that is coming."""
        if self._tool is not None:
            self._tool.close()

    @work(thread=True, group="chat", exit_on_error=False)
    def _load(self) -> None:
        remarks: list[str] = []
        try:
            self._tool = TorchTool("generate", environment=tool_environment(report=remarks.append))
            for message in self._tool.ask({"do": "load-run", "run": str(self._folder.path)}):
                if message["kind"] == "result":
                    remarks.append(f"{message['device']}. Greedy answers of {_LONGEST} tokens at most.")
        except DpoTuiError as error:
            self._from_thread(self._failed, error)
            return
        self._from_thread(self._ready, remarks)

    def _from_thread(self, function: Any, *values: Any) -> None:
        if self.is_attached:
            self.app.call_from_thread(function, *values)

    def _ready(self, remarks: list[str]) -> None:
        self._answering = False
        self._said = [(text, "muted") for text in remarks]
        self._show()

    def _failed(self, error: DpoTuiError) -> None:
        self._said += [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")]
        self._show()

    def _show(self) -> None:
        if self.is_attached:
            self.query_one(TextPane).show(self._said)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Ask both models; while they answer, what is typed stays in the field."""
        message.stop()
        question = message.value.strip()
        if not question or self._answering:
            return
        self.query_one(Input).value = ""
        if question == "/new":
            self._histories = {who: [] for who in _SIDES}
            self._said.append(("A new conversation.", "muted"))
            self._show()
            return
        self._answering = True
        self._turn += 1
        self._said += [("", "text"), (f"you  {question}", "heading")]
        self._ask(question)

    @work(thread=True, group="chat", exit_on_error=False)
    def _ask(self, question: str) -> None:
        try:
            # Each has a history of its own: their answers differ, and so do the conversations that follow.
            for who, history in self._histories.items():
                history.append({"role": "user", "content": question})
                history.append({"role": "assistant", "content": self._answer_of(who, history)})
        except DpoTuiError as error:
            self._from_thread(self._failed, error)
            return
        self._answering = False

    def _answer_of(self, who: str, history: list[Mapping[str, Any]] | list[dict[str, Any]]) -> str:
        """The answer of one model, shown while it comes; called in a thread."""
        assert self._tool is not None  # noqa: S101 - loaded before the first question
        text, drawn = "", 0.0
        self._from_thread(self._show_answer, who, "…", True)
        request = {"do": "reply", "who": who, "messages": history, "max_new_tokens": _LONGEST, "temperature": 0.0}
        for message in self._tool.ask({**request, "seed": self._turn}):
            if message["kind"] == "text":
                text += str(message["text"])
                if time.monotonic() - drawn >= _DRAW_SECONDS:
                    drawn = time.monotonic()
                    self._from_thread(self._show_answer, who, text, False)
            elif message["kind"] == "result":
                text = str(message["text"])
                self._from_thread(self._show_answer, who, text if message["stopped"] else f"{text} …", False)
        return text

    def _show_answer(self, who: str, text: str, is_new: bool) -> None:
        """Show an answer in the place of what came of it before."""
        answer = (f"{who}  {printable(text)}", "good" if who == "tuned" else "text")
        self._said[len(self._said) if is_new else -1 :] = [answer]
        self._show()

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
