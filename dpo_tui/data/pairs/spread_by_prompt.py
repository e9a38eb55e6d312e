"""An order of rows in which those of one prompt are far apart, for losses that compare the rows of a micro-batch."""

import hashlib
from collections.abc import Sequence

from dpo_tui.data.pairs.hold_out_by_prompt import prompt_key
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer


def spread_by_prompt(rows: Sequence[LabelledAnswer], seed: int) -> list[LabelledAnswer]:
    """Return rows in the order of :func:`spread_order`."""
    return [rows[number] for number in spread_order(rows, seed)]


def spread_order(rows: Sequence[LabelledAnswer], seed: int) -> list[int]:
    """Return the places of rows in an order that the seed alone decides: random, with those of one prompt far apart.

    KTO estimates its KL term from answers to other prompts: in each micro-batch it moves every answer on to the next
    prompt. Two answers to one prompt side by side, as pairs give them, would be no answers to another one. Of a prompt
    with k answers the i-th stands at (i + u) / k of the whole, with one random u in [0, 1) for each prompt. So answers
    to one prompt are about a k-th of all rows apart, also where TRL drops some rows later. Which of them comes first is
    random, so that labels are mixed.

    Args:
        rows: in the order of the source.
        seed: of the run.
    """
    groups: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(prompt_key(row.prompt, seed), []).append(number)
    places: list[tuple[float, int]] = []
    for key, numbers in groups.items():
        offset = offset_of(key)
        places += [((place + offset) / len(numbers), number) for place, number in enumerate(shuffled(key, numbers))]
    return [number for _, number in sorted(places)]


def shuffled(key: bytes, numbers: list[int]) -> list[int]:
    """The numbers of the rows of one prompt, which are in their order, in the order in which they are spread."""
    return [number for _, number in sorted((_digest(key, place), number) for place, number in enumerate(numbers))]


def _digest(key: bytes, place: int) -> bytes:
    return hashlib.blake2b(str(place).encode(), digest_size=8, key=key).digest()


def offset_of(key: bytes) -> float:
    """A number in [0, 1) that is evenly distributed over prompts, by the key of a prompt."""
    return int.from_bytes(hashlib.blake2b(b"offset", digest_size=8, key=key).digest(), "big") / 2**64
