"""settings.toml: read leniently, changed without losing what the user wrote."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_tui.errors import ConfigError
from dpo_tui.views.user_settings import UserSettings, load, save

BY_HAND = """\
# my settings
theme = "paper"   # for the projector
future = 3        # of a later version

[keys]
"app.quit" = "ctrl+q"  # q is too easy

[notify]
# the office is quiet
bell = false
channel = "ops"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "settings.toml"


def test_a_change_keeps_comments_keys_and_what_this_version_does_not_know(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(BY_HAND)
    save(replace(load(path), desktop=True), path)
    assert path.read_text() == BY_HAND + "desktop = true\n"
    save(replace(load(path), theme=None), path)
    assert path.read_text() == BY_HAND.replace('theme = "paper"   # for the projector\n', "") + "desktop = true\n"
    assert load(path).keys == {"app.quit": "ctrl+q"}


def test_a_mistake_in_settings_toml_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        'theme = "light"\nbell = "loud"\nfoo = 1\n[keys]\nchart.log = "Y"\n"app.quit" = "ctrl+q"\n'
        "[notify]\ndesktop = true\n"
    )
    found = load(path)
    assert (found.theme, found.bell, found.desktop) == ("light", True, True)
    assert found.keys == {"chart.log": "Y", "app.quit": "ctrl+q"}
    assert [("bell" in problem, "foo" in problem) for problem in found.problems] == [(True, False), (False, True)]
    path.write_text("not toml")
    assert len(load(path).problems) == 1


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "settings.toml"
    chosen = UserSettings(theme="light", ascii=True, keys={"a.b": "x"}, bell=False, desktop=True, webhook="https://x")
    save(chosen, path)
    assert load(path) == chosen
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b'theme = "paper\nbell = true\n', b'theme = "\xff"\n'])
def test_a_file_that_cannot_be_read_is_never_overwritten(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    shown = load(path)
    assert "cannot be read" in shown.problems[0]
    with pytest.raises(ConfigError, match=r"settings\.toml: cannot be read.*\n.*nothing was saved"):
        save(replace(shown, bell=False), path)
    assert path.read_bytes() == content


def test_a_notify_that_is_no_table_is_replaced_and_the_rest_stays(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('notify = "yes"\ntheme = "paper"\n')
    save(replace(load(path), bell=False), path)
    assert (load(path).bell, load(path).theme, load(path).problems) == (False, "paper", ())


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("hooks.example.com/abc", "no http(s) address"),
        ("http://hooks.example.com/abc", "plain http to another machine"),
        ("https://me:secret@hooks.example.com/abc", "a user name or password"),
        ("https://hooks.example.com:99999/abc", "port"),
    ],
)
def test_a_webhook_to_which_nothing_is_sent_is_told_when_the_settings_are_read(
    path: Path, url: str, wrong: str
) -> None:
    """The first notice may come in the night for which it was set."""
    path.parent.mkdir()
    path.write_text(f'[notify]\nwebhook = "{url}"\n')
    (problem,) = load(path).problems
    assert "nothing will be sent to the webhook" in problem and wrong in problem
    assert "secret" not in problem
    save(replace(load(path), bell=False), path)
    assert url in path.read_text(), "the file is the user's too"


@pytest.mark.parametrize("url", ["https://hooks.example.com/abc", "http://127.0.0.1:8080/x", "http://localhost/x"])
def test_a_webhook_that_can_be_reached_is_none_of_the_problems(path: Path, url: str) -> None:
    path.parent.mkdir()
    path.write_text(f'[notify]\nwebhook = "{url}"\n')
    assert load(path).problems == ()
