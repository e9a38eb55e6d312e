"""Read CSV and TSV files as JSON lines."""

import csv
from collections.abc import Iterator
from itertools import chain

from dpo_tui.data.source.encodings import utf8_blocks
from dpo_tui.data.source.json_lines import MAX_ROW_BYTES, UNREADABLE_PREFIX
from dpo_tui.data.source.source import DataFile
from dpo_tui.data.source.table_header import require_different_names
from dpo_tui.errors import DataError


def csv_rows(file: DataFile, size: int) -> Iterator[bytes]:
    """Read a table record by record; a record with the wrong number of cells becomes an unreadable row.

    Args:
        file: the table; its first record names the columns.
        size: bytes of JSON lines in one item, about.

    Raises:
        DataError: it has no header, or two columns of one name.
    """
    _, blocks = utf8_blocks(file)
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _text_lines(blocks)
    first = next(lines, "")
    delimiter = "\t" if ".tsv" in file.path.suffixes else max(",;\t|", key=first.count)
    # Not strict, it would drop quotes and keep what follows: `"a \"b"` and a TSV's `"a" b` would be other texts.
    table = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(table)]
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{file.path} has no header line: {error}") from error
    if not all(map(_is_unicode, header)):
        raise DataError(
            f"{file.path} has names of columns that are not UTF-8",
            hint='Name its encoding with encoding = "…" (inspect: --encoding), or save the file as UTF-8.',
        )
    require_different_names(header, file.path)
    held: list[bytes] = []
    held_size = 0
    while True:
        try:
            record = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            held.append(UNREADABLE_PREFIX + _reason(error).encode())
            continue
        if not record:
            continue
        if len(record) == len(header):
            row = _json_line(header, record)
        else:
            row = (
                UNREADABLE_PREFIX
                + f"{len(record)} cells where the header has {len(header)}: is a quote not closed?".encode()
            )
        held.append(row)
        held_size += len(row)
        if held_size >= size:
            yield b"\n".join(held) + b"\n"
            held, held_size = [], 0
    if held:
        yield b"\n".join(held) + b"\n"


def _reason(error: csv.Error) -> str:
    """What is wrong with a record, in words."""
    text = str(error)
    if "expected after" in text:
        return "text follows a closing quote: quotes in a quoted cell are written twice, and a cell is quoted whole"
    return "a quote is not closed" if "unexpected end of data" in text else text


def _json_line(header: list[str], record: list[str]) -> bytes:
    """A record as a JSON line, or the reason why it is none.

    Bytes that are not UTF-8 are lone surrogates by now, for which orjson raises: to replace them would train on other
    text than the file has.
    """
    import orjson

    try:
        return orjson.dumps(dict(zip(header, record, strict=True)))
    except TypeError:
        column = next(name for name, cell in zip(header, record, strict=True) if not _is_unicode(cell))
        return UNREADABLE_PREFIX + f"`{column}` has bytes that are not UTF-8".encode("utf-8", "replace")


def _is_unicode(cell: str) -> bool:
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _text_lines(blocks: Iterator[bytes]) -> Iterator[str]:
    """The lines of a stream for :func:`csv.reader`; one without end is cut off, so that it does not fill the memory."""
    rest = b""
    skipping = False
    for block in blocks:
        piece = block
        if skipping:
            _, newline, piece = block.partition(b"\n")
            if not newline:
                continue
            skipping = False
        whole, newline, rest_of_piece = piece.rpartition(b"\n")
        if newline:
            # All at once: a call for each line takes twice as long.
            for line in (rest + whole).decode("utf-8", "surrogateescape").split("\n"):
                yield line + "\n"
            rest = rest_of_piece
        else:
            rest += piece
        if len(rest) > MAX_ROW_BYTES:
            rest, skipping = b"", True
            yield "<a line that is too long>\n"
    if rest:
        yield rest.decode("utf-8", "surrogateescape")
