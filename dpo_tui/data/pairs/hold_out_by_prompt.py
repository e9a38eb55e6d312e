"""Split rows into training and held-out rows by prompt, so that no prompt is in both parts."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.data.pairs.row_bytes import row_bytes


def split_by_prompt(pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into a training and an evaluation part, whole prompts at a time; see :func:`held_out_rows`.

    Args:
        pairs: all usable pairs.
        fraction: the share of the pairs to hold out, from 0 to below 1.
        seed: chooses which prompts; the same seed gives the same split.

    Returns:
        The training pairs and the evaluation pairs, each in the order of the source.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    held_out = held_out_rows([pair.prompt for pair in pairs], fraction, seed)
    return (
        [pair for pair, out in zip(pairs, held_out, strict=True) if not out],
        [pair for pair, out in zip(pairs, held_out, strict=True) if out],
    )


def held_out_rows(prompts: Iterable[list[Message]], fraction: float, seed: int) -> list[bool]:
    """Whether each row, given by its prompt, is held out.

    Prompts are ordered by a hash of seed and text, so the split depends neither on the order of the file nor on the
    platform, and adding rows changes the part of few prompts. In that order, the rows of one prompt after the other are
    held out while this brings their number closer to ``fraction`` of all. With a fraction above 0 and at least two
    different prompts, each part gets at least one prompt; with a single prompt nothing is held out.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction to hold out must be from 0 to below 1, not {fraction}")
    keys = [prompt_key(prompt, seed) for prompt in prompts]
    groups: dict[bytes, int] = {}
    for key in keys:
        groups[key] = groups.get(key, 0) + 1
    held_out = held_out_keys(groups, fraction)
    return [key in held_out for key in keys]


def held_out_keys(sizes: Mapping[bytes, int], fraction: float) -> set[bytes]:
    """Choose the prompts to hold out; see :func:`held_out_rows`.

    Args:
        sizes: how many pairs each prompt has, by :func:`prompt_key`.
        fraction: the share of all pairs to hold out.
    """
    if fraction == 0 or len(sizes) < 2:  # noqa: PLR2004 (one on each side)
        return set()
    wanted = fraction * sum(sizes.values())
    held_out: set[bytes] = set()
    rows_held_out = 0
    # The last prompt is trained on, whatever the fraction.
    for key in sorted(sizes)[:-1]:
        if held_out and abs(rows_held_out + sizes[key] - wanted) >= abs(rows_held_out - wanted):
            break
        held_out.add(key)
        rows_held_out += sizes[key]
    return held_out


def prompt_key(prompt: list[Message], seed: int) -> bytes:
    """A hash of a prompt, keyed by the seed; sorting by it gives an order that is random but reproducible."""
    return hashlib.blake2b(row_bytes(prompt), digest_size=16, key=str(seed).encode()).digest()


def prompt_id(prompt: list[Message]) -> str:
    """A short hash of a prompt, the same for every seed: what run folders and judgements call it by."""
    return hashlib.blake2b(json.dumps(prompt, sort_keys=True).encode(), digest_size=8).hexdigest()


def different_prompts(prompts: Iterable[list[Message]], count: int | None = None) -> list[list[Message]]:
    """The different prompts of a list in order, ``count`` of them at most; all of them with None."""
    found: list[list[Message]] = []
    # By their text, which can be hashed: comparing dicts one by one takes minutes for a hundred thousand prompts.
    seen: set[str] = set()
    for prompt in prompts:
        if count is not None and len(found) >= count:
            break
        key = json.dumps(prompt, sort_keys=True)
        if key not in seen:
            seen.add(key)
            found.append(prompt)
    return found
