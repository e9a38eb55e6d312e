"""Settings: theme, characters, notices, the hub's token, keys; written to settings.toml as they change."""

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message

from dpo_tui import paths
from dpo_tui.views.user_settings import UserSettings, save
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.schema_form import FormRow, SchemaForm
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

AUTO = "auto"
_HELP = {
    "theme": "auto picks one that suits the terminal. Your own go into the themes folder as TOML files; `extends` "
    "takes another theme as the start.",
    "ascii": "Draw charts and glyphs in ASCII. auto looks at the locale.",
    "bell": "Ring the terminal's bell when a run is done, fails or stalls.",
    "desktop": "Ask the terminal for a desktop notice (OSC 9) then; many terminals pass it on, also through SSH.",
    "webhook": "A URL that receives a JSON POST then: run, name, status, reason.",
    "token": "The Hugging Face token for gated models. It is written to the hub client's own file with mode 0600, and "
    "is never shown or copied into a run.",
}


class SettingsScreen(FullScreen):
    """A form over settings.toml.

    Args:
        preferences: as they are.
        themes: the names to choose from.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = "↑/↓ choose a setting, ←/→ or enter change it at once. Keys are remapped in settings.toml, table [keys]."
    GOES_BACK = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "back", id="preferences.back")]

    class Changed(Message):
        """Some preference changed, and was saved."""

        def __init__(self, preferences: UserSettings) -> None:
            super().__init__()
            self.preferences = preferences

    def __init__(self, preferences: UserSettings, themes: list[str]) -> None:
        super().__init__()
        self._preferences = preferences
        self._themes = themes

    def compose(self) -> ComposeResult:
        """Form and words."""
        yield TitleRow("Settings", id="title")
        with Horizontal(id="body"):
            yield SchemaForm(id="choices")
            yield TextPane(id="words")
        yield KeyHints()

    def on_mount(self) -> None:
        """Show what is set."""
        self._show()
        self.query_one(SchemaForm).focus()

    def _show(self) -> None:
        chosen = self._preferences
        form = self.query_one(SchemaForm)
        ascii_value = AUTO if chosen.ascii is None else "yes" if chosen.ascii else "no"
        yes_no = ("yes", "no")
        form.show(
            [
                FormRow("theme", "Look", "theme", chosen.theme or AUTO, options=(AUTO, *self._themes)),
                FormRow("ascii", "Look", "ASCII only", ascii_value, options=(AUTO, *yes_no)),
                FormRow("bell", "When a run ends", "bell", "yes" if chosen.bell else "no", options=yes_no),
                FormRow(
                    "desktop", "When a run ends", "desktop notice", "yes" if chosen.desktop else "no", options=yes_no
                ),
                FormRow("webhook", "When a run ends", "webhook", chosen.webhook or ""),
                FormRow("token", "Hub", "token", "kept" if token_file().is_file() else "none"),
            ]
        )
        self._explain(form.current.name if form.current is not None else "theme")

    @on(SchemaForm.Picked)
    def _picked(self, message: SchemaForm.Picked) -> None:
        message.stop()
        self._explain(message.name)

    def _explain(self, name: str) -> None:
        text: list[Paragraph] = [(_HELP.get(name, ""), "text"), ("", "text"), ("Where things live", "heading")]
        text += [
            (f"home      {paths.home()}", "code"),
            (f"settings  {paths.settings()}", "code"),
            (f"themes    {paths.themes()}", "code"),
            ("", "text"),
            ("Keys", "heading"),
            ("Write in settings.toml, by the names of `?` and the list below:", "muted"),
            ("[keys]", "code"),
            ('"app.quit" = "ctrl+q"', "code"),
            ('"chart.log" = "y,ctrl+y"', "code"),
        ]
        text += [(f"{name:<24} {keys}", "muted") for name, keys in self._known_keys()]
        self.query_one(TextPane).show(text)

    def _known_keys(self) -> list[tuple[str, str]]:
        known: dict[str, str] = {}
        for node in (self.app, self.query_one(SchemaForm)):
            for binding in node._bindings:
                if binding[1].id:
                    known.setdefault(binding[1].id, binding[1].key)
        return sorted({**known, **self._preferences.keys}.items())

    @on(SchemaForm.Changed)
    def _cycled(self, message: SchemaForm.Changed) -> None:
        message.stop()
        value = message.value
        if message.name == "theme":
            self._take(replace(self._preferences, theme=None if value in (AUTO, "") else value))
        elif message.name == "ascii":
            self._take(replace(self._preferences, ascii={"yes": True, "no": False}.get(value)))
        elif message.name == "bell":
            self._take(replace(self._preferences, bell=value == "yes"))
        elif message.name == "desktop":
            self._take(replace(self._preferences, desktop=value == "yes"))
        elif message.name == "webhook":
            self._take(replace(self._preferences, webhook=value or None))

    def _take(self, preferences: UserSettings) -> None:
        self._preferences = preferences
        try:
            save(preferences)
        except OSError as error:
            self.notify(f"settings.toml cannot be written: {error.strerror}", severity="warning", markup=False)
        self.post_message(self.Changed(preferences))
        self._show()

    @on(SchemaForm.EditRequested)
    @work(exclusive=True, group="type", exit_on_error=False)
    async def _type(self, message: SchemaForm.EditRequested) -> None:
        message.stop()
        if message.row.name == "token":
            typed = await self.app.push_screen_wait(InputDialog("Token (it is not shown again)", secret=True))
            if typed:
                write_token(typed)
                self.notify("The token is kept for the hub client.", markup=False)
                self._show()
            return
        typed = await self.app.push_screen_wait(InputDialog("Webhook", message.row.value, "https://…"))
        if typed is not None:
            self._take(replace(self._preferences, webhook=typed or None))

    def action_back(self) -> None:
        """Leave."""
        self.post_message(self.Leave())


def token_file() -> Path:
    """Where the hub client looks for its token (huggingface_hub's own rules)."""
    if explicit := os.environ.get("HF_TOKEN_PATH"):
        return Path(explicit)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(home).expanduser() / "token"


def write_token(token: str) -> None:
    """Keep the token where the hub client finds it, readable by its owner only from the first byte on."""
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
