"""Digest of what was read from a dataset's files: other settings or versions read other rows from the same files."""

import hashlib
from collections.abc import Sequence

from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.pairs.row_bytes import row_bytes
from dpo_tui.data.stored.views import as_stored


def reading_digest(*parts: Sequence[Pair | Demonstration | LabelledAnswer]) -> str:
    """Return a BLAKE2b digest, in hexadecimal, of rows in their order.

    Args:
        parts: the usable rows of each dataset, before a chat template leaves any out: so the digest is the same on a
            machine without the model.
    """
    stored = as_stored(parts[0])
    if len(parts) == 1 and stored is not None and stored.is_whole:
        return str(stored.known["reading"])  # taken while the rows were written
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"dataset\n")
        for row in part:
            digest.update(row_bytes(_values(row)) + b"\n")
    return digest.hexdigest()


def _values(row: Pair | Demonstration | LabelledAnswer) -> list[object]:
    if isinstance(row, Pair):
        return [row.row, row.prompt, row.chosen, row.rejected, row.tools]
    if isinstance(row, LabelledAnswer):
        return [row.row, row.prompt, row.completion, row.desirable, row.tools]
    return [row.row, row.messages, row.text, row.tools]
