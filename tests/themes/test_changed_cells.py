"""Updates of changed cells: the terminal shows exactly what it would show if all were written, in fewer bytes."""

import os
import random
import re
import signal
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len, get_character_cell_size
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from dpo_tui.themes.changed_cells import TerminalCells, _pieces
from tests.support.app import ended_run
from tests.support.terminal import Terminal
from tests.support.terminal_grid import TerminalGrid

WIDTH, HEIGHT = 12, 3
STYLES = [
    None,
    Style.parse("red"),
    Style.parse("#102030 on #a0b0c0"),
    Style.parse("#102031 on #a0b0c0"),
    Style.parse("bold #102030 on #a0b0c0"),
    Style.parse("dim italic white on black"),
    Style.parse("underline on #a0b0c0"),
    Style.parse("reverse blue"),
    Style.parse("strike overline color(9) on color(200)"),
]
TEXT = st.text(st.sampled_from("ab  ⣀█─é日本"), min_size=0, max_size=WIDTH)
DOUBTFUL = st.text(st.sampled_from("ab ⣀日⚠🙂\u0301"), min_size=0, max_size=WIDTH)


def row_of(pieces: list[tuple[str, Style | None]]) -> Strip:
    """A strip over the whole width, as a screen's rows are."""
    return Strip([Segment(text, style) for text, style in pieces]).adjust_cell_length(WIDTH)


def rows(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[int, Strip]]]:
    row = st.lists(st.tuples(text, st.sampled_from(STYLES)), max_size=4).map(row_of)
    return st.lists(st.tuples(st.integers(0, HEIGHT - 1), row), max_size=HEIGHT, unique_by=lambda one: one[0])


def plainly_written(screen: dict[int, Strip]) -> TerminalGrid:
    """A terminal to which each row was written whole, as Textual does it."""
    grid = TerminalGrid(WIDTH, HEIGHT)
    for y, strip in screen.items():
        rendered = "".join(
            text if style is None else Strip.render_style(style, text, ColorSystem.TRUECOLOR)
            for text, style, _ in strip
        )
        grid.feed(f"\x1b[{y + 1};1H{rendered}")
    return grid


def seen(grid: TerminalGrid) -> list[list[tuple[str, object]]]:
    """What a person sees: of a space the background, and what is drawn there beside it."""
    return [
        [
            (text, (attributes - {"1", "2", "3"}, foreground if attributes - {"1", "2", "3"} else "", background))
            if text == " "
            else (text, (attributes, foreground, background))
            for text, (attributes, foreground, background) in row
        ]
        for row in grid.cells
    ]


@given(st.lists(rows(TEXT), max_size=6))
def test_the_terminal_shows_what_it_would_show_if_all_rows_were_written(updates: list[list[tuple[int, Strip]]]) -> None:
    cells, grid, screen = TerminalCells(), TerminalGrid(WIDTH, HEIGHT), {}
    for update in updates:
        screen |= dict(update)
        grid.feed(cells.write((WIDTH, HEIGHT), [(y, [(0, strip)]) for y, strip in update], ColorSystem.TRUECOLOR))
        assert seen(grid) == seen(plainly_written(screen))
        assert grid.rendition == (frozenset(), "", "")


@given(st.lists(rows(DOUBTFUL), max_size=5), st.sampled_from("⚠🙂"))
def test_text_behind_a_sign_that_the_terminal_draws_wider_or_narrower_stays_in_its_place(
    updates: list[list[tuple[int, Strip]]], sign: str
) -> None:
    def width_of(character: str) -> int:
        size = get_character_cell_size(character)
        return 3 - size if character == sign else size

    cells, grid, screen = TerminalCells(), TerminalGrid(WIDTH, HEIGHT, width_of), {}
    for update in updates:
        screen |= dict(update)
        grid.feed(cells.write((WIDTH, HEIGHT), [(y, [(0, strip)]) for y, strip in update], ColorSystem.TRUECOLOR))
    for y, strip in screen.items():
        text = "".join(text for text, _, _ in strip)
        for index, character in enumerate(text):
            # Only what lies behind a sign can be displaced by it; what the sign itself covers is the terminal's affair.
            clear = index >= 2 and text[index - 2 : index].isascii() and text[index - 2 : index + 2].isascii()
            if character in "ab" and clear:
                assert grid.cells[y][cell_len(text[:index])][0] == character


