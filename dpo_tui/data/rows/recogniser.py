"""One record in, its pairs out: the single recogniser that the reader, the scan and the row view share."""

from collections import Counter
from typing import Any

from dpo_tui.data.pairs.pair import Turns, Unreadable
from dpo_tui.data.rows.compose import compose, kind_of
from dpo_tui.data.rows.messages import describe, literal
from dpo_tui.data.rows.shapes import Binding, ColumnMapping, Record, bind

# How many different sets of columns are remembered. Rows with endless new columns would otherwise fill the memory.
_REMEMBERED = 256


class Recogniser:
    """Understands records, remembers the shape of each set of columns, and counts what it saw.

    Args:
        mapping: column names given by hand.
        cells: values come from a table without types (CSV), so that text may hold JSON.
    """

    def __init__(self, mapping: ColumnMapping | None = None, *, cells: bool = False) -> None:
        self.mapping = mapping or ColumnMapping()
        self.cells = cells
        self.formats: Counter[str] = Counter()
        self.evidence: dict[str, dict[str, str]] = {}
        self._bindings: dict[tuple[str, ...], Binding] = {}

    def only_columns(self, record: Record) -> tuple[str, str, str] | None:
        """Name the three columns if records like this one are nothing but them, so that a scan can take them whole."""
        if self.cells:
            return None
        try:
            return self._binding(record).plain
        except Unreadable:
            return None

    def count_rows(self, record: Record, count: int) -> None:
        """Count rows that were taken whole, as if each had gone through :meth:`pairs`."""
        if count:
            self.formats["standard"] += count
            self.evidence.setdefault("standard", self._binding(record).columns)

    def pairs(self, record: Any) -> list[Turns]:
        """Return the pairs of one record.

        Raises:
            Unreadable: the record is no object, or has no pair in it; the reason names what is missing.
        """
        if type(record) is not dict:
            raise Unreadable("missing-field", f"the row is {describe(record)}, not an object with columns")
        if self.cells:
            record = {key: literal(value) if isinstance(value, str) else value for key, value in record.items()}
        binding = self._binding(record)
        turns = []
        for raw in binding.read(record):
            turns.append(compose(raw))
            name = kind_of(raw) if binding.shape == "columns" else binding.shape
            self.formats[name] += 1
            if name not in self.evidence:
                self.evidence[name] = binding.columns
        return turns

    def _binding(self, record: Record) -> Binding:
        names = tuple(record)
        binding = self._bindings.get(names)
        if binding is None:
            binding = bind(record, self.mapping)
            # A shape that looked at values (an `output` of two answers) may not fit the next row of the same columns.
            if binding.shape == "columns" and len(self._bindings) < _REMEMBERED:
                self._bindings[names] = binding
        return binding
