"""Choice of theme and characters for a terminal, from its environment variables."""

import codecs
from collections.abc import Mapping

from dpo_tui.themes.glyphs import CONSOLE_CHARSET

TRUE_COLOUR = 1 << 24
INDEXED_COLOURS = 256
"""Least number of colours with which the RGB themes look as they should."""


def colours(environment: Mapping[str, str]) -> int:
    """Number of colours that the terminal declares: 0, 16, 256 or 2²⁴."""
    term = environment.get("TERM", "").lower()
    if environment.get("NO_COLOR") or term in ("", "dumb", "unknown") or term.startswith("vt"):
        return 0
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return TRUE_COLOUR
    modern = ("kitty", "alacritty", "foot", "ghostty", "wezterm")
    return INDEXED_COLOURS if "256color" in term or term.removeprefix("xterm-").startswith(modern) else 16


def theme_for(environment: Mapping[str, str], *, chosen: str | None = None) -> str:
    """The theme to start with.

    Args:
        environment: the process environment.
        chosen: the user's choice; it gives way only to ``NO_COLOR`` and to terminals that cannot show it.
    """
    count = colours(environment)
    if count == 0:
        return "monochrome"
    if count < INDEXED_COLOURS:
        return chosen if chosen in ("monochrome", "ansi-16") else "ansi-16"
    return chosen or "dark"


def ascii_only(environment: Mapping[str, str]) -> bool:
    """Whether to draw in ASCII: the locale names a character set other than UTF-8, or it is the Linux console.

    ``DPO_TUI_ASCII`` decides where it is set. An environment without a locale (most containers) counts as UTF-8.
    """
    if forced := environment.get("DPO_TUI_ASCII"):
        return forced != "0"
    if is_console(environment):
        return True
    locale = _locale(environment)
    return bool(locale) and "utf" not in locale.lower()


def is_console(environment: Mapping[str, str]) -> bool:
    """Whether the terminal is the Linux console, whose font has at most 512 characters, and no braille."""
    return environment.get("TERM", "") == "linux"


def charset(environment: Mapping[str, str], written: str | None) -> str:
    """The character set that reaches the terminal: the locale's, if the stream encodes in it; otherwise ``ascii``.

    Args:
        environment: the process environment.
        written: the encoding of the stream that goes to the terminal.
    """
    locale = _locale(environment)
    if not locale or "utf" in locale.lower():
        return CONSOLE_CHARSET if is_console(environment) else "utf-8"
    try:
        of_locale = codecs.lookup(locale.partition(".")[2].partition("@")[0]).name
        return of_locale if of_locale == codecs.lookup(written or "ascii").name else "ascii"
    except LookupError:
        return "ascii"


def _locale(environment: Mapping[str, str]) -> str:
    # Python may have set LC_CTYPE=C.UTF-8 itself (PEP 538): with LANG=C it says nothing about the terminal.
    language = environment.get("LANG", "")
    ctype = environment.get("LC_CTYPE", "")
    if ctype == "C.UTF-8" and language in ("C", "POSIX"):
        ctype = ""
    return environment.get("LC_ALL") or ctype or language
