"""Loader of theme files (TOML), the shipped ones and the user's alike, and their conversion to Textual themes.

A mistake in a file costs only the key that it is in: it is reported with file and key, and the value of the theme that
the file extends, or of the default theme, is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

from dpo_tui import paths
from dpo_tui.text.whole_file import read_whole_text
from dpo_tui.text.plain_documents import parse_toml

SHIPPED = Path(__file__).parent
DEFAULT = "dark"
LINES = 6
"""Line colours of a chart."""

COLORS = (
    "background",
    "surface",
    "panel",
    "foreground",
    "muted",
    "primary",
    "accent",
    "secondary",
    "success",
    "warning",
    "error",
)
CHART_COLORS = ("axis", "raw", "reference", "cursor")
_TOP = ("title", "extends", "dark", "colors", "chart", "variables")


@dataclass(frozen=True)
class Palette:
    """One theme file, merged with the theme that it extends.

    Attributes:
        name: the file's stem; what settings and the command palette call it.
        title: its name for the user.
        dark: whether the background is darker than the text.
        ansi: whether it uses the terminal's own sixteen colours.
        colors: by the names in `COLORS`.
        lines: the chart's line colours.
        chart: by the names in `CHART_COLORS`.
        variables: Textual's own CSS variables, to override.
    """

    name: str
    title: str = ""
    dark: bool = True
    ansi: bool = False
    colors: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    chart: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ThemeProblem:
    """A mistake in a theme file, whose key was ignored.

    Attributes:
        path: the file.
        key: where in it, with dots; empty for the whole file.
        message: what is wrong and what to write instead.
    """

    path: Path
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.key + ': ' if self.key else ''}{self.message}"


def load(folders: tuple[Path, ...] | None = None) -> tuple[dict[str, Palette], list[ThemeProblem]]:
    """Read every theme of some folders; a theme replaces one of the same name in an earlier folder.

    Args:
        folders: the shipped themes and the user's if not given.

    Returns:
        The palettes by name, and what is wrong in the files.
    """
    problems: list[ThemeProblem] = []
    files: dict[str, tuple[Path, dict[str, Any]]] = {}
    for folder in folders if folders is not None else (SHIPPED, paths.themes()):
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            try:
                files[path.stem] = (path, parse_toml(read_whole_text(path)))
            except (OSError, ValueError) as error:
                problems.append(ThemeProblem(path, "", f"cannot be read: {error}"))
    palettes: dict[str, Palette] = {}
    for name in files:
        _resolve(name, files, palettes, problems, ())
    return palettes, problems


def _resolve(
    name: str,
    files: dict[str, tuple[Path, dict[str, Any]]],
    palettes: dict[str, Palette],
    problems: list[ThemeProblem],
    extended_by: tuple[str, ...],
) -> Palette:
    """Add a theme to ``palettes``, after the theme that it extends, and return it.

    ``extended_by`` names the themes whose extension led here; one that is named again would extend itself.
    """
    if name in palettes:
        return palettes[name]
    if name not in files:
        theme = BUILTIN_THEMES[name]
        own = {} if theme.ansi else {key: getattr(theme, key, None) for key in COLORS}
        given = {key: value for key, value in own.items() if value is not None}
        return Palette(name, dark=theme.dark, ansi=theme.ansi, colors=given)
    path, raw = files[name]
    report = _FileReporter(path, problems)
    report.unknown_keys("", raw, _TOP)
    parent = raw.get("extends")
    known = isinstance(parent, str) and (parent in files or parent in BUILTIN_THEMES)
    base = Palette(name)
    if parent is not None and not isinstance(parent, str):
        report("extends", "must be the name of a theme")
    elif parent is not None and (parent in extended_by or parent == name):
        report("extends", f"{parent!r} extends this theme: a circle")
        known = False
    elif parent is not None and not known:
        report("extends", f"there is no theme {parent!r}{_nearest(parent, [*files, *BUILTIN_THEMES])}")
    if isinstance(parent, str) and known:
        base = _resolve(parent, files, palettes, problems, (*extended_by, name))
    elif name != DEFAULT and DEFAULT in files and DEFAULT not in extended_by:
        # What a theme leaves out comes from the default theme.
        base = _resolve(DEFAULT, files, palettes, problems, (*extended_by, name))
    palettes[name] = _merge(name, base, raw, report)
    return palettes[name]


def _merge(name: str, base: Palette, raw: dict[str, Any], report: "_FileReporter") -> Palette:
    colors = report.table("colors", raw)
    chart = report.table("chart", raw)
    report.unknown_keys("colors", colors, COLORS)
    report.unknown_keys("chart", chart, (*CHART_COLORS, "lines"))
    own_colors = report.valid_colours("colors", {key: colors[key] for key in COLORS if key in colors}, base.ansi)
    own_chart = report.valid_colours("chart", {key: chart[key] for key in CHART_COLORS if key in chart}, base.ansi)
    lines = chart.get("lines", list(base.lines))
    if not isinstance(lines, list) or (len(lines) != LINES and lines):
        report("chart.lines", f"must be a list of {LINES} colours")
        lines = list(base.lines)
    valid = report.valid_colours("chart.lines", {str(index + 1): line for index, line in enumerate(lines)}, base.ansi)
    line_colours = [
        valid.get(str(index + 1), base.lines[index] if index < len(base.lines) else "") for index in range(len(lines))
    ]
    variables = {key: str(value) for key, value in report.table("variables", raw).items()}
    dark = raw.get("dark", base.dark)
    if not isinstance(dark, bool):
        report("dark", "must be true or false")
        dark = base.dark
    return Palette(
        name=name,
        title=str(raw.get("title", name)),
        dark=dark,
        ansi=base.ansi,
        colors={**base.colors, **own_colors},
        lines=tuple(line_colours),
        chart={**base.chart, **own_chart},
        variables={**base.variables, **variables},
    )


class _FileReporter:
    """Collects what is wrong in one file."""

    def __init__(self, path: Path, problems: list[ThemeProblem]) -> None:
        self.path = path
        self.problems = problems

    def __call__(self, key: str, message: str) -> None:
        self.problems.append(ThemeProblem(self.path, key, message))

    def unknown_keys(self, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                self(f"{where}.{key}" if where else key, f"there is no such key{_nearest(key, known)}")

    def table(self, key: str, raw: dict[str, Any]) -> dict[str, Any]:
        value = raw.get(key, {})
        if isinstance(value, dict):
            return value
        self(key, "must be a table")
        return {}

    def valid_colours(self, where: str, table: dict[str, Any], ansi: bool) -> dict[str, str]:
        """The entries of a table that are colours of the theme's kind; the others are reported."""
        valid = {}
        for key, value in table.items():
            try:
                colour = Color.parse(value)
            except (ColorParseError, TypeError, AttributeError, ValueError):
                self(f"{where}.{key}", f"{value!r} is not a colour; write #rrggbb")
                continue
            if (colour.ansi is not None) != ansi:
                kind = "ansi_… names" if ansi else "#rrggbb"
                self(f"{where}.{key}", f"{value!r} does not fit here: this theme takes {kind}")
                continue
            valid[key] = value
        return valid


