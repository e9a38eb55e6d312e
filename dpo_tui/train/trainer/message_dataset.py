"""Datasets whose rows hold lists of chat messages unchanged."""

import json
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets
from datasets.features.features import register_feature

_TYPE_NAME = "DpoTuiMessages"


@dataclass
class MessageColumn:
    """Lists of messages, as JSON text in Arrow and as Python objects wherever a row is read, ``map`` included.

    As Arrow structs every message, and the arguments of every tool call, would get the keys of all rows with null as
    their value, and arguments whose types differ between rows could not be stored. The ``Json`` type of `datasets` has
    neither problem, but its encoder rounds numbers to ten digits and it exists in newer versions only.

    Args:
        decode: whether rows are decoded; `datasets` reads it.
        id: `datasets` gives every column type one.
    """

    decode: bool = True
    id: str | None = field(default=None, repr=False)
    pa_type: ClassVar[Any] = pa.string()
    # The name under which saved datasets refer to this class.
    _type: str = field(default=_TYPE_NAME, init=False, repr=False)

    def __call__(self) -> Any:
        """Return the Arrow type."""
        return self.pa_type

    def encode_example(self, value: Any) -> str | None:
        """Return the JSON text of a value; ``map`` passes values that it has not decoded, which are text already."""
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def decode_example(self, value: str | None, token_per_repo_id: Any = None) -> Any:
        """Return the messages of a JSON text."""
        return None if value is None else json.loads(value)


class MessageDataset(Dataset):  # type: ignore[misc]
    """A dataset with columns of messages, which ``map`` keeps as they are."""

    @classmethod
    def from_columns(cls, columns: dict[str, list[Any]], others: dict[str, Any]) -> "MessageDataset":
        """Make a dataset from columns by name, of messages but for those of which ``others`` has the type."""
        features = Features({name: others.get(name) or MessageColumn() for name in columns})
        made: MessageDataset = cls.from_dict(columns, features=features)
        return made

    def map(self, *arguments: Any, **options: Any) -> Any:
        """Return what ``Dataset.map`` does, without writing the columns of messages anew.

        It writes a row as its function leaves it, with the messages decoded, and guesses their Arrow type again: TRL's
        tokenising would end at arguments of mixed types. The columns are left out, and put beside the new ones after.
        """
        columns = [name for name, feature in self.features.items() if isinstance(feature, MessageColumn)]
        removed = options.get("remove_columns") or []
        removed = [removed] if isinstance(removed, str) else list(removed)
        mapped = super().map(*arguments, **options | {"remove_columns": [*removed, *columns]})
        kept = [name for name in columns if name not in removed and name not in mapped.column_names]
        if not kept or options.get("batched") or len(mapped) != len(self):
            return mapped
        return concatenate_datasets([mapped, self.select_columns(kept)], axis=1)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is called experimental, and the run's log would begin with that
    register_feature(MessageColumn, _TYPE_NAME)
