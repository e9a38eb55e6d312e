"""Step 2 of New: the choice of a model from a list or by hub id, folder or earlier run."""

import os
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from dpo_tui.errors import DpoTuiError
from dpo_tui.hardware.models.lookup import RecommendedModel, known_models, recommended_models
from dpo_tui.hub.cache import hub_cache
from dpo_tui.hardware.profiles import Profile, fitting_models
from dpo_tui.text.printable import printable
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.compact_inputs import LineInput
from dpo_tui.widgets.text_pane import TextPane

DEMO = "demo"
"""What `ModelStep.Chosen` names when the shipped demo was chosen."""
_MODELS_LISTED = 40
"""Models found on this disk, at most."""


class ModelStep(Vertical):
    """A field for any model over a list of local and recommended ones. Posts `Chosen`."""

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

    def compose(self) -> ComposeResult:
        """The field, the list, and notes on the model under the cursor."""
        yield LineInput(placeholder="hub id (org/name), folder or run:ID — or choose below", id="model-field")
        yield ChoiceList(id="models", field="#model-field")
        yield TextPane(id="model-notes")

    def show(self, profile: Profile, plan: RunPlan) -> None:
        """List the models, with whether each fits this machine.

        Args:
            profile: the machine's profile.
            plan: its model is put into the field, unless something was typed there.
        """
        fitting = {model.name for model in fitting_models(profile)}
        options = self.query_one(ChoiceList)
        highlighted = options.highlighted
        options.clear_options()
        options.add_option(Option("demo   toy model and pairs, shipped: the whole job in a minute, no network", DEMO))
        local = local_models()
        options.add_options([Option(Content(f"{printable(name)}  on this disk"), name) for name in local])
        # On a GPU the largest that fits is what people came for; without one the smallest is the one that ends today.
        sign = 1 if profile.gpu is None else -1
        models = sorted(recommended_models(), key=lambda model: (model.name not in fitting, sign * model.parameters))
        options.add_options([Option(_model_line(model, model.name in fitting), model.name) for model in models])
        options.highlighted = highlighted if highlighted is not None else 0
        names = sorted({*local, *known_models()})
        self.query_one(Input).suggester = SuggestFromList(names, case_sensitive=False)
        if plan.has_model and not self.query_one(Input).value:
            self.query_one(Input).value = plan.config.model_name

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
        self._model_notes = [] if model is None else [(_notes(model), "muted")]
        self._show_text()

    def _show_text(self) -> None:
        pane = self.query_one(TextPane)
        pane.set_class(bool(self._refusal), "refused")
        pane.show([*self._refusal, *self._model_notes])

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
        parts.append("Gated: accept its licence on the hub and give a token (HF_TOKEN or `hf auth login`).")
    if not model.instruct:
        parts.append("A base model: run SFT before DPO.")
    if model.note:
        parts.append(f"{model.note[:1].upper()}{model.note[1:]}.")
    return " ".join(parts)
