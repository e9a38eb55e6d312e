"""Base of a screen that pages through the pairs of a dataset, and flips, drops or edits the one that is shown."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from dpo_tui.data.pairs.pair import text_of
from dpo_tui.data.repair.row_forms import Edit
from dpo_tui.views.dataset_browser import BrowsedPair, DatasetBrowser, Decisions
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.edit_dialog import EditAnswersDialog, WritePairDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.list_dialogs import ChoiceDialog
from dpo_tui.widgets.pair_view import PairContent, PairView

PAIR_ACTIONS = frozenset({"next", "flip", "drop", "edit", "check", "search", "go"})


class PairScreen(FullScreen):
    """A screen with a `PairView`.

    Pairs are read in a thread, so for a while the pair that was requested is not the one that is shown. Further moves
    then add up. Decisions are rejected with a notice, since they would apply to a pair that the user does not see.

    Attributes:
        dataset: the open dataset; None before one is open.
        report: the newest scan report; None before there is one.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "next(1)", "next", id="data.next"),
        Binding("p", "next(-1)", "before", id="data.previous"),
        Binding("f", "flip", "flip", id="data.flip"),
        Binding("d", "drop", "drop", id="data.drop"),
        Binding("e", "edit", "edit", id="data.edit"),
        Binding("c", "check", "by check", id="data.check"),
        Binding("slash", "search", "search", id="data.search"),
        Binding("g", "go", "go to", id="data.go", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._search_text = ""
        self._request = 0
        """Number of the newest request for a pair: results of older requests are dropped."""
        self._shown_request = 0
        """Number of the request whose pair is shown."""
        self.reset_pairs()

    def reset_pairs(self) -> None:
        """Forget the dataset, its report and all decisions, before another dataset is opened."""
        self.dataset: DatasetBrowser | None = None
        self.report: dict[str, Any] | None = None
        self._row = 1
        """Row of the pair requested last, from 1."""
        self._check = ""
        """Only pairs that this check names are paged through; empty for all."""
        self._pair: BrowsedPair | None = None
        """The pair that is shown."""
        self._decisions = Decisions()
        self._request += 1
        self._moving = False
        """Whether the requested pair may be another one than the pair shown."""
        self._check_move: tuple[int, int] | None = None
        """Of a pending move among the pairs that the check names: the row it starts at, and by how many pairs."""

    def show_position(self) -> None:
        """Show which pair of how many is shown, and what was decided about it."""
        raise NotImplementedError

    def _show_row(self, row: int) -> None:
        """Request a row; one beyond the ends becomes the first or last."""
        if self.dataset is not None and self.dataset.count:
            self._row = target = min(max(row, 1), self.dataset.count)
            self._request_pair(lambda _: target)

    def _request_pair(
        self, find_row: Callable[[DatasetBrowser], int | None], *, not_found: str = "", moving: bool = True
    ) -> None:
        """Find a row and show its pair, unless a newer request comes first.

        Args:
            find_row: gives the row's number, from 1; called in a thread.
            not_found: the notice when it gives None.
            moving: whether it may be another row than the one shown.
        """
        if self.dataset is not None:
            self._request += 1
            self._moving, self._check_move = moving, None
            self._read_pair(self._request, self.dataset, self._decisions, find_row, not_found)

    @work(thread=True, exclusive=True, group="row", exit_on_error=False)
    def _read_pair(
        self,
        request: int,
        dataset: DatasetBrowser,
        decisions: Decisions,
        find_row: Callable[[DatasetBrowser], int | None],
        not_found: str,
    ) -> None:
        pair = None
        try:
            if (row := find_row(dataset)) is not None:
                pair = dataset.at(row, decisions)
        except Exception:
            not_found = ""  # the dialog of the failure says what is wrong
            raise
        finally:
            # "exclusive" cannot stop a thread: an older request may still deliver its pair after a newer one.
            self.app.call_from_thread(self._pair_read, request, pair, not_found)

    def _pair_read(self, request: int, pair: BrowsedPair | None, not_found: str) -> None:
        if request != self._request:
            return
        self._moving, self._shown_request = False, request
        if pair is not None:
            self._show_pair(pair)
            return
        self._row = self._pair.row if self._pair is not None else 1
        if not_found:
            self.notify(not_found, markup=False)

    def _show_pair(self, pair: BrowsedPair) -> None:
        self._pair, self._row = pair, pair.row
        shown = PairContent(
            prompt=pair.prompt,
            chosen=pair.difference[0],
            rejected=pair.difference[1],
            chosen_words=len(pair.chosen.split()),
            rejected_words=len(pair.rejected.split()),
            problem=pair.problem,
            source=pair.source,
            decided=self._decisions.summary(pair.row),
        )
        self.query_one(PairView).show(shown)
        self.show_position()

    def action_next(self, by: int) -> None:
        """Move by a number of pairs, which may be negative, among those that the check names if there is one."""
        if not self._check:
            self._show_row(self._row + by)
            return
        start, steps = self._pair.row if self._pair is not None else 0, 0
        if self._moving and self._check_move is not None:
            start, steps = self._check_move  # the move before is still pending: both become one
        self._show_by_check(start, steps + by)

    def _show_by_check(self, start: int, steps: int) -> None:
        """Show the pair a number of steps from row ``start``, counting only pairs that the check names."""
        check = self._check

        def find_row(dataset: DatasetBrowser) -> int | None:
            row: int | None = start
            for _ in range(abs(steps)):
                row = dataset.next_flagged(check, row, backwards=steps < 0) if row is not None else None
            return row or None

        self._request_pair(find_row, not_found="No further pair is named by this check.")
        self._check_move = (start, steps)

    def _pair_to_decide(self) -> BrowsedPair | None:
        """The pair that is shown; None while another one is being read, which the key may have been meant for."""
        if self._moving:
            self.notify("The next pair is still being read: press the key again when it is shown.", markup=False)
            return None
        return self._pair

    def _decide(self, decide: Callable[[Decisions, int], Decisions]) -> None:
        """Apply a decision to the pair that is shown, and show the result."""
        if (pair := self._pair_to_decide()) is not None:
            self._decisions = decide(self._decisions, pair.row)
            self._request_pair(lambda _: pair.row, moving=False)

    def action_flip(self) -> None:
        """Swap the answers, or swap them back."""
        self._decide(Decisions.flip)

    def action_drop(self) -> None:
        """Drop the pair, or take it back."""
        self._decide(Decisions.drop)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_edit(self) -> None:
        """Edit the answers; of a row that gives no pair, write one in its place."""
        pair = self._pair_to_decide()
        if pair is None or self.dataset is None:
            return
        if self._shown_request != self._request:  # a flip was decided, but its answers are not shown swapped yet
            self.notify("The pair is still being read: press the key again.", markup=False)
            return
        if pair.problem:
            await self._write_pair(self.dataset, pair)
            return
        flipped = pair.row in self._decisions.flipped
        answers = await self.app.push_screen_wait(EditAnswersDialog(pair.chosen, pair.rejected))
        if answers is not None:
            # An edit is stored with the sides of the file, and a flip is applied after it.
            chosen, rejected = reversed(answers) if flipped else answers
            old = self._decisions.edits.get(pair.row, Edit())  # of a pair that was written anew it has the prompt, too
            edit = replace(old, chosen=chosen, rejected=rejected)
            self._decide(lambda decisions, row: decisions.edit(row, edit))

    async def _write_pair(self, dataset: DatasetBrowser, pair: BrowsedPair) -> None:
        """Ask for the three texts of a row that gives no pair."""
        known = self._decisions.edits.get(pair.row)
        if known is not None:
            draft = tuple(text_of(part or "") for part in (known.prompt, known.chosen, known.rejected))
        else:
            draft = await asyncio.to_thread(dataset.draft, pair.row)
        prompt, chosen, rejected = draft
        written = await self.app.push_screen_wait(WritePairDialog(pair.problem, pair.source, prompt, chosen, rejected))
        if written is not None:
            prompt, chosen, rejected = written
            edit = Edit(prompt=prompt, chosen=chosen, rejected=rejected)
            self._decide(lambda decisions, row: decisions.edit(row, edit))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_check(self) -> None:
        """Ask for a check, and page only through the pairs that it names."""
        problems = [problem for problem in (self.report or {}).get("problems", []) if problem["rows"]]
        choices = [("", "all pairs")] + [(p["check"], f"{p['check']}  {p['count']:,}  {p['title']}") for p in problems]
        picked = await self.app.push_screen_wait(ChoiceDialog("Which pairs?", choices))
        if picked is None:
            return
        self._check = picked
        if picked:
            self._show_by_check(0, 1)
        else:
            self.show_position()

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_search(self) -> None:
        """Ask for a text, and go to the next pair that contains it."""
        text = await self.app.push_screen_wait(InputDialog("Find pairs with", self._search_text))
        if text:
            self._search_text = text
            first = self._row + 1
            self._request_pair(lambda dataset: dataset.find(text, first), not_found="No further pair has these words.")

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_go(self) -> None:
        """Ask for a number, and go to the pair of that row."""
        typed = await self.app.push_screen_wait(InputDialog("Go to pair", str(self._row)))
        if typed and typed.replace(",", "").isdigit():
            self._show_row(int(typed.replace(",", "")))