def test_a_part_of_a_row_that_cuts_a_wide_character_leaves_nothing_that_is_taken_for_known() -> None:
    cells, grid = TerminalCells(), TerminalGrid(WIDTH, 1)

    def write(x: int, text: str) -> None:
        grid.feed(cells.write((WIDTH, 1), [(0, [(x, Strip([Segment(text)]))])], ColorSystem.TRUECOLOR))

    write(0, "日本日本日本")
    write(3, "abc")
    write(0, "日本日本日本")
    assert grid.text() == "日本日本日本"


def test_after_a_resize_or_when_it_is_told_to_everything_is_written() -> None:
    cells = TerminalCells()
    row = [(0, [(0, Strip([Segment("abcdef")]))])]
    assert "abcdef" in cells.write((6, 1), row, ColorSystem.TRUECOLOR)
    assert cells.write((6, 1), row, ColorSystem.TRUECOLOR) == ""
    assert "abcdef" in cells.write((6, 2), row, ColorSystem.TRUECOLOR)
    cells.forget()
    assert "abcdef" in cells.write((6, 2), row, ColorSystem.TRUECOLOR)


def test_a_colour_that_stays_is_not_sent_again() -> None:
    strips = [
        Strip([Segment("ab", Style.parse("#102030 on #a0b0c0")), Segment("cd", Style.parse("#405060 on #a0b0c0"))])
    ]
    written = TerminalCells().write((4, 1), [(0, [(0, strips[0])])], ColorSystem.TRUECOLOR)
    assert written == "\x1b[1;1H\x1b[38;2;16;32;48;48;2;160;176;192mab\x1b[38;2;64;80;96mcd\x1b[0m"


@pytest.mark.parametrize(("size", "most"), [((80, 24), 10_000), ((200, 50), 40_000)])
def test_entering_and_leaving_a_run_sends_the_cells_that_differ_and_leaves_the_screen_right(
    tmp_path: Path, size: tuple[int, int], most: int
) -> None:
    for number in range(12):
        ended_run(tmp_path, f"20261101-1010{number:02d}-aaaa", f"run-{number}")
    terminal = Terminal([], tmp_path, size)
    grid = TerminalGrid(*size)

    def settled(words: str) -> str:
        """What the terminal shows once nothing more comes, and the words are there."""
        quiet, deadline = 0, 200
        while (quiet < 4 or words not in grid.text()) and deadline:
            terminal.text, before = b"", terminal.bytes
            terminal.read(0.25)
            grid.feed(terminal.text.decode(errors="replace"))
            quiet = quiet + 1 if terminal.bytes == before else 0
            deadline -= 1
        assert deadline, grid.text()
        return re.sub(r"\d+ (s|min) ago", "ago", grid.text())

    try:
        settled("run-11")
        shown: dict[str, str] = {}
        for key, words in (("\r", "Charts"), ("\x1b", "of 12"), ("?", "Help"), ("\x1b", "of 12")):
            terminal.bytes = 0
            terminal.press(key)
            shown[words] = settled(words)
            assert terminal.bytes <= most, words
            terminal.press("\x0c")  # ctrl+l writes everything again: what was there must have been the same
            assert settled(words) == shown[words]
        # Stopped as by a shell, the app gives the terminal away; when it goes on, all of the screen is written again.
        os.kill(terminal.pid, signal.SIGTSTP)
        state = Path(f"/proc/{terminal.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            terminal.read(0.1)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.read(1.0)
        grid.feed(terminal.text.decode(errors="replace"))
        assert settled("of 12") == shown["of 12"]
    finally:
        terminal.close()


def test_rows_that_never_come_again_are_not_kept() -> None:
    """Each redraw of a chart is such rows: in an app that stays open for a day they would outgrow everything else."""
    shuffle = random.Random(5)
    tracemalloc.start()
    try:
        for _ in range(5000):
            _pieces("".join(chr(shuffle.randrange(0x2800, 0x2900)) for _ in range(80)))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
