"""Several locations of data as one line of text, as fields and titles have them."""

import re
from collections.abc import Sequence

from dpo_tui.paths import expanded


def locations_of(text: str) -> tuple[str, ...]:
    """The locations in a text, divided at commas and line breaks; a text that is an existing path is one location."""
    text = text.strip()
    try:
        if expanded(text).exists():
            return (text,) if text else ()
    except (OSError, ValueError):  # a name that is too long, or has a NUL: certainly several, or none
        pass
    return tuple(
        part.strip().strip("\"'") for part in re.split(r"[,\n]", text.strip("[]")) if part.strip().strip("\"'")
    )


def as_text(locations: str | Sequence[str]) -> str:
    """One line with all locations; the counterpart of :func:`locations_of`."""
    return locations if isinstance(locations, str) else ", ".join(locations)
