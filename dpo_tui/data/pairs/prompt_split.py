"""Choose which prompts are held out for evaluation, so that no prompt is on both sides."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import orjson

from dpo_tui.data.pairs.pair import Message, Pair


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
    """Say for each row, given by its prompt, whether it is held out.

    Prompts are ordered by a hash of the seed and their text, so the split depends on neither the order of the file nor
    the platform, and a prompt stays on its side when rows are added elsewhere only as far as the cut moves. Prompt
    groups go to evaluation while that brings its number of rows closer to ``fraction`` of all. With a fraction above 0
    and at least two different prompts, each part gets at least one group; with a single prompt nothing can be held out
    and the evaluation part is empty.

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
    """Choose the prompts to hold out.

    Args:
        sizes: how many pairs each prompt has, by :func:`prompt_key`.
        fraction: the share of all pairs to hold out.
    """
    if fraction == 0 or len(sizes) < 2:  # noqa: PLR2004 (one on each side)
        return set()
    wanted = fraction * sum(sizes.values())
    held_out: set[bytes] = set()
    held = 0
    # The last group stays for training whatever the fraction.
    for key in sorted(sizes)[:-1]:
        if held_out and abs(held + sizes[key] - wanted) >= abs(held - wanted):
            break
        held_out.add(key)
        held += sizes[key]
    return held_out


def prompt_key(prompt: list[Message], seed: int) -> bytes:
    """A hash of a prompt and the seed: equal for equal prompts, in no order that anything else has."""
    text = orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16, key=str(seed).encode()).digest()


def prompt_id(prompt: list[Message]) -> str:
    """A short name of a prompt, the same in every file and for every seed."""
    return hashlib.blake2b(json.dumps(prompt, sort_keys=True).encode(), digest_size=8).hexdigest()


def different_prompts(prompts: Iterable[list[Message]], count: int | None = None) -> list[list[Message]]:
    """Return the first prompts of a list, each once, ``count`` of them at most; all of them with None."""
    found: list[list[Message]] = []
    # Compared by their text: comparing each with every earlier one takes minutes for a hundred thousand prompts.
    seen: set[str] = set()
    for prompt in prompts:
        if count is not None and len(found) >= count:
            break
        key = json.dumps(prompt, sort_keys=True)
        if key not in seen:
            seen.add(key)
            found.append(prompt)
    return found
