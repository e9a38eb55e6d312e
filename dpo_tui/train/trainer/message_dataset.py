"""Datasets whose rows hold lists of chat messages unchanged."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features
from datasets.features.features import register_feature
from datasets.table import InMemoryTable

from dpo_tui.data.stored.row_cells import MARK, PLAIN_MARK, messages_of_cell
from dpo_tui.data.stored.stored_rows import StoredRows

_TYPE_NAME = "DpoTuiMessages"
_PART_MARK = "\x1epart "
"""Before a cell that a `map` has written of a column that shows a part of its conversations: that part already."""
_PARTS: dict[str, slice] = {"": slice(None), "prompt": slice(-1), "completion": slice(-1, None)}


@dataclass
class MessageColumn:
    """Lists of messages, or text: JSON text in Arrow, Python objects wherever a row is read, ``map`` included.

    As Arrow structs every message, and the arguments of every tool call, would get the keys of all rows with null as
    their value, and arguments whose types differ between rows could not be stored. The ``Json`` type of `datasets` has
    neither problem, but its encoder rounds numbers to ten digits and it exists in newer versions only.

    Args:
        part: of each conversation that the column shows: all of it, as ``prompt`` what comes before its last
            message, as ``completion`` that message. So two columns share the cells of one.
        decode: whether rows are decoded; `datasets` reads it.
        id: `datasets` gives every column type one.
    """

    part: str = ""
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    pa_type: ClassVar[Any] = pa.string()
    # The name under which saved datasets refer to this class.
    _type: str = field(default=_TYPE_NAME, init=False, repr=False)

    def __call__(self) -> Any:
        """Return the Arrow type."""
        return self.pa_type

    def encode_example(self, value: Any) -> str | None:
        """Return the JSON text of messages; other text is stored as it is, since ``map`` may render messages to it."""
        if value is None or isinstance(value, str):
            return value
        return (_PART_MARK if self.part else "") + MARK + json.dumps(value, ensure_ascii=False)

    def decode_example(self, value: str | None, token_per_repo_id: Any = None) -> Any:
        """Return the messages of a JSON text, or other text as it is."""
        if value is None or not value.startswith((MARK, PLAIN_MARK, _PART_MARK)):
            return value
        if value.startswith(_PART_MARK):
            return messages_of_cell(value.removeprefix(_PART_MARK))
        return messages_of_cell(value)[_PARTS[self.part]]


class MessageDataset(Dataset):  # type: ignore[misc]
    """A dataset with columns of messages, which ``map`` keeps as they are."""

    @classmethod
    def from_columns(cls, columns: dict[str, list[Any]], others: dict[str, Any]) -> "MessageDataset":
        """Make a dataset from columns by name, of messages but for those of which ``others`` has the type."""
        features = Features({name: others.get(name) or MessageColumn() for name in columns})
        made: MessageDataset = cls.from_dict(columns, features=features)
        return made

    @classmethod
    def from_stored(cls, rows: StoredRows[Any], names: dict[str, str], others: dict[str, Any]) -> "MessageDataset":
        """Make a dataset of stored rows, mapped from their file.

        Args:
            rows: the rows.
            names: the columns of the dataset, with the column of the rows that each is made of.
            others: the types of those that are not whole conversations.
        """
        table = pa.Table.from_batches(rows.batches).select(list(names.values())).rename_columns(list(names))
        features = Features({name: others.get(name) or MessageColumn() for name in names})
        chosen = None
        # Given, because `datasets` would make one by pickling and hashing the whole table.
        fingerprint = hashlib.sha256(f"{rows.file.parent.name} {list(names.items())}".encode())
        if not rows.is_whole:
            chosen = InMemoryTable.from_pydict({"indices": pa.array(rows.numbers_in_file, pa.uint64())})
            fingerprint.update(rows.numbers_in_file.tobytes())
        return cls(
            InMemoryTable(table), DatasetInfo(features=features), None, chosen, fingerprint=fingerprint.hexdigest()[:32]
        )

    def map(self, function: Any = None, **options: Any) -> Any:
        """Return what ``Dataset.map`` does, with the messages written as text.

        It writes a row as its function leaves it, with the messages decoded, and guesses their Arrow type anew: TRL's
        tokenising would end at arguments of mixed types.
        """
        columns = [name for name, feature in self.features.items() if isinstance(feature, MessageColumn)]
        if function is None or not columns or options.get("input_columns"):
            return super().map(function, **options)
        removed = options.get("remove_columns") or []
        kept = set(columns) - set([removed] if isinstance(removed, str) else removed)
        encodings = {name: self.features[name].encode_example for name in columns}
        encoding = _Encoding(function, encodings, frozenset(kept), batched=bool(options.get("batched")))
        mapped = super().map(encoding, **options)
        return MessageDataset(
            mapped.data, mapped.info, mapped.split, indices_table=mapped._indices, fingerprint=mapped._fingerprint
        )


@dataclass(frozen=True)
class _Encoding:
    """A function for ``map`` whose messages leave it as text; a class, so that other processes can be sent it.

    Args:
        function: gets a row, or a batch of rows.
        columns: what makes the text of a value, for each column of messages.
        kept: those of them that the new dataset has as well.
        batched: whether the function gets batches.
    """

    function: Any
    columns: dict[str, Callable[[Any], str | None]]
    kept: frozenset[str]
    batched: bool

    def __call__(self, example: Any, *arguments: Any, **options: Any) -> Any:
        result = self.function(example, *arguments, **options)
        if not isinstance(result, Mapping):
            return result
        # What the function has not read is still Arrow, and is written as that.
        read = self.kept - set(getattr(example, "keys_to_format", ()))
        found = {**{name: example[name] for name in self.columns if name in read}, **result}
        return {name: self._encoded(name, value) if name in self.columns else value for name, value in found.items()}

    def _encoded(self, name: str, value: Any) -> Any:
        encode = self.columns[name]
        return [encode(one) for one in value] if self.batched else encode(value)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is called experimental, and the run's log would begin with that
    register_feature(MessageColumn, _TYPE_NAME)
