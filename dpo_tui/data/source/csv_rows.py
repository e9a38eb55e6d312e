"""Rows of CSV and TSV files, as JSON lines."""

import csv
from collections.abc import Iterator
from itertools import chain

from dpo_tui.data.source.json_lines import LONGEST, NAMED
from dpo_tui.data.source.source import DataFile
from dpo_tui.data.source.streams import text
from dpo_tui.errors import DataError


def csv_rows(file: DataFile, size: int) -> Iterator[bytes]:
    """Read a table record by record.

    Args:
        file: the table; its first record names the columns.
        size: how many bytes of JSON lines to give at a time.

    Raises:
        DataError: it has no header, or two columns of one name.
    """
    import orjson

    _, blocks = text(file)
    csv.field_size_limit(LONGEST)
    lines = _text_lines(blocks)
    first = next(lines, "")
    delimiter = "\t" if ".tsv" in file.path.suffixes else max(",;\t|", key=first.count)
    table = csv.reader(chain([first], lines), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(table)]
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{file.path} has no header line: {error}") from error
    if twice := sorted({name for name in header if header.count(name) > 1 and name}):
        words = f"{file.path} has {header.count(twice[0])} columns called {twice[0]}"
        raise DataError(words, hint="Rename or remove all but one: nobody can tell which is meant.")
    held: list[bytes] = []
    held_size = 0
    while True:
        try:
            record = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            held.append(NAMED + str(error).encode())
            continue
        if not record:
            continue
        if len(record) == len(header):
            row = orjson.dumps(dict(zip(header, (_clean(cell) for cell in record), strict=True)))
        else:
            row = NAMED + f"{len(record)} cells where the header has {len(header)}: is a quote not closed?".encode()
        held.append(row)
        held_size += len(row)
        if held_size >= size:
            yield b"\n".join(held) + b"\n"
            held, held_size = [], 0
    if held:
        yield b"\n".join(held) + b"\n"


def _clean(cell: str) -> str:
    return cell.encode("utf-8", "replace").decode("utf-8")


def _text_lines(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    skipping = False
    for block in blocks:
        piece = block
        if skipping:
            _, newline, piece = block.partition(b"\n")
            if not newline:
                continue
            skipping = False
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace") + "\n"
        if len(rest) > LONGEST:
            rest, skipping = b"", True
            yield "<a line that is too long>\n"
    if rest:
        yield rest.decode("utf-8", "replace")
