"""Step 2 of New: the choice of a model from a list, by a search of the hub, or by folder or earlier run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from dpo_tui.paths import expanded
from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.models.lookup import RecommendedModel, known_models, recommended_models
from dpo_tui.hardware.profiles import Profile, fitting_models
from dpo_tui.hub.cache import hub_cache
from dpo_tui.hub.hub_child import gated_hint
from dpo_tui.hub.hub_process import HubModel
from dpo_tui.hub.repository import looks_like_hub_id
from dpo_tui.screens.settings_screen import token_file
from dpo_tui.screens.steps.hub_search import HubSearch, has_token
from dpo_tui.text.printable import printable
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import ChoiceList, LineInput
from dpo_tui.widgets.download_dialog import DownloadDialog
from dpo_tui.widgets.text_pane import TextPane

DEMO = "demo"
"""What `ModelStep.Chosen` names when the shipped demo was chosen."""
_MODELS_LISTED = 40
"""Models found on this disk, at most."""


class ModelStep(Vertical):
    """A field for any model over a list of local and recommended ones. Posts `Chosen`.

    What is typed into the field filters the list and searches the hub.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+g", "download", "download", id="model.download", key_display="^g")
    ]

    DEFAULT_CSS = """
    ModelStep #model-field { margin-bottom: 1; }
    ModelStep ChoiceList { height: 1fr; }
    ModelStep TextPane { height: 3; margin-top: 1; }
    ModelStep TextPane.refused { height: 8; }
    """

    class Chosen(Message):
        """Posted when a model is chosen.

        Attributes:
            name: a hub id, a folder of a model or an adapter, ``run:ID``, or `DEMO` for the shipped model and pairs.
        """

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._refusal: list[Paragraph] = []
        self._model_notes: list[Paragraph] = []
        self._hub_note: list[Paragraph] = []
        """How the search of the hub stands."""
        self._hub_models: Sequence[HubModel] = ()
        self._fitting: set[str] = set()
        self._filter = ""
        """What the names of the listed models have in common."""
        self._has_gpu = False

    def compose(self) -> ComposeResult:
        """The field, the list, and notes on the model under the cursor."""
        yield LineInput(placeholder="search the hub, or a hub id, folder or run:ID — or choose below", id="model-field")
        yield HubSearch()
        yield ChoiceList(id="models", field="#model-field")
        yield TextPane(id="model-notes")

    def show(self, profile: Profile, plan: RunPlan) -> None:
        """List the models, with whether each fits this machine.

        Args:
            profile: the machine's profile.
            plan: its model is put into the field, unless something was typed there.
        """
        self._fitting = {model.name for model in fitting_models(profile)}
        self._has_gpu = profile.gpu is not None
        self._hub_models, self._hub_note = (), []
        self._list("")
        local = local_models()
        names = sorted({*local, *known_models()})
        self.query_one(Input).suggester = SuggestFromList(names, case_sensitive=False)
        if plan.has_model and not self.query_one(Input).value:
            self.query_one(Input).value = plan.config.model_name

    def _list(self, text: str) -> None:
        """List the models whose name has a text: of this disk, the recommended ones, and those of the hub's answer."""
        self._filter = text
        options = self.query_one(ChoiceList)
        highlighted = options.highlighted
        options.clear_options()
        if not text:
            title = "demo   toy model and pairs, shipped: the whole job in a minute, no network"
            options.add_option(Option(title, DEMO))
        local = [name for name in local_models() if text.lower() in name.lower()]
        options.add_options([Option(Content(f"{printable(name)}  on this disk"), name) for name in local])
        # On a GPU the largest that fits is what people came for; without one the smallest is the one that ends today.
        sign = -1 if self._has_gpu else 1
        models = [
            model for model in recommended_models() if text.lower() in model.name.lower() and model.name not in local
        ]
        models.sort(key=lambda model: (model.name not in self._fitting, sign * model.parameters))
        options.add_options([Option(_model_line(model, model.name in self._fitting), model.name) for model in models])
        listed = {*local, *(model.name for model in models)}
        found = [model for model in self._hub_models if text and model.name not in listed]
        options.add_options([Option(Content(_hub_line(model)), model.name) for model in found])
        if options.option_count:
            options.highlighted = min(highlighted or 0, options.option_count - 1)

    @on(Input.Changed)
    def _field_changed(self, message: Input.Changed) -> None:
        message.stop()
        field = self.query_one("#model-field", Input)
        if not field.has_focus:
            return  # it shows the plan's model: nobody is searching
        text = message.value.strip()
        self._hub_models = ()
        asking = self.query_one(HubSearch).look_for(text)
        self._hub_note = [("asking the hub …", "muted")] if asking else []
        self._list(text)
        self._show_text()

    @on(HubSearch.Answered)
    def _hub_answered(self, message: HubSearch.Answered) -> None:
        message.stop()
        text = self.query_one("#model-field", Input).value.strip()
        if message.text != text:
            return
        self._hub_models = message.models
        self._list(text)
        if message.problem:
            note = f"{message.problem[:1].upper()}{message.problem[1:]}. Listed is what this machine has and knows."
            self._hub_note = [(printable(note, single_line=True), "warn")]
        else:
            count = len(message.models)
            self._hub_note = [
                (f"The hub has {count or 'no'} such model{'' if count == 1 else 's'}. ↓ list, ^g download.", "muted")
            ]
        self._show_text()

    def on_key(self, event: Key) -> None:
        """Go from the field to the list."""
        if event.key == "down" and self.query_one("#model-field", Input).has_focus:
            event.stop()
            self.query_one(ChoiceList).focus()

    @property
    def _named(self) -> str:
        """The hub id in the field if that has the focus, else the one under the cursor of the list."""
        field, options = self.query_one("#model-field", Input), self.query_one(ChoiceList)
        if field.has_focus or options.highlighted is None:
            return field.value.strip()
        return str(options.get_option_at_index(options.highlighted).id)

    @work(exclusive=True, group="download", exit_on_error=False)
    async def action_download(self) -> None:
        """Download the model that is named, before any run needs it."""
        name = self._named
        if name == DEMO or not looks_like_hub_id(name) or expanded(name).exists():
            self.app.notify("Name a model of the hub to download: org/name.", markup=False)
            return
        if await self.app.push_screen_wait(DownloadDialog(name)):
            self.app.notify(f"{printable(name)} is on this disk now.", markup=False)
            self._list(self._filter)

    def show_refusal(self, error: DpoTuiError | None, start: str = "") -> None:
        """Say why no run could start from the plan's model, or of what it is made; neither takes the sentence away.

        Args:
            error: of the check of the model.
            start: the adapter and its base, where the model is an adapter.
        """
        self._refusal = [] if error is None else [(f"✗ {error.message}", "bad"), (error.hint or "", "accent")]
        if start:
            self._refusal = [(printable(start, single_line=True), "accent")]
        self._show_text()

    @on(OptionList.OptionHighlighted)
    def _show_notes(self, message: OptionList.OptionHighlighted) -> None:
        message.stop()
        model = next((model for model in recommended_models() if model.name == message.option_id), None)
        found = next((one for one in self._hub_models if one.name == message.option_id), None)
        self._model_notes = [] if model is None else [(_notes(model), "warn" if model.gated else "muted")]
        if found is not None and found.gated:
            self._model_notes = [(_gated_note(found.name), "warn")]
        self._show_text()

    def _show_text(self) -> None:
        pane = self.query_one(TextPane)
        gated = any(role == "warn" for _, role in self._model_notes)
        pane.set_class(bool(self._refusal) or gated, "refused")
        pane.show([*self._refusal, *self._hub_note, *self._model_notes])

    @on(OptionList.OptionSelected)
    def _option_selected(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.post_message(self.Chosen(str(message.option_id)))

    @on(Input.Submitted)
    def _field_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        if message.value.strip():
            self.post_message(self.Chosen(message.value.strip()))


def local_models() -> list[str]:
    """Models on this disk: paths of folders below the working directory, then ids of models in the hub's cache."""
    models = [
        str(path.parent) for path in sorted(Path.cwd().glob("*/config.json")) if any(path.parent.glob("*.safetensors"))
    ]
    cache = hub_cache()
    try:
        names = sorted(os.listdir(cache))
    except OSError:
        names = []
    models += [name.removeprefix("models--").replace("--", "/", 1) for name in names if name.startswith("models--")]
    return models[:_MODELS_LISTED]


def _model_line(model: RecommendedModel, fits: bool) -> str:
    verdict = "✓ fits here" if fits else "✗ too large"
    size = f"{model.parameters:.2g}B"
    return f"{model.name:<42} {size:>6}  {verdict:<12} {'needs a token' if model.gated else ''}".rstrip()


def _notes(model: RecommendedModel) -> str:
    parts = [f"Licence {model.licence}."]
    if model.gated:
        parts.append(_gated_note(model.name))
    if not model.instruct:
        parts.append("A base model: run SFT before DPO.")
    if model.note:
        parts.append(f"{model.note[:1].upper()}{model.note[1:]}.")
    return " ".join(parts)


def _gated_note(name: str) -> str:
    known = " A token is here already." if has_token(os.environ, token_file()) else ""
    return f"Gated. {gated_hint(name)}{known}"


def _hub_line(model: HubModel) -> str:
    count = model.downloads
    often = f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e3 else str(count)  # noqa: PLR2004
    return f"{printable(model.name):<42} {often:>6}  downloads{'    needs a token' if model.gated else ''}"
