"""Step 3 of New, and the start of Data: the choice of a dataset, with a preview of its first pairs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from dpo_tui.paths import expanded
from dpo_tui.demo import assets
from dpo_tui.errors import DpoTuiError
from dpo_tui.hub.repository import PACKED, SUFFIXES
from dpo_tui.text.location_list import locations_of
from dpo_tui.text.printable import printable
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import ChoiceList, LineInput
from dpo_tui.widgets.text_pane import TextPane

_SUFFIXES = frozenset({*SUFFIXES, *PACKED})
_ROWS_READ = 40
"""Rows that a preview reads to recognise the format."""
_PAIRS_SHOWN = 3
_PARAGRAPHS_SHOWN = 24
_CHARACTERS_SHOWN = 400
"""Of one prompt or answer."""
_FILES_LISTED = 60
_PROMPTS_ONLY = "prompts-only"
"""The option without data; no path is so called, since those of files are absolute."""
_ABOUT_PROMPTS_ONLY = (
    "The model answers each prompt several times, a program or you say which answers are better, it trains on these pairs, "
    "and the result is judged blind on prompts that were held out; in rounds. Enter asks for the prompts and the judge."
)
_NO_DATA_FILES = {"package.json", "tsconfig.json", "config.json", "tokenizer.json", "tokenizer_config.json"}
"""Frequent names of JSON files that hold no dataset."""


class PathSuggester(Suggester):
    """Suggester that completes a path from the folders on disk."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The path completed to the first entry, in order, that begins as typed; None when there is none."""
        if not value:
            return None
        last = value.rpartition(",")[2].lstrip()  # of several with commas, the one that is being typed
        path = expanded(last)
        folder, stem = (path, "") if last.endswith("/") else (path.parent, path.name)
        if not last:
            return None
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(stem) and not name.startswith("."))
        except OSError:
            return None
        if not names:
            return None
        completed = value[: len(value) - len(stem)] + names[0]
        return completed + "/" if (folder / names[0]).is_dir() else completed


