"""Rows of a file that is one JSON object: a list under a key, a table by columns, or a row under each key.

pandas writes such files (``DataFrame.to_json`` with its orients ``columns``, ``index``, ``split`` and ``table``), and
so do web interfaces (``{"data": [...]}``) and ``json.dump`` of a dictionary of lists. None of them is loaded as a
whole: a table by columns is read with a position in each column, side by side.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import orjson

from dpo_tui.data.rows.shapes.answer_columns import CHOSEN_COLUMNS, REJECTED_COLUMNS
from dpo_tui.data.rows.shapes.prompt_columns import PROMPT_COLUMNS
from dpo_tui.data.source.archives import BLOCK_BYTES
from dpo_tui.data.source.dataset_splits import WHOLE, choose_split, left_note, require_split, split_word
from dpo_tui.data.source.json_lines import UNREADABLE_PREFIX
from dpo_tui.data.source.json_outline import MOST_MEMBERS, Member, outline_of
from dpo_tui.data.source.json_splitter import Splitter, split
from dpo_tui.data.source.source import DataFile
from dpo_tui.data.source.viewer_rows import NOTE as VIEWER_NOTE
from dpo_tui.data.source.viewer_rows import unwrapped
from dpo_tui.errors import DataError

ReadFrom = Callable[[int], Iterator[bytes]]
"""Returns the blocks of a file's text, as UTF-8 without a byte-order mark, from an offset on."""
_SAMPLE_BYTES = 1 << 20
"""Bytes of a value that are read to see what its first element is."""
_COLUMNS = frozenset(
    {
        *PROMPT_COLUMNS,
        *CHOSEN_COLUMNS,
        *REJECTED_COLUMNS,
        *("completion", "completions", "response", "responses", "answer", "answers", "output", "text", "label"),
        *(
            "system",
            "tools",
            "winner",
            "response_a",
            "response_b",
            "response_0",
            "response_1",
            "generations",
            "ratings",
        ),
    }
)
"""Names of columns, by which a table is told from lists of rows."""
_LISTS_OF_ROWS = ("data", "rows", "train", "examples", "instances", "items", "records", "samples", "entries", "results")
"""Usual names of a list of rows, where there are several lists."""
_MESSAGE_KEYS = frozenset({"role", "from", "content", "value", "text", "messages"})
_MEMBER = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*', re.DOTALL)
_MOST_COLUMNS = 256


@dataclass(frozen=True, slots=True)
class JsonDocument:
    """How the rows of a file are read.

    Args:
        note: what the file was taken for, in words.
        rows: yields the rows as JSON, some at a time.
        notes: gets what is wrong with the file as a whole while its rows are read.
    """

    note: str
    rows: Iterator[list[bytes]]
    notes: list[str]


def json_document(file: DataFile, read: ReadFrom) -> JsonDocument | None:
    """Find the rows of a file that is one JSON object.

    Args:
        file: the file.
        read: reads its text.

    Returns:
        None if it is something else, such as JSON lines, or one row.

    Raises:
        DataError: it is not clear which of several lists of rows is meant, or none is the split that was named.
    """
    members = outline_of(read(0))
    if not members:
        return None
    notes: list[str] = []
    name = file.path.name
    firsts = {member.name: _first_element(read, member) for member in members[:_MOST_COLUMNS] if member.kind}
    if (found := _table_of_a_split(members, file, read)) is not None:
        return found
    if (table := _split_table(members, firsts)) is not None:
        _require_split(file)
        columns, data = table
        names = _parsed(b"".join(_between(read, columns)))
        if not isinstance(names, list):
            return None
        rows = _rows_of_cells(_values_of(read, data, notes), [str(one) for one in names])
        return JsonDocument(f"{name} is a table that pandas wrote with orient='split'", rows, notes)
    if (kind := _table_kind(members, firsts)) == "columns":
        _require_split(file)
        lists = [member for member in members if member.kind]
        named = ", ".join(member.name for member in lists[:4]) + (", …" if len(lists) > 4 else "")  # noqa: PLR2004
        return JsonDocument(
            f"{name} is a table by columns ({named})", _rows_of_columns(read, lists, file, notes), notes
        )
    if kind == "index":
        _require_split(file)
        rows = ([_split_member(one)[1] for one in batch] for batch in _values_of(read, None, notes))
        return JsonDocument(f"{name} has each row under a key of its own", rows, notes)
    if lists := _lists_of_rows(members, firsts, file):
        chosen = _chosen_list(lists, file)
        note = f'the rows of {name} are those under "{chosen.name}"'
        left = left_note(file.path, [member.name for member in lists], [chosen.name])
        rows, from_viewer = unwrapped(_values_of(read, chosen, notes))
        return JsonDocument(f"{left or note}; {VIEWER_NOTE}" if from_viewer else left or note, rows, notes)
    inner = [member for member in members if member.kind]
    if len(inner) == 1 and inner[0].kind == "{" and not any(member.name.lower() in _COLUMNS for member in members):
        # A web interface's wrapping, such as {"result": {"data": [...]}}.
        wrapped = inner[0]
        return json_document(file, lambda offset: _between(read, replace(wrapped, start=wrapped.start + offset)))
    return None


