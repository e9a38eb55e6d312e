"""Settings: a form for settings.toml and the hub's token; each change is saved and applied at once."""

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message

from dpo_tui.paths import expanded
from dpo_tui import paths
from dpo_tui.errors import ConfigError
from dpo_tui.screens.remapped_keys import named_bindings
from dpo_tui.views.styled_text import Paragraph
from dpo_tui.views.user_settings import webhook_problem, UserSettings, save
from dpo_tui.widgets.dialogs import InputDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import KeyHints
from dpo_tui.widgets.settings_form import FormRow, SchemaForm
from dpo_tui.widgets.text_pane import TextPane
from dpo_tui.widgets.title_row import TitleRow

AUTO = "auto"
"""The choice that leaves a setting out of settings.toml."""
_HELP = {
    "theme": "auto picks one that suits the terminal. Your own go into the themes folder as TOML files; `extends` "
    "takes another theme as the start.",
    "ascii": "Draw charts and glyphs in ASCII. auto looks at the locale.",
    "bell": "Ring the terminal's bell when a run is done, fails or stalls.",
    "desktop": "Ask the terminal for a desktop notice (OSC 9) then; many terminals pass it on, also through SSH.",
    "webhook": "A URL that receives a JSON POST then: run, kind, name, status, reason.",
    "token": "The Hugging Face token for gated models. It is written to the hub client's own file with mode 0600, and "
    "is never shown or copied into a run.",
}


