"""One-row inputs under the app's own style sheet, with texts that are longer than they are."""

import pytest
from textual.widgets import Input

from dpo_tui.app import DpoTui
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.dialogs import InputDialog
from tests.support.app import screen_text, until

LONG = {
    "path": ("/data/" + "preferences/" * 20 + "model", "preferences/"),
    "wide": ("日本語モデル" * 30, "日本語モデル"),
    "right to left": ("مرحبا " * 60, "مرحبا"),
}


@pytest.mark.parametrize("kind", LONG)
async def test_a_text_longer_than_its_field_is_shown(home, kind):
    text, part = LONG[kind]
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        await pilot.press("ctrl+n")
        field = pilot.app.screen.query_one("#model-field", Input)
        field.value = text
        await until(pilot, lambda: part in screen_text(pilot))
        assert field.size.height == 1


@pytest.mark.parametrize("kind", LONG)
async def test_a_long_text_in_a_dialog_is_shown_with_its_end_under_the_cursor(home, kind):
    text, part = LONG[kind]
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        pilot.app.push_screen(InputDialog("Webhook", text))
        await until(pilot, lambda: isinstance(pilot.app.screen, InputDialog) and part in screen_text(pilot))
        await pilot.press("end", "Z")
        await until(pilot, lambda: "Z" in screen_text(pilot))
        assert part in screen_text(pilot)


async def test_in_a_field_every_printable_key_is_text_and_the_footer_names_the_way_out(home):
    async with DpoTui(settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        await pilot.press("ctrl+n", *"/quick4,5?n")
        field = pilot.app.screen.query_one("#model-field", Input)
        await until(pilot, lambda: field.value == "/quick4,5?n")
        assert pilot.app.focused is field and isinstance(pilot.app.screen, NewScreen)
        footer = screen_text(pilot).splitlines()[-1]
        assert "enter take it" in footer and "tab leave the field" in footer
        await pilot.press("tab")
        assert pilot.app.focused is not field