def _table_of_a_split(members: list[Member], file: DataFile, read: ReadFrom) -> JsonDocument | None:
    """The rows of a split, where a file has a table of columns, or of rows by key, under the name of each split."""
    if not all(member.kind == "{" and split_word(member.name) for member in members):
        return None
    asked = None if file.is_of_split and file.split not in {member.name for member in members} else file.split
    name = choose_split([member.name for member in members], asked, file.path)
    chosen = next(member for member in members if member.name == name)
    document = json_document(
        replace(file, split=None), lambda offset: _between(read, replace(chosen, start=chosen.start + offset))
    )
    left = left_note(file.path, [member.name for member in members], [name])
    return document and replace(document, note=f"{left}; {document.note}" if left else document.note)


def _table_kind(members: list[Member], firsts: dict[str, tuple[str, Any]]) -> str:
    """``columns`` or ``index`` where an object is a table by columns or has a row under each key, else empty."""
    lists = [member for member in members if member.kind]
    others = [member for member in members if not member.kind]
    known = [member for member in lists if member.name.lower() in _COLUMNS]
    if not lists or any(member.name.lower() in _COLUMNS for member in others):
        return ""
    if all(member.kind == "{" for member in lists):
        return "" if others else _orient(members, firsts)
    if any(member.kind == "{" for member in lists) or (len({member.elements for member in lists}) > 1 and not known):
        return ""
    values = [firsts[member.name][1] for member in lists if member.name in firsts]
    if known:
        # Columns of messages are lists of lists: a list of messages under a column's name is one row's.
        return "" if any(_is_message(firsts[member.name][1]) for member in known) else "columns"
    return "columns" if not others and len(lists) > 1 and not all(isinstance(value, dict) for value in values) else ""


def _orient(members: list[Member], firsts: dict[str, tuple[str, Any]]) -> str:
    """Which way round a dict of dicts is: pandas writes columns first by default, and rows first as ``index``."""
    if len(members) > MOST_MEMBERS:
        return "index"
    keys = [firsts[member.name][0] for member in members if member.name in firsts and member.elements]
    inner_known = any(key.lower() in _COLUMNS for key in keys)
    outer_known = any(member.name.lower() in _COLUMNS for member in members)
    if not keys or (any(key in _MESSAGE_KEYS for key in keys) and outer_known):
        return ""  # one row, whose columns are messages
    if outer_known != inner_known:
        return "columns" if outer_known else "index"
    outer_numbers = all(member.name.isdigit() for member in members)
    if outer_numbers != all(key.isdigit() for key in keys):
        return "index" if outer_numbers else "columns"
    return ""


def _split_table(members: list[Member], firsts: dict[str, tuple[str, Any]]) -> tuple[Member, Member] | None:
    by_name = {member.name: member for member in members}
    columns, data = by_name.get("columns"), by_name.get("data")
    if columns is None or data is None or not columns.kind == data.kind == "[":
        return None
    return (columns, data) if isinstance(firsts.get("data", ("", None))[1], list) else None


def _require_split(file: DataFile) -> None:
    if file.split is not None and not file.is_of_split:
        require_split(file.split, file.path)


def _lists_of_rows(members: list[Member], firsts: dict[str, tuple[str, Any]], file: DataFile) -> list[Member]:
    """The lists whose elements may be rows."""
    return [
        member
        for member in members
        if member.kind == "["
        # An empty split is one too: without it, the rows of another would be taken for those of train.
        and isinstance(
            value := firsts.get(member.name, ("", None))[1] if member.elements or not split_word(member.name) else {},
            dict,
        )
        and not _is_message(value)
        and member.name.lower() not in _COLUMNS
        and not {"feature_idx", "type"} <= value.keys()  # the viewer's description of columns
        # A file of JSON lines may have one line: its row may well hold a list of answers.
        and (file.may_hold_splits or member.name.lower() in _LISTS_OF_ROWS)
    ]


