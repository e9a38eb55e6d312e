"""Search of the hub while the user types: one request at a time, with a deadline, in a process beside the screen."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from textual import work
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from dpo_tui.hub.hub_process import HubError, HubModel, HubProcess

PAUSE_SECONDS = 0.3
"""Without a key, after which what is typed is searched for."""
DEADLINE_SECONDS = 8.0
"""For an answer, with the start of the process; then the search is given up."""
_SHORTEST = 3
"""Characters that are searched for: fewer name everything."""
_FOUND_AT_MOST = 20


class HubSearch(Widget):
    """Invisible; `look_for` begins a search, whose result is posted as `Answered`."""

    DEFAULT_CSS = "HubSearch { display: none; }"

    class Answered(Message):
        """Posted when there is a result.

        Attributes:
            text: what was searched for.
            models: what the hub has.
            problem: why there is no answer; empty when there is one.
        """

        def __init__(self, text: str, models: Sequence[HubModel], problem: str = "") -> None:
            super().__init__()
            self.text, self.models, self.problem = text, models, problem

    def __init__(self) -> None:
        super().__init__()
        self._wanted = ""
        self._asked = ""
        """What the hub is asked now; empty while it is not asked."""
        self._pause: Timer | None = None
        self._process: HubProcess | None = None

    def on_unmount(self) -> None:
        """End a search."""
        self._give_up()

    def look_for(self, text: str) -> bool:
        """Search for what is typed once no key follows; an earlier search that waits is dropped.

        Returns:
            Whether the hub is going to be asked: not for a path, the name of a run, or a few letters.
        """
        if self._pause is not None:
            self._pause.stop()
        self._wanted = text if is_searchable(text) else ""
        if self._wanted:
            self._pause = self.set_timer(PAUSE_SECONDS, self._ask)
        return bool(self._wanted)

    def _ask(self) -> None:
        if not self._wanted or self._asked:
            return  # after the answer to what is asked now, the newest text is searched for
        if is_offline(os.environ):
            self.post_message(self.Answered(self._wanted, (), "HF_HUB_OFFLINE is set, so the hub is not asked"))
            return
        self._asked = self._wanted
        self.set_timer(DEADLINE_SECONDS, lambda text=self._asked: self._expire(text))
        self._search(self._asked)

    def _expire(self, text: str) -> None:
        if self._asked == text:
            self._give_up()
            problem = f"the hub has not answered within {DEADLINE_SECONDS:.0f} s"
            self._answered(text, (), problem)

    def _give_up(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    @work(thread=True, group="hub-search", exit_on_error=False)
    def _search(self, text: str) -> None:
        models: Sequence[HubModel] = ()
        problem = ""
        try:
            if self._process is None:
                self._process = HubProcess()
            models = self._process.search(text, _FOUND_AT_MOST)
        except HubError as error:
            problem = error.message
        if self.is_attached:
            self.app.call_from_thread(self._answered, text, models, problem)

    def _answered(self, text: str, models: Sequence[HubModel], problem: str) -> None:
        if text != self._asked:
            return  # its deadline was over
        self._asked = ""
        if text == self._wanted:
            self.post_message(self.Answered(text, models, problem))
        else:
            self._ask()


def is_searchable(text: str) -> bool:
    """Whether a text can be a part of a hub id."""
    return len(text) >= _SHORTEST and text[0] not in "/.~" and ":" not in text and text.count("/") <= 1


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether the hub's client is told not to use the network."""
    said = environment.get("HF_HUB_OFFLINE") or environment.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in ("1", "ON", "YES", "TRUE")


def has_token(environment: Mapping[str, str], token_file: Path) -> bool:
    """Whether the hub's client has a token to show."""
    return bool(environment.get("HF_TOKEN")) or token_file.is_file()
