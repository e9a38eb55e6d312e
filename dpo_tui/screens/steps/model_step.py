"""Step 2: which model; what fits here, what is on this disk, any hub id, or the model of an earlier run."""

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

from dpo_tui.hardware.models.lookup import RecommendedModel, hub_cache, known_models, recommended_models
from dpo_tui.hardware.profiles import Profile, fitting_models
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.text.printable import printable
from dpo_tui.widgets.compact_inputs import ChoiceList, LineInput
from dpo_tui.widgets.text_pane import TextPane

DEMO = "demo"
_FOLDERS_LISTED = 40


class ModelStep(Vertical):
    """A field for any model, and a list of good ones."""

    DEFAULT_CSS = """
    ModelStep #model-field { margin-bottom: 1; }
    ModelStep ChoiceList { height: 1fr; }
    ModelStep TextPane { height: 3; margin-top: 1; }
    """

    class Chosen(Message):
        """A model was chosen, by hub id or folder; `DEMO` means the shipped toy."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def compose(self) -> ComposeResult:
        """Field, list, notes."""
        yield LineInput(placeholder="hub id (org/name), folder or run:ID — or choose below", id="model-field")
        yield ChoiceList(id="models")
        yield TextPane(id="model-notes")

    def show(self, profile: Profile, plan: RunPlan) -> None:
        """List the models with a verdict for this machine."""
        fitting = {model.name for model in fitting_models(profile)}
        options = self.query_one(ChoiceList)
        kept = options.highlighted
        options.clear_options()
        options.add_option(Option("demo   toy model and pairs, shipped: the whole job in a minute, no network", DEMO))
        local = local_models()
        options.add_options([Option(Content(f"{printable(name)}  on this disk"), name) for name in local])
        models = sorted(recommended_models(), key=lambda model: (model.name not in fitting, -model.parameters))
        options.add_options([Option(_words(model, model.name in fitting), model.name) for model in models])
        options.highlighted = kept if kept is not None else 0
        names = sorted({*local, *known_models()})
        self.query_one(Input).suggester = SuggestFromList(names, case_sensitive=False)
        if plan.has_model and not self.query_one(Input).value:
            self.query_one(Input).value = plan.config.model_name

    @on(OptionList.OptionHighlighted)
    def _note(self, message: OptionList.OptionHighlighted) -> None:
        message.stop()
        model = next((one for one in recommended_models() if one.name == message.option_id), None)
        notes = [] if model is None else [(_note(model), "muted")]
        self.query_one(TextPane).show(notes)

    @on(OptionList.OptionSelected)
    def _select(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.post_message(self.Chosen(str(message.option_id)))

    @on(Input.Submitted)
    def _submit(self, message: Input.Submitted) -> None:
        message.stop()
        if message.value.strip():
            self.post_message(self.Chosen(message.value.strip()))


def local_models() -> list[str]:
    """Model folders here and complete models in the hub's cache, as ids or paths."""
    found = [
        str(path.parent) for path in sorted(Path.cwd().glob("*/config.json")) if any(path.parent.glob("*.safetensors"))
    ]
    cache = hub_cache()
    try:
        names = sorted(os.listdir(cache))
    except OSError:
        names = []
    found += [name.removeprefix("models--").replace("--", "/", 1) for name in names if name.startswith("models--")]
    return found[:_FOLDERS_LISTED]


def _words(model: RecommendedModel, fits: bool) -> str:
    verdict = "✓ fits here" if fits else "✗ too large"
    size = f"{model.parameters:.2g}B"
    return f"{model.name:<42} {size:>6}  {verdict:<12} {'needs a token' if model.gated else ''}".rstrip()


def _note(model: RecommendedModel) -> str:
    parts = [f"Licence {model.licence}."]
    if model.gated:
        parts.append("Gated: accept its licence on the hub and give a token (HF_TOKEN or `hf auth login`).")
    if not model.instruct:
        parts.append("A base model: run SFT before DPO.")
    if model.note:
        parts.append(f"{model.note[:1].upper()}{model.note[1:]}.")
    return " ".join(parts)
