"""Logs of any size: any part, found words, no surprises from hostile bytes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_tui.views.log_file import BLOCK, LogFile


def log(tmp_path, data: bytes) -> LogFile:
    path = tmp_path / "train.log"
    path.write_bytes(data)
    return LogFile(path)


def texts(lines) -> list[str]:
    return [line.text for line in lines]


def test_the_tail_is_the_last_lines_oldest_first(tmp_path):
    file = log(tmp_path, b"".join(b"line %d\n" % index for index in range(50_000)))
    assert texts(file.tail(3)) == ["line 49997", "line 49998", "line 49999"]


def test_a_line_without_its_end_is_in_the_tail(tmp_path):
    assert texts(log(tmp_path, b"one\ntwo").tail(5)) == ["one", "two"]


def test_a_missing_file_is_empty(tmp_path):
    file = LogFile(tmp_path / "none")
    assert (file.size(), file.tail(3), file.after(0, 3), file.find("x", 0), file.offset_of(3)) == (0, [], [], None, 0)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=120), st.data())
def test_paging_back_and_forth_gives_every_line_once(tmp_path_factory, lengths, data):
    file = log(tmp_path_factory.mktemp("log"), b"".join(b"%d:" % i + b"x" * n + b"\n" for i, n in enumerate(lengths)))
    page = data.draw(st.integers(1, 40))
    seen = []
    offset = 0
    while lines := file.after(offset, page):
        seen += lines
        offset = lines[-1].end
    assert [int(line.text.split(":")[0]) for line in seen] == list(range(len(lengths)))
    back = []
    offset = file.size()
    while lines := file.before(offset, page):
        back = lines + back
        offset = lines[0].offset
    assert back == seen


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_longer_than_what_is_read_at_once_shows_its_last_state(tmp_path, end):
    """A worker whose progress bar writes carriage returns for days, and never a newline."""
    states = b"".join(b"%d%%|" % (index % 100) + b"#" * 990 + b"\r" for index in range(6000))
    file = log(tmp_path, b"first\n" + states + b"99%|last" + end)
    (line,) = file.tail(1)
    assert line.text == "99%|last"
    assert (line.offset, line.end) == (6, file.size())
    assert texts(file.before(line.offset, 5)) == ["first"]
    assert file.after(6, 1) == [line], "the same line from either side"
    assert texts(file.tail(5))[-1] == "99%|last"


def test_a_long_line_without_states_shows_its_beginning(tmp_path):
    file = log(tmp_path, b"first\nbegins" + b"x" * (5 << 20) + b"\n")
    (line,) = file.tail(1)
    assert line.text.startswith("beginsxxx")
    assert file.after(6, 1) == [line]


def test_a_progress_bar_shows_its_last_state(tmp_path):
    assert texts(log(tmp_path, b"  1%|\r 50%|\r100%|done\r\n").tail(2)) == ["100%|done"]


def test_escape_sequences_do_not_reach_the_terminal(tmp_path):
    assert texts(log(tmp_path, b"\x1b[2J\x1b]0;owned\x07red\x1b[31m\n").tail(1)) == ["red"]


def test_an_endless_line_is_cut_and_the_next_one_found(tmp_path):
    file = log(tmp_path, b"a\n" + b"x" * (5 * BLOCK) + b"\nlast\n")
    lines = file.after(0, 5)
    assert [line.text[:4] for line in lines] == ["a", "xxxx", "last"]
    assert len(lines[1].text) <= 4096


def test_words_are_found_in_both_directions_across_blocks(tmp_path):
    padding = b"." * 99 + b"\n"
    file = log(tmp_path, padding * 30_000 + b"an Out Of Memory here\n" + padding * 30_000)
    at = file.find("out of memory", 0)
    assert texts(file.after(at, 1)) == ["an Out Of Memory here"]
    assert file.find("out of memory", file.size(), backwards=True) == at
    assert file.find("out of memory", at + 22) is None
    assert file.find("out of memory", at, backwards=True) is None


def test_a_line_is_reached_by_its_number(tmp_path):
    file = log(tmp_path, b"".join(b"line %d\n" % index for index in range(1, 200_001)))
    assert texts(file.after(file.offset_of(150_000), 1)) == ["line 150000"]
    assert file.offset_of(1) == 0
    assert texts(file.after(file.offset_of(999_999), 1)) == ["line 200000"]


@pytest.mark.parametrize("bytes_read_at_most", [4 * BLOCK])
def test_the_end_of_a_gigabyte_is_read_without_the_rest(tmp_path, bytes_read_at_most):
    """The log view is safe for 1 GB files. A sparse file stands for one."""
    path = tmp_path / "big.log"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"short\n" * 100)
    before = _bytes_read()
    assert texts(LogFile(path).tail(3)) == ["short"] * 3
    assert _bytes_read() - before <= bytes_read_at_most


def _bytes_read() -> int:
    with open("/proc/self/io") as stream:
        return int(next(line for line in stream if line.startswith("rchar")).split()[1])