class SettingsScreen(FullScreen):
    """A form, with help on the setting under the cursor beside it.

    Posts `Changed` and `FullScreen.Leave`, which the app handles.

    Args:
        settings: the settings as they are now.
        themes: names of the themes to choose from.
    """

    CSS_PATH = Path(__file__).with_suffix(".tcss")
    HELP = "↑/↓ choose a setting, ←/→ or enter change it at once. Keys are remapped in settings.toml, table [keys]."
    goes_back = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "back", id="preferences.back")]

    class Changed(Message):
        """Posted after each change, also when settings.toml could not be written.

        Attributes:
            settings: all settings, the changed one included.
        """

        def __init__(self, settings: UserSettings) -> None:
            super().__init__()
            self.settings = settings

    def __init__(self, settings: UserSettings, themes: list[str]) -> None:
        super().__init__()
        self._settings = settings
        self._themes = themes

    def compose(self) -> ComposeResult:
        """Title, the form with the help beside it, and keys."""
        yield TitleRow("Settings", id="title")
        with Horizontal(id="body"):
            yield SchemaForm(id="choices")
            yield TextPane(id="setting-help")
        yield KeyHints()

    def on_mount(self) -> None:
        """Show the settings."""
        self._show()
        self.query_one(SchemaForm).focus()

    def _show(self) -> None:
        settings = self._settings
        form = self.query_one(SchemaForm)
        ascii_value = AUTO if settings.ascii is None else "yes" if settings.ascii else "no"
        yes_no = ("yes", "no")
        form.show(
            [
                FormRow("theme", "Look", "theme", settings.theme or AUTO, options=(AUTO, *self._themes)),
                FormRow("ascii", "Look", "ASCII only", ascii_value, options=(AUTO, *yes_no)),
                FormRow("bell", "When a run ends", "bell", "yes" if settings.bell else "no", options=yes_no),
                FormRow(
                    "desktop", "When a run ends", "desktop notice", "yes" if settings.desktop else "no", options=yes_no
                ),
                FormRow("webhook", "When a run ends", "webhook", settings.webhook or ""),
                FormRow("token", "Hub", "token", "kept" if token_file().is_file() else "none"),
            ]
        )
        self._show_help(form.current.name if form.current is not None else "theme")

    @on(SchemaForm.Picked)
    def _row_picked(self, message: SchemaForm.Picked) -> None:
        message.stop()
        self._show_help(message.name)

    def _show_help(self, name: str) -> None:
        text: list[Paragraph] = [(_HELP.get(name, ""), "text"), ("", "text"), ("Where things live", "heading")]
        text += [
            (f"home      {paths.home()}", "code"),
            (f"settings  {paths.settings()}", "code"),
            (f"themes    {paths.themes()}", "code"),
            ("", "text"),
            ("Keys", "heading"),
            ("Write in settings.toml, by the names of this list:", "muted"),
            ("[keys]", "code"),
            ('"app.quit" = "ctrl+q"', "code"),
            ('"chart.log" = "y,ctrl+y"', "code"),
        ]
        text += [(f"{name:<24} {keys}", "muted") for name, keys in self._bound_keys()]
        self.query_one(TextPane).show(text)

    def _bound_keys(self) -> list[tuple[str, str]]:
        """Ids of all bindings of the app, and the keys that they have by default or by the user."""
        keys = {binding.id: binding.keys for binding in named_bindings()}
        return sorted((keys | {name: chosen for name, chosen in self._settings.keys.items() if name in keys}).items())

    @on(SchemaForm.Changed)
    def _value_changed(self, message: SchemaForm.Changed) -> None:
        message.stop()
        value = message.value
        if message.name == "theme":
            self._apply(replace(self._settings, theme=None if value in (AUTO, "") else value))
        elif message.name == "ascii":
            self._apply(replace(self._settings, ascii={"yes": True, "no": False}.get(value)))
        elif message.name == "bell":
            self._apply(replace(self._settings, bell=value == "yes"))
        elif message.name == "desktop":
            self._apply(replace(self._settings, desktop=value == "yes"))
        elif message.name == "webhook":
            self._set_webhook(value)

    def _set_webhook(self, url: str) -> None:
        if (wrong := webhook_problem(url)) is not None:
            self.notify(f"The webhook is not changed: {wrong}", severity="warning", markup=False)
            return
        self._apply(replace(self._settings, webhook=url or None))

    def _apply(self, settings: UserSettings) -> None:
        self._settings = settings
        try:
            save(settings)
        except ConfigError as error:
            self.notify(str(error), severity="warning", markup=False)
        except OSError as error:
            self.notify(f"settings.toml cannot be written: {error.strerror}", severity="warning", markup=False)
        self.post_message(self.Changed(settings))
        self._show()

    @on(SchemaForm.EditRequested)
    @work(exclusive=True, group="type", exit_on_error=False)
    async def _edit_value(self, message: SchemaForm.EditRequested) -> None:
        message.stop()
        if message.row.name == "token":
            typed = await self.app.push_screen_wait(InputDialog("Token (it is not shown again)", secret=True))
            if typed:
                self._save_token(typed)
            return
        typed = await self.app.push_screen_wait(InputDialog("Webhook", message.row.value, "https://…"))
        if typed is not None:
            self._set_webhook(typed.strip())

    def _save_token(self, token: str) -> None:
        try:
            save_token(token)
        except ConfigError as error:
            self.notify(str(error), severity="warning", markup=False)
        except OSError as error:
            self.notify(f"The token cannot be kept: {error.strerror}", severity="warning", markup=False)
        else:
            self.notify("The token is kept for the hub client.", markup=False)
            self._show()

    def action_back(self) -> None:
        """Go back to the screen from which the settings were opened."""
        self.post_message(self.Leave())


def token_file() -> Path:
    """Path of the hub client's token file, by the rules of ``huggingface_hub.constants.HF_TOKEN_PATH``."""
    if explicit := os.environ.get("HF_TOKEN_PATH"):
        return Path(explicit)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return expanded(home) / "token"


def save_token(token: str) -> None:
    """Write the token where the hub client finds it, with mode 0600.

    Raises:
        ConfigError: it holds a sign that no token has; the token that was there before stays.
        OSError: it cannot be written; the token that was there before stays.
    """
    token = token.strip()
    # It becomes an HTTP header. What a paste adds (a quote of a word processor, a line break, a zero-width space) would
    # fail there, far from here.
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            "This is no token: it holds a space, or a sign that no token has.",
            hint="Nothing was saved. Tokens begin with hf_; copy it again from huggingface.co/settings/tokens.",
        )
    path = token_file()
    paths.make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # O_EXCL and the mode together: the file is new and its owner's alone before the first byte is in it. Changing the
    # mode of a file that exists would leave a moment in which others can read it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
