"""Which theme and which characters suit a terminal, from what its environment says."""

import codecs
from collections.abc import Mapping

MILLIONS = 1 << 24
ENOUGH = 256


def colours(environment: Mapping[str, str]) -> int:
    """How many colours the terminal has, as far as it tells: 0, 16, 256 or millions."""
    term = environment.get("TERM", "").lower()
    if environment.get("NO_COLOR") or term in ("", "dumb", "unknown") or term.startswith("vt"):
        return 0
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return MILLIONS
    modern = ("kitty", "alacritty", "foot", "ghostty", "wezterm")
    return ENOUGH if "256color" in term or term.removeprefix("xterm-").startswith(modern) else 16


def theme_for(environment: Mapping[str, str], *, chosen: str | None = None) -> str:
    """The theme to start with.

    Args:
        environment: the process environment.
        chosen: the person's own choice; it gives way only to ``NO_COLOR`` and to terminals that cannot show it.
    """
    count = colours(environment)
    if count == 0:
        return "monochrome"
    if count < ENOUGH:
        return chosen if chosen in ("monochrome", "ansi-16") else "ansi-16"
    return chosen or "dark"


def ascii_only(environment: Mapping[str, str]) -> bool:
    """Whether to draw in ASCII: the locale names a character set other than UTF-8.

    An environment that says nothing (most containers) is taken for UTF-8. Python itself may have put
    ``LC_CTYPE=C.UTF-8`` in (PEP 538), so that value does not speak for the terminal when ``LANG`` says ``C``.
    """
    if asked := environment.get("DPO_TUI_ASCII"):
        return asked != "0"
    locale = _locale(environment)
    return bool(locale) and "utf" not in locale.lower()


def charset(environment: Mapping[str, str], written: str | None) -> str:
    """The character set that the terminal shows, as far as what we write reaches it so: ``ascii`` where in doubt.

    Args:
        environment: the process environment.
        written: the encoding of the stream that goes to the terminal.
    """
    locale = _locale(environment)
    if not locale or "utf" in locale.lower():
        return "utf-8"
    try:
        named = codecs.lookup(locale.partition(".")[2].partition("@")[0]).name
        return named if named == codecs.lookup(written or "ascii").name else "ascii"
    except LookupError:
        return "ascii"


def _locale(environment: Mapping[str, str]) -> str:
    language = environment.get("LANG", "")
    ctype = environment.get("LC_CTYPE", "")
    if ctype == "C.UTF-8" and language in ("C", "POSIX"):
        ctype = ""
    return environment.get("LC_ALL") or ctype or language
