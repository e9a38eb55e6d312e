"""The keys that page through the pairs of a dataset and decide about the one that is shown."""

from collections.abc import Callable
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from dpo_tui.data.repair.repair_plan import Edit
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions, PairAt
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.dialogs import TypeDialog
from dpo_tui.widgets.edit_dialog import EditDialog
from dpo_tui.widgets.list_dialogs import ChooseDialog
from dpo_tui.widgets.pair_view import PairShown, PairView

PAIR_ACTIONS = frozenset({"next", "flip", "drop", "edit", "check", "search", "go"})


class PairArea(FullScreen):
    """A screen with a `PairView`.

    Pairs are read in a thread, so that for a while another pair may be asked for than the one that is shown. Further
    moves then add up; decisions are refused, since a person decides about what they see.
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
        self._words = ""
        self._request = 0
        """Counts requests for a pair, so that a late answer to an older one is known."""
        self._answered = 0
        """The newest request whose pair is shown."""
        self.forget_pairs()

    def forget_pairs(self) -> None:
        """Begin anew, for other data."""
        self._dataset: DatasetBrowser | None = None
        self._report: dict[str, Any] | None = None
        self._row = 1
        self._check = ""
        self._at: PairAt | None = None
        self._decisions = Decisions()
        self._request += 1
        self._moving = False
        """Whether another pair than the one shown was asked for."""
        self._named_steps: tuple[int, int] | None = None
        """Of a request for a pair that the check names: the row to start at, and how many such pairs further it is."""

    def show_where(self) -> None:
        """Show which pair of how many is shown, and what was decided."""
        raise NotImplementedError

    def _show_row(self, row: int) -> None:
        if self._dataset is not None and self._dataset.count:
            self._row = target = min(max(row, 1), self._dataset.count)
            self._show_found(lambda _: target)

    def _show_found(self, find: Callable[[DatasetBrowser], int | None], *, otherwise: str = "", moving: bool = True) -> None:
        """Find a row and show its pair; only the newest request is answered.

        Args:
            find: gives the row's number; called in a thread.
            otherwise: what to say when it gives None.
            moving: whether it may be another row than the one shown.
        """
        if self._dataset is not None:
            self._request += 1
            self._moving, self._named_steps = moving, None
            self._read_pair(self._request, self._dataset, self._decisions, find, otherwise)

    @work(thread=True, exclusive=True, group="row", exit_on_error=False)
    def _read_pair(
        self,
        request: int,
        dataset: DatasetBrowser,
        decisions: Decisions,
        find: Callable[[DatasetBrowser], int | None],
        otherwise: str,
    ) -> None:
        at = None
        try:
            if (row := find(dataset)) is not None:
                at = dataset.at(row, decisions)
        except Exception:
            otherwise = ""  # the dialog says what is wrong
            raise
        finally:
            # "exclusive" cannot stop a thread: an older request may still be answered after a newer one.
            self.app.call_from_thread(self._pair_read, request, at, otherwise)

    def _pair_read(self, request: int, at: PairAt | None, otherwise: str) -> None:
        if request != self._request:
            return
        self._moving, self._answered = False, request
        if at is not None:
            self._show_pair(at)
            return
        self._row = self._at.row if self._at is not None else 1
        if otherwise:
            self.notify(otherwise, markup=False)

    def _show_pair(self, at: PairAt) -> None:
        self._at, self._row = at, at.row
        shown = PairShown(
            prompt=at.prompt,
            chosen=at.difference[0],
            rejected=at.difference[1],
            chosen_words=len(at.chosen.split()),
            rejected_words=len(at.rejected.split()),
            problem=at.problem,
            decided=self._decisions.words(at.row),
        )
        self.query_one(PairView).show(shown)
        self.show_where()

    def action_next(self, by: int) -> None:
        """Go to the next pair, or the next that the check names."""
        if self._check:
            here = (self._at.row if self._at is not None else 0, 0)
            row, steps = self._named_steps if self._moving and self._named_steps is not None else here
            self._show_named(row, steps + by)
        else:
            self._show_row(self._row + by)

    def _show_named(self, row: int, steps: int) -> None:
        """Show the pair so many steps from a row, among those that the check names."""
        check = self._check

        def find(dataset: DatasetBrowser) -> int | None:
            found: int | None = row
            for _ in range(abs(steps)):
                found = dataset.next_named(check, found, backwards=steps < 0) if found is not None else None
            return found or None

        self._show_found(find, otherwise="No further pair is named by this check.")
        self._named_steps = (row, steps)

    def _decidable(self) -> PairAt | None:
        """The pair that is shown; None while another one is being read, which the key may have been meant for."""
        if self._moving:
            self.notify("The next pair is still being read: press the key again when it is shown.", markup=False)
            return None
        return self._at

    def _decide(self, decide: Callable[[Decisions, int], Decisions]) -> None:
        """Decide on the pair that is shown."""
        if (at := self._decidable()) is not None:
            self._decisions = decide(self._decisions, at.row)
            self._show_found(lambda _: at.row, moving=False)

    def action_flip(self) -> None:
        """Swap the answers, or take that back."""
        self._decide(Decisions.flip)

    def action_drop(self) -> None:
        """Leave the pair out, or take that back."""
        self._decide(Decisions.drop)

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_edit(self) -> None:
        """Edit the answers."""
        at = self._decidable()
        if at is None or at.problem:
            return
        if self._answered != self._request:  # the answers shown are not swapped yet, or not back
            self.notify("The pair is still being read: press the key again.", markup=False)
            return
        flipped = at.row in self._decisions.flipped
        texts = await self.app.push_screen_wait(EditDialog(at.chosen, at.rejected))
        if texts is not None:
            # Edits are kept as the file has its answers; a flip comes after them.
            chosen, rejected = reversed(texts) if flipped else texts
            edit = Edit(chosen=chosen, rejected=rejected)
            self._decide(lambda decisions, row: decisions.edit(row, edit))

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_check(self) -> None:
        """Leave only the pairs that one check names."""
        problems = [problem for problem in (self._report or {}).get("problems", []) if problem["rows"]]
        choices = [("", "all pairs")] + [(p["check"], f"{p['check']}  {p['count']:,}  {p['title']}") for p in problems]
        picked = await self.app.push_screen_wait(ChooseDialog("Which pairs?", choices))
        if picked is None:
            return
        self._check = picked
        if picked:
            self._show_named(0, 1)
        else:
            self.show_where()

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_search(self) -> None:
        """Go to the next pair with some words."""
        words = await self.app.push_screen_wait(TypeDialog("Find pairs with", self._words))
        if words:
            self._words = words
            first = self._row + 1
            self._show_found(lambda dataset: dataset.find(words, first), otherwise="No further pair has these words.")

    @work(exclusive=True, group="ask", exit_on_error=False)
    async def action_go(self) -> None:
        """Go to a pair by its number."""
        typed = await self.app.push_screen_wait(TypeDialog("Go to pair", str(self._row)))
        if typed and typed.replace(",", "").isdigit():
            self._show_row(int(typed.replace(",", "")))
