"""Outline of a file that is one JSON object: its members, where their values lie, how many elements they have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from dpo_tui.data.source.json_lines import MAX_ROW_BYTES
from dpo_tui.data.source.json_structure import JsonStructure

MOST_MEMBERS = 4096
"""An object with more members is a list of rows, each under a key of its own: its outline ends there."""
_NAME_BYTES = 1 << 16
"""Bytes of a member that are kept to find its name."""
_NAME = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*(\S?)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the object.

    Args:
        name: its key.
        kind: ``[``, ``{``, or empty for a text, a number, true, false or null.
        start: offset of its value in the text of the file, as UTF-8 without a byte-order mark.
        end: the offset after its value; None where the file breaks off in it.
        elements: how many elements or members it has, for ``[`` and ``{``.
    """

    name: str
    kind: str
    start: int
    end: int | None
    elements: int


def outline_of(blocks: Iterator[bytes]) -> list[Member] | None:
    """The members of a file that is one JSON object.

    Args:
        blocks: the file's text as UTF-8.

    Returns:
        None if it is something else: several objects, or none that is longer than a row may be and has lists in it.
    """
    outline = _Outline()
    for block in blocks:
        outline.feed(block)
        if outline.is_other or (outline.read > MAX_ROW_BYTES and not outline.has_lists):
            return None
        if len(outline.members) > MOST_MEMBERS:
            break
    return [*outline.members, *outline.unfinished()] if outline.began else None


def _text(name: bytes) -> str:
    try:
        return str(orjson.loads(name))
    except orjson.JSONDecodeError:  # a control character, or half of a character: the rows will say so
        return name.decode("utf-8", "replace")


class _Outline:
    """Collects members from blocks.

    Attributes:
        members: those that have ended.
        read: bytes that were read.
        began: whether the object has begun.
        is_other: whether the text is no single object.
    """

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.read = 0
        self.began = self.is_other = False
        self._structure = JsonStructure()
        self._ended = False
        self._name = bytearray()
        self._opened: tuple[str, str, int] | None = None  # name, kind and start of the value that is being read
        self._commas = 0
        self._is_empty = True

    @property
    def has_lists(self) -> bool:
        """Whether a member is a list or an object."""
        return self._opened is not None or any(member.kind for member in self.members)

    def feed(self, block: bytes) -> None:
        found = self._structure.feed(block)
        near = found.depths <= 2  # noqa: PLR2004 (the object and the values of its members)
        start = 0
        rest = zip(found.offsets[near].tolist(), found.codes[near].tolist(), found.depths[near].tolist(), strict=True)
        for offset, code, depth in rest:
            if self._ended:
                self.is_other = True
                return
            if not self.began:
                self.began = True
                self.is_other = code != ord("{") or bool(block[:offset].strip())
            elif code in b"[{" and depth == 2:  # noqa: PLR2004
                self._keep(block[start:offset])
                self._open(chr(code), self.read + offset)
            elif code == ord(",") and depth == 2:  # noqa: PLR2004
                self._commas += 1
            elif code in b"]}" and depth == 2:  # noqa: PLR2004
                self._is_empty = False
            elif code in b"]}" and depth == 1:
                self._is_empty = self._is_empty and not block[start:offset].strip()
                self._close(self.read + offset + 1)
            elif depth <= 1:  # a comma between members, or the end of the object
                self._keep(block[start:offset])
                self._scalar()
                self._ended = depth == 0
            start = offset + 1
            if self.is_other:
                return
        if self._ended and block[start:].strip():
            self.is_other = True
        if self._opened is None:
            self._keep(block[start:])
        elif block[start:].strip():
            self._is_empty = False
        self.read += len(block)

    def unfinished(self) -> list[Member]:
        """The member that the file breaks off in."""
        if self._opened is None:
            return []
        name, kind, start = self._opened
        return [Member(name, kind, start, None, self._commas + 1)]

    def _keep(self, piece: bytes) -> None:
        self._name += piece[: max(_NAME_BYTES - len(self._name), 0)]

    def _open(self, kind: str, start: int) -> None:
        found = _NAME.match(bytes(self._name))
        if found is None or found[2]:
            self.is_other = True
            return
        self._opened = (_text(found[1]), kind, start)
        self._commas = 0
        self._is_empty = True
        self._name.clear()

    def _close(self, end: int) -> None:
        if self._opened is None:
            return
        name, kind, start = self._opened
        self.members.append(
            Member(name, kind, start, end, 0 if self._is_empty and not self._commas else self._commas + 1)
        )
        self._opened = None

    def _scalar(self) -> None:
        """Take what was kept as a member that is no list; after a list there is nothing to take."""
        found = _NAME.match(bytes(self._name))
        if found is not None:
            self.members.append(Member(_text(found[1]), "", 0, 0, 0))
        self._name.clear()
