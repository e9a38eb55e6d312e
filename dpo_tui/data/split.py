"""Hold out pairs for evaluation without letting a prompt stand on both sides."""

import hashlib

import orjson

from dpo_tui.data.pairs import Message, Pair


def split_by_prompt(pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into a training and an evaluation part, whole prompts at a time.

    Prompts are ordered by a hash of the seed and their text, so the split depends on neither the order of the file nor
    the platform, and a prompt stays on its side when rows are added elsewhere only as far as the cut moves. Prompt
    groups go to evaluation while that brings its number of pairs closer to ``fraction`` of all. With a fraction above 0
    and at least two different prompts, each part gets at least one group; with a single prompt nothing can be held out
    and the evaluation part is empty.

    Args:
        pairs: all usable pairs.
        fraction: the share of the pairs to hold out, from 0 to below 1.
        seed: chooses which prompts; the same seed gives the same split.

    Returns:
        The training pairs and the evaluation pairs, each in the order of the source.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction to hold out must be from 0 to below 1, not {fraction}")
    groups: dict[bytes, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(_key(pair.prompt, seed), []).append(index)
    if fraction == 0 or len(groups) < 2:  # noqa: PLR2004 (one on each side)
        return list(pairs), []
    wanted = fraction * len(pairs)
    held_out: set[int] = set()
    for number, key in enumerate(sorted(groups)):
        members = groups[key]
        better = abs(len(held_out) + len(members) - wanted) < abs(len(held_out) - wanted)
        if number and not better:
            break
        if number == len(groups) - 1:  # the last group stays for training
            break
        held_out.update(members)
    train = [pair for index, pair in enumerate(pairs) if index not in held_out]
    return train, [pairs[index] for index in sorted(held_out)]


def _key(prompt: list[Message], seed: int) -> bytes:
    text = orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16, key=str(seed).encode()).digest()
