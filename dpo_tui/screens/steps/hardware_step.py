"""Step 1 of New: the machine's hardware and warnings about it, and the choice of a profile."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dpo_tui.hardware.profiles import SETTINGS, Profile
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.text_pane import TextPane

PROFILES = ("high-end", "mid-range", "reduced", "cpu")


class HardwareStep(Vertical):
    """A description of the machine over the list of profiles. Posts `Chosen`."""

    DEFAULT_CSS = """
    HardwareStep TextPane { height: 1fr; }
    HardwareStep ChoiceList { height: auto; max-height: 8; }
    """

    class Chosen(Message):
        """Posted when a profile is chosen.

        Attributes:
            name: a key of `dpo_tui.hardware.profiles.SETTINGS`.
        """

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def compose(self) -> ComposeResult:
        """The description and the list."""
        yield TextPane([("Looking at this machine …", "muted")], id="hardware-text")
        yield ChoiceList(id="profiles")

    def show(self, profile: Profile, plan: RunPlan) -> None:
        """Describe the machine, and list the profiles, the recommended one first.

        Args:
            profile: the profile recommended for this machine.
            plan: decides which profile is under the cursor.
        """
        text: list[Paragraph] = [("This machine", "heading"), (profile.reason, "text"), ("", "text")]
        if profile.warnings:
            text.append(("Good to know", "heading"))
            text += [(f"! {warning}", "warn") for warning in profile.warnings]
            text.append(("", "text"))
        if profile.name in ("reduced", "cpu"):
            text += [
                ("Is DPO right here?", "heading"),
                ("Under 12 GB: QLoRA, 4-bit weights and a smaller model. A plain supervised task: SFT.", "text"),
                ("No pairs, or a raw base model: SFT first. The shipped demo runs anywhere.", "text"),
                ("", "text"),
            ]
        text.append(("Choose a profile; every setting can be changed later.", "muted"))
        self.query_one(TextPane).show(text)
        options = self.query_one(ChoiceList)
        options.clear_options()
        order = [profile.name, *(name for name in PROFILES if name != profile.name)]
        options.add_options([Option(_profile_line(name, name == profile.name), name) for name in order])
        options.highlighted = order.index(plan.profile) if plan.profile in order else 0

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """Post the chosen profile."""
        message.stop()
        self.post_message(self.Chosen(str(message.option_id)))


def _profile_line(name: str, recommended: bool) -> str:
    settings = SETTINGS[name]  # type: ignore[index]
    parts = ["4-bit" if settings["use_4bit"] else "no 4-bit"]
    parts.append(f"batch {settings['per_device_train_batch_size']} × {settings['gradient_accumulation_steps']}")
    if "lora_r" in settings:
        parts.append(f"rank {settings['lora_r']}")
    parts.append(f"{settings['max_seq_length']:,} tokens")
    return f"{name:<10} {', '.join(parts)}{'  ← suits this machine' if recommended else ''}"