def _chosen_list(lists: list[Member], file: DataFile) -> Member:
    """The list whose elements are the rows.

    Raises:
        DataError: it is not clear which one is meant, or none is of the split that was named.
    """
    by_name = {member.name: member for member in lists}
    if file.split in by_name:
        return by_name[file.split]
    asked = None if file.is_of_split else file.split
    if all(split_word(name) for name in by_name) or asked not in (None, WHOLE):
        return by_name[choose_split(list(by_name), asked, file.path)]
    if len(lists) == 1:
        return lists[0]
    usual = next((by_name[name] for name in _LISTS_OF_ROWS if name in by_name), None)
    if usual is None:
        raise DataError(
            f"{file.path} holds several lists of rows: {', '.join(by_name)}",
            hint="Name one as the split (dataset_split, inspect: --split).",
        )
    return usual


def _first_element(read: ReadFrom, member: Member) -> tuple[str, Any]:
    """The key (of an object) and the value of a member's first element; None where it is longer than the sample."""
    sample = bytearray()
    for block in _between(read, member):
        sample += block
        if len(sample) >= _SAMPLE_BYTES:
            break
    rows = Splitter(1).feed(bytes(sample))
    if not rows:
        return "", None
    key, value = _split_member(rows[0]) if member.kind == "{" else ("", rows[0])
    return key, _parsed(value)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _split_member(text: bytes) -> tuple[str, bytes]:
    """The key and the value of a member of an object."""
    found = _MEMBER.match(text)
    if found is None:
        return "", text
    key = _parsed(found[1])
    return (key if isinstance(key, str) else ""), text[found.end() :]


def _between(read: ReadFrom, member: Member) -> Iterator[bytes]:
    """The text of a member's value; to the end of the file where that breaks off in it."""
    left = None if member.end is None else member.end - member.start
    for block in read(member.start):
        if left is None:
            yield block
            continue
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def _values_of(read: ReadFrom, member: Member | None, notes: list[str]) -> Iterator[list[bytes]]:
    """The elements of a member, or the members of the file itself."""
    splitter = Splitter(1)
    yield from split(read(0) if member is None else _between(read, member), splitter)
    notes += splitter.notes


def _rows_of_cells(batches: Iterator[list[bytes]], names: list[str]) -> Iterator[list[bytes]]:
    keys = [orjson.dumps(name) for name in names]
    for batch in batches:
        rows = []
        for text in batch:
            cells = Splitter(1)
            values = [*cells.feed(text), *cells.finish()]
            if len(values) == len(keys):
                rows.append(_object(zip(keys, values, strict=True)))
            else:
                rows.append(UNREADABLE_PREFIX + f"{len(values)} cells where the table has {len(keys)} columns".encode())
        yield rows


def _rows_of_columns(read: ReadFrom, columns: list[Member], file: DataFile, notes: list[str]) -> Iterator[list[bytes]]:
    """The rows of a table whose columns follow each other, each read at its own position.

    Raises:
        DataError: there are too many columns, or they differ in length or in their keys.
    """
    if len(columns) > _MOST_COLUMNS:
        raise DataError(f"{file.path} has {len(columns)} columns", hint="Write it as JSON lines: one row a line.")
    keys = [orjson.dumps(column.name) for column in columns]
    cells = [(one for batch in _values_of(read, column, notes) for one in batch) for column in columns]
    rows: list[bytes] = []
    size = 0
    for number, found in enumerate(zip_longest(*cells), start=1):
        values: list[bytes | None] = list(found)
        if None in values:
            shortest = columns[values.index(None)]
            raise DataError(
                f"{file.path}: the columns differ in length: {shortest.name} ends before row {number:,}",
                hint="Write it again, or as JSON lines: one row a line.",
            )
        if columns[0].kind == "{":
            members = [_split_member(one) for one in values if one is not None]
            if len({key for key, _ in members}) > 1:
                raise DataError(
                    f"{file.path}: the columns have different keys in row {number:,}: "
                    + ", ".join(f"{column.name} has {key}" for column, (key, _) in zip(columns, members, strict=True)),
                    hint="Write it again, or as JSON lines: one row a line.",
                )
            values = [value for _, value in members]
        rows.append(_object(zip(keys, (one for one in values if one is not None), strict=True)))
        size += len(rows[-1])
        if size >= BLOCK_BYTES:
            yield rows
            rows, size = [], 0
    yield rows


def _object(cells: Any) -> bytes:
    return b"{" + b", ".join(key + b": " + value for key, value in cells) + b"}"
