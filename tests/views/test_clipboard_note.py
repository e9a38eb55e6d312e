"""What is said about a copy: whether the terminal takes it, and what to set where it does not."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dpo_tui.views.clipboard_note import clipboard_note, tmux_set_clipboard


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TERM": "xterm-kitty"}, ""),
        ({"TERM": "linux"}, "has no clipboard"),
        ({"TERM": "screen.xterm-256color", "STY": "12.pts"}, "GNU screen does not pass it on"),
        ({"TERM": "tmux-256color"}, "on your side of the connection"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "Terminal.app does not take it"),
    ],
)
def test_each_terminal_is_judged_by_its_environment(environment: dict[str, str], said: str) -> None:
    note = clipboard_note(environment, lambda: pytest.fail("there is no tmux to ask"))
    assert said in note if said else note == ""


@pytest.mark.parametrize(("option", "said"), [("on", ""), ("external", "is external"), ("", "unless")])
def test_tmux_takes_it_only_where_set_clipboard_is_on(option: str, said: str) -> None:
    note = clipboard_note({"TERM": "tmux-256color", "TMUX": "socket,1,0"}, lambda: option)
    assert (said in note and "tmux set -s set-clipboard on" in note) if said else note == ""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_a_real_tmux_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "s"
    tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "sleep 60"], check=True)
    try:
        monkeypatch.setenv("TMUX", f"{socket},1,0")
        assert tmux_set_clipboard() == "external"
        subprocess.run([*tmux, "set", "-s", "set-clipboard", "on"], check=True)
        assert tmux_set_clipboard() == "on"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def test_a_tmux_that_does_not_answer_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert tmux_set_clipboard() == ""