class DataStep(Vertical):
    """A field for any dataset over a list of data files, with a preview of the file at the cursor.

    Posts `Chosen` and `PromptsOnly`.

    Args:
        plan_of_new: gives the plan by whose settings data are read; None is the one that was shown last.
        prompts_only: whether the list has an entry for those who have prompts and no data.
        options: of the widget.
    """

    DEFAULT_CSS = """
    DataStep #data-field { margin-bottom: 1; }
    DataStep Horizontal { height: 1fr; }
    DataStep ChoiceList { width: 2fr; height: 1fr; }
    DataStep TextPane { width: 3fr; height: 1fr; padding: 0 0 0 2; }
    """

    class DataWanted(Message):
        """Posted when the user wants to see the report and the rows of the data.

        Attributes:
            location: a file, a folder, a pattern or a hub id, or several with commas between.
        """

        def __init__(self, location: str) -> None:
            super().__init__()
            self.location = location

    class Chosen(Message):
        """Posted when a dataset is chosen.

        Attributes:
            location: a file, a folder, a pattern or a hub id, or several with commas between.
        """

        def __init__(self, location: str) -> None:
            super().__init__()
            self.location = location

    class PromptsOnly(Message):
        """Posted when the user has only prompts; the app handles it."""

    def __init__(
        self, plan_of_new: Callable[[], RunPlan | None] = lambda: None, *, prompts_only: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self._prompts_only = prompts_only
        self._plan_of_new = plan_of_new
        self._plan = RunPlan()

    def compose(self) -> ComposeResult:
        """The field over the list and the preview."""
        yield LineInput(
            placeholder="file, folder or hub id — → completes — or choose below",
            id="data-field",
            suggester=PathSuggester(),
        )
        with Horizontal():
            yield ChoiceList(id="files", field="#data-field")
            yield TextPane(id="data-preview")

    def show(self, plan: RunPlan) -> None:
        """List the shipped pairs and the data files below the working directory.

        Args:
            plan: its dataset is put into the field, unless something was typed there.
        """
        self._plan = plan
        options = self.query_one(ChoiceList)
        highlighted = options.highlighted
        options.clear_options()
        options.add_option(Option("shipped: support answers", str(assets.pairs_file())))
        if self._prompts_only:
            options.add_option(Option("I have only prompts …", _PROMPTS_ONLY))
        options.add_options([Option(Content(printable(name, single_line=True)), path) for name, path in data_files()])
        options.highlighted = highlighted if highlighted is not None else 0
        if plan.has_data and not self.query_one(Input).value:
            self.query_one(Input).value = plan.config.dataset_text

    @property
    def location(self) -> str:
        """What is typed in the field if it has the focus, else what is under the cursor of the list."""
        field, options = self.query_one(Input), self.query_one(ChoiceList)
        chosen = None if options.highlighted is None else options.get_option_at_index(options.highlighted).id
        return field.value.strip() if field.has_focus or chosen in (None, _PROMPTS_ONLY) else str(chosen)

    @on(OptionList.OptionHighlighted)
    def _option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        message.stop()
        self.screen.refresh_bindings()  # the footer offers a look at data only where there are some
        if message.option_id == _PROMPTS_ONLY:
            self.workers.cancel_node(self)  # or the preview of the option before would come over this
            self.query_one(TextPane).show([(_ABOUT_PROMPTS_ONLY, "text")], top=True)
        elif message.option_id is not None:
            self._load_preview(message.option_id)

    @on(Input.Changed)
    def _field_changed(self, message: Input.Changed) -> None:
        message.stop()
        locations = locations_of(message.value)
        if locations and all(expanded(one).is_file() for one in locations):
            self._load_preview(message.value)

    @on(OptionList.OptionSelected)
    def _option_selected(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        if message.option_id == _PROMPTS_ONLY:
            self.post_message(self.PromptsOnly())
            return
        self.query_one(Input).value = str(message.option_id)
        self.post_message(self.Chosen(str(message.option_id)))

    @on(Input.Submitted)
    def _field_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        if message.value.strip():
            self.post_message(self.Chosen(message.value.strip()))

    @work(thread=True, exclusive=True, group="data-preview", exit_on_error=False)
    def _load_preview(self, location: str) -> None:
        text = preview(location, self._plan_of_new() or self._plan)
        # "exclusive" cannot stop a thread: the preview of an earlier choice may be ready after that of a later one.
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self.query_one(TextPane).show, text, top=True)


def data_files() -> list[tuple[str, str]]:
    """(relative path, absolute path) of data files in the working directory and one folder below."""
    here = Path.cwd()
    files: list[tuple[str, str]] = []
    for path in (path for pattern in ("*", "*/*") for path in sorted(here.glob(pattern))):
        relative = path.relative_to(here)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file() and path.name not in _NO_DATA_FILES:
            files.append((str(relative), str(path)))
    return files[:_FILES_LISTED]


def preview(location: str, plan: RunPlan | None = None) -> list[Paragraph]:
    """The recognised format and the first pairs of a dataset, or why there are none.

    Args:
        location: a file, a folder, a pattern or a hub id, or several with commas between; read in the calling thread.
        plan: by whose settings it is read.
    """
    from dpo_tui.data.load_pairs import format_name, tie_notes
    from dpo_tui.data.pairs.pair import RowProblem, Unreadable, text_of
    from dpo_tui.data.rows.column_use import reading_notes, unused_notes
    from dpo_tui.data.rows.record_to_pairs import Recogniser
    from dpo_tui.data.scan.row_index import preview_rows
    from dpo_tui.data.scan.row_search import labelled_turns_of, turns_of

    source = (plan or RunPlan()).source_at(location)
    recogniser = Recogniser(source.mapping)
    text: list[Paragraph] = []
    notes: list[str] = []
    try:
        rows = preview_rows(source, _ROWS_READ, notes)
    except DpoTuiError as error:
        return [(error.message, "bad"), (error.hint or "", "muted")]
    ties: list[RowProblem] = []
    shown = labelled = 0
    for number, row in rows:
        pairs = turns_of(row, recogniser)
        if isinstance(pairs, Unreadable) and pairs.check == "tie":
            ties.append(RowProblem(number, pairs.check, pairs.message))
        elif isinstance(pairs, Unreadable):
            answers = labelled_turns_of(row, recogniser)
            labelled += len(answers)
            if not answers:
                text.append((f"row {number}: {pairs.message}", "bad"))
            elif shown < _PAIRS_SHOWN:
                shown += 1
                mark, style = ("+", "good") if answers[0].desirable else ("-", "muted")
                text += [
                    (_shortened(text_of(answers[0].turns.prompt)), "heading"),
                    (f"{mark} {_shortened(text_of(answers[0].turns.chosen))}", style),
                    ("", "text"),
                ]
        elif pairs and shown < _PAIRS_SHOWN:
            shown += 1
            pair = pairs[0]
            text += [
                (_shortened(text_of(pair.prompt)), "heading"),
                (f"+ {_shortened(text_of(pair.chosen))}", "good"),
                (f"- {_shortened(text_of(pair.rejected))}", "muted"),
                ("", "text"),
            ]
    notes += ['for strategy = "kto": labelled answers, no pairs'] if labelled else []
    notes += tie_notes(ties, len(rows)) + reading_notes(recogniser.notes) + unused_notes(recogniser.columns.unused)
    heading = f"format: {format_name(recogniser.formats)}" if recogniser.formats else "no pair recognised"
    return [(heading, "accent"), *((note, "warn") for note in notes), ("", "text"), *text[:_PARAGRAPHS_SHOWN]]


def _shortened(text: str) -> str:
    return text if len(text) <= _CHARACTERS_SHOWN else text[:_CHARACTERS_SHOWN] + " …"
