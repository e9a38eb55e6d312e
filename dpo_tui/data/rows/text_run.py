"""Rows of three texts, one after the other, that are passed on together: as the columns of their JSON texts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pyarrow is imported for large datasets only
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class TextRun:
    """Usable pairs of three texts, none of them blank, in consecutive rows.

    Args:
        prompts: their JSON texts, in quotes, as orjson writes them.
        chosen: the preferred answers, in the same form.
        rejected: the other answers.
    """

    prompts: "pa.BinaryArray"
    chosen: "pa.BinaryArray"
    rejected: "pa.BinaryArray"

    def __len__(self) -> int:
        return len(self.prompts)

    def part(self, start: int, count: int) -> "TextRun":
        """Some of the rows."""
        return TextRun(*(one.slice(start, count) for one in (self.prompts, self.chosen, self.rejected)))
