"""Whether the terminal is likely to take what is copied by OSC 52, in words and with the remedy.

OSC 52 has no answer: a terminal that ignores the sequence stays silent. What lies between is known from the
environment, and tmux can be asked.
"""

import subprocess
from collections.abc import Callable, Mapping

LIMIT = 74_994
"""Bytes that can be copied: in base64 they fill the 100,000 bytes at which several terminals cut the sequence."""
_TMUX_SECONDS = 2.0


def tmux_set_clipboard() -> str:
    """The tmux option ``set-clipboard``: ``on``, ``external`` or ``off``; empty when tmux does not answer."""
    try:
        done = subprocess.run(
            ["tmux", "show-options", "-sv", "set-clipboard"],  # noqa: S607 - the user's tmux
            capture_output=True,
            text=True,
            timeout=_TMUX_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def clipboard_note(environment: Mapping[str, str], ask_tmux: Callable[[], str] = tmux_set_clipboard) -> str:
    """What keeps copied text from the clipboard, and what to set; empty when nothing is known to.

    Args:
        environment: the process environment.
        ask_tmux: returns the option ``set-clipboard`` of the tmux that this process runs in.
    """
    term = environment.get("TERM", "")
    if environment.get("TMUX"):
        option = ask_tmux()
        if option == "on":
            return ""
        # `external`, the default, is for tmux's own copy mode: sequences of programs inside it are dropped.
        found = f"its set-clipboard is {option}" if option else "unless its set-clipboard is on"
        return f"tmux drops it, {found}. To let it through: tmux set -s set-clipboard on"
    if environment.get("STY"):
        return "GNU screen does not pass it on. Outside screen, or in tmux with set-clipboard on, it works."
    if term in ("linux", "dumb") or term.startswith("vt"):
        return f"a terminal of the type {term} has no clipboard. The file itself can be copied: see the run's folder."
    if term.startswith(("tmux", "screen")):
        return "if tmux runs on your side of the connection, it needs there: tmux set -s set-clipboard on"
    if environment.get("TERM_PROGRAM") == "Apple_Terminal":
        return "Terminal.app does not take it. iTerm2, kitty, WezTerm and Ghostty do."
    if environment.get("TERM_PROGRAM") == "iTerm.app":
        return "iTerm2 takes it if Settings, General, Selection lets applications access the clipboard."
    return ""
