"""Digest of what was read from a dataset's files: other settings or versions read other rows from the same files."""

import hashlib
import json
from collections.abc import Iterable

import orjson

from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair


def reading_digest(*parts: Iterable[Pair | Demonstration | LabelledAnswer]) -> str:
    """Return a BLAKE2b digest, in hexadecimal, of rows in their order.

    Args:
        parts: the usable rows of each dataset, before a chat template leaves any out: so the digest is the same on a
            machine without the model.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"dataset\n")
        for row in part:
            digest.update(_as_bytes(_values(row)) + b"\n")
    return digest.hexdigest()


def _values(row: Pair | Demonstration | LabelledAnswer) -> list[object]:
    if isinstance(row, Pair):
        return [row.row, row.prompt, row.chosen, row.rejected, row.tools]
    if isinstance(row, LabelledAnswer):
        return [row.row, row.prompt, row.completion, row.desirable, row.tools]
    return [row.row, row.messages, row.text, row.tools]


def _as_bytes(values: list[object]) -> bytes:
    try:
        return orjson.dumps(values, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        # Half of a surrogate pair, or a whole number beyond 64 bits, in the arguments of a tool call.
        return json.dumps(values, default=str, sort_keys=True).encode()