def _nearest(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def chart_variables(palette: Palette) -> dict[str, str]:
    """The CSS variables of the charts: ``chart-1`` to ``chart-6``, ``chart-axis`` and so on."""
    named = {f"chart-{key}": value for key, value in palette.chart.items()}
    # With one colour for all, a raw line would hide the smoothed one in it.
    named["chart-raw-style"] = "dim" if palette.ansi else "none"
    return {**named, **{f"chart-{index + 1}": value for index, value in enumerate(palette.lines)}}


def to_textual(palette: Palette) -> Theme:
    """Textual's theme of a palette, with the CSS variables that the app's widgets use."""
    colors = dict(palette.colors)
    muted = colors.pop("muted", None)
    accent = colors.get("accent", "#4fd1c5")
    variables = dict(BUILTIN_THEMES["ansi-dark"].variables) if palette.ansi else {}
    variables |= {f"text-{key}": colors[key] for key in ("accent", "success", "warning", "error") if key in colors}
    if muted is not None:
        variables["text-muted"] = muted
    if not palette.ansi:
        own = {
            "text": colors.get("foreground"),
            "block-cursor-foreground": colors.get("background"),
            "block-cursor-background": accent,
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": colors.get("panel"),
            "footer-background": colors.get("background"),
            "footer-key-foreground": accent,
            "border": accent,
            "border-blurred": colors.get("panel"),
        }
        # Of a theme of Textual's own, which names fewer colours, Textual derives the others.
        variables |= {key: value for key, value in own.items() if value is not None}
    variables |= chart_variables(palette)
    variables |= palette.variables
    if palette.ansi:
        colors = {
            **{key: "ansi_default" for key in ("background", "surface", "panel", "foreground", "boost")},
            **colors,
        }
    theme = Theme(name=palette.name, primary=accent, dark=palette.dark, ansi=palette.ansi, variables=variables)
    return replace(theme, **colors)  # type: ignore[arg-type]
