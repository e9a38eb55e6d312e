"""Word diff of the chosen and the rejected answer."""

import re
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Indel

MAX_WORDS = 20_000
"""Words that are compared; the rest of a longer text is one piece, since the time grows with the square."""
_PIECES = re.compile(r"\s+|[^\W_]+|[^\w\s]|_+")


@dataclass(frozen=True, slots=True)
class DiffPiece:
    """Some text of one answer: in both answers, or only in this one."""

    text: str
    kind: Literal["same", "only"]


def word_difference(chosen: str, rejected: str) -> tuple[list[DiffPiece], list[DiffPiece]]:
    """Split both texts into pieces that they share and pieces that they do not.

    Returns:
        The pieces of the chosen and of the rejected text; joined, they give the texts again.
    """
    left, left_rest = _split_words(chosen)
    right, right_rest = _split_words(rejected)
    chosen_pieces: list[DiffPiece] = []
    rejected_pieces: list[DiffPiece] = []
    for step in Indel.opcodes(left, right):
        _add(chosen_pieces, "".join(left[step.src_start : step.src_end]), step.tag == "equal")
        _add(rejected_pieces, "".join(right[step.dest_start : step.dest_end]), step.tag == "equal")
    _add(chosen_pieces, left_rest, left_rest == right_rest)
    _add(rejected_pieces, right_rest, left_rest == right_rest)
    return chosen_pieces, rejected_pieces


def _split_words(text: str) -> tuple[list[str], str]:
    words = _PIECES.findall(text)
    if len(words) <= MAX_WORDS:
        return words, ""
    return words[:MAX_WORDS], "".join(words[MAX_WORDS:])


def _add(pieces: list[DiffPiece], text: str, same: bool) -> None:
    if not text:
        return
    kind: Literal["same", "only"] = "same" if same else "only"
    if pieces and pieces[-1].kind == kind:
        pieces[-1] = DiffPiece(pieces[-1].text + text, kind)
    else:
        pieces.append(DiffPiece(text, kind))
