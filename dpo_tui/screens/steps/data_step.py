"""Step 3: which pairs; a path with completion, the files at hand, the shipped sample; with the first pairs beside."""

import os
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from dpo_tui.demo import assets
from dpo_tui.errors import DpoTuiError
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.text.printable import printable
from dpo_tui.widgets.choice_list import ChoiceList
from dpo_tui.widgets.line_input import LineInput
from dpo_tui.widgets.text_pane import Paragraph, TextPane

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")
_PAIRS_SHOWN = 3
_FILES_LISTED = 60
_CUT = 400


class PathSuggester(Suggester):
    """Completes a path from the folders on disk."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first entry that begins as typed."""
        if not value:
            return None
        path = Path(value).expanduser()
        folder, stem = (path, "") if value.endswith("/") else (path.parent, path.name)
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(stem) and not name.startswith("."))
        except OSError:
            return None
        if not names:
            return None
        found = value[: len(value) - len(stem)] + names[0]
        return found + "/" if (folder / names[0]).is_dir() else found


class DataStep(Vertical):
    """A field for any data, the files at hand, and the first pairs of the one under the cursor."""

    DEFAULT_CSS = """
    DataStep #data-field { margin-bottom: 1; }
    DataStep Horizontal { height: 1fr; }
    DataStep ChoiceList { width: 2fr; height: 1fr; }
    DataStep TextPane { width: 3fr; height: 1fr; padding: 0 0 0 2; }
    """

    class Chosen(Message):
        """Data was chosen: a path or a hub id."""

        def __init__(self, location: str) -> None:
            super().__init__()
            self.location = location

    def compose(self) -> ComposeResult:
        """Field over list and preview."""
        yield LineInput(
            placeholder="file, folder or hub id — → completes — or choose below",
            id="data-field",
            suggester=PathSuggester(),
        )
        with Horizontal():
            yield ChoiceList(id="files")
            yield TextPane(id="data-preview")

    def show(self, plan: RunPlan) -> None:
        """List the shipped sample and the files at hand."""
        options = self.query_one(ChoiceList)
        kept = options.highlighted
        options.clear_options()
        options.add_option(Option("shipped: support answers", str(assets.pairs_file())))
        options.add_options(
            [Option(Content(printable(shown, single_line=True)), path) for shown, path in files_at_hand()]
        )
        options.highlighted = kept if kept is not None else 0
        if plan.has_data and not self.query_one(Input).value:
            self.query_one(Input).value = plan.config.dataset

    @on(OptionList.OptionHighlighted)
    def _preview(self, message: OptionList.OptionHighlighted) -> None:
        message.stop()
        if message.option_id is not None:
            self._look(message.option_id)

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        message.stop()
        if Path(message.value).expanduser().is_file():
            self._look(message.value)

    @on(OptionList.OptionSelected)
    def _select(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.query_one(Input).value = str(message.option_id)
        self.post_message(self.Chosen(str(message.option_id)))

    @on(Input.Submitted)
    def _submit(self, message: Input.Submitted) -> None:
        message.stop()
        if message.value.strip():
            self.post_message(self.Chosen(message.value.strip()))

    @work(thread=True, exclusive=True, group="data-preview", exit_on_error=False)
    def _look(self, location: str) -> None:
        text = preview(location)
        # A thread cannot be stopped: an earlier look that took longer must not replace a later one.
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self.query_one(TextPane).show, text, top=True)


def files_at_hand() -> list[tuple[str, str]]:
    """(shown, path) of data files here and one folder below."""
    here = Path.cwd()
    found = [path for pattern in ("*", "*/*") for path in sorted(here.glob(pattern)) if path.suffix in SUFFIXES]
    kept = [path for path in found if not any(part.startswith(".") for part in path.relative_to(here).parts)]
    usual = {"package.json", "tsconfig.json", "config.json", "tokenizer.json", "tokenizer_config.json"}
    return [(str(path.relative_to(here)), str(path)) for path in kept if path.is_file() and path.name not in usual][
        :_FILES_LISTED
    ]


def preview(location: str) -> list[Paragraph]:
    """The recognised format and the first pairs of some data, or why there are none."""
    from dpo_tui.data.scan.row_index import preview_rows
    from dpo_tui.data.scan.row_search import turns_of
    from dpo_tui.data.pairs.pair import Unreadable, text_of
    from dpo_tui.data.load_pairs import format_name
    from dpo_tui.data.rows.recogniser import Recogniser
    from dpo_tui.data.source.source import Source

    recogniser = Recogniser()
    text: list[Paragraph] = []
    try:
        rows = preview_rows(Source(location), 40)
    except DpoTuiError as error:
        return [(error.message, "bad"), (error.hint or "", "muted")]
    shown = 0
    for number, row in rows:
        found = turns_of(row, recogniser)
        if isinstance(found, Unreadable):
            text.append((f"row {number}: {found.message}", "bad"))
        elif found and shown < _PAIRS_SHOWN:
            shown += 1
            pair = found[0]
            text += [
                (_cut(text_of(pair.prompt)), "heading"),
                (f"+ {_cut(text_of(pair.chosen))}", "good"),
                (f"- {_cut(text_of(pair.rejected))}", "muted"),
                ("", "text"),
            ]
    head = f"format: {format_name(recogniser.formats)}" if recogniser.formats else "no pair recognised"
    return [(head, "accent"), ("", "text"), *text[:24]]


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else text[:_CUT] + " …"
