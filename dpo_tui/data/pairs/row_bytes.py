"""The JSON text by which rows and prompts are compared, in memory and in files."""

import json
from collections.abc import Sequence

import orjson


def row_bytes(values: Sequence[object]) -> bytes:
    """The JSON text of a row's values with sorted keys, by which rows are compared: it need not give them back."""
    try:
        return orjson.dumps(values, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        # Half of a surrogate pair, or a whole number beyond 64 bits, in the arguments of a tool call.
        return json.dumps(values, default=str, sort_keys=True).encode()
