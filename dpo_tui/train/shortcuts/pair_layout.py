"""How the pairs of a batch are laid into rows so that a prompt is computed once; decided by counting.

A pair is one stretch of a row: its prompt, then what is left of the chosen answer, then what is left of the rejected
one. Several pairs may share a row where that costs less than the padding it saves. No framework but tensors here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Branches of a pair, as the attention mask tells them apart.
_PROMPT, _CHOSEN, _REJECTED = 0, 1, 2


@dataclass(frozen=True)
class PairLengths:
    """Token counts of one pair.

    Attributes:
        prompt: tokens that both answers' rows begin with.
        chosen: tokens of the chosen row after those.
        rejected: tokens of the rejected row after those.
    """

    prompt: int
    chosen: int
    rejected: int

    @property
    def shared(self) -> int:
        """Tokens of the pair when the prompt stands once."""
        return self.prompt + self.chosen + self.rejected


@dataclass(frozen=True)
class LayoutCost:
    """What a forward pass costs, in multiplications.

    Attributes:
        token: for one token in all linear layers.
        attention: for one query with one key in all attention layers.
    """

    token: float
    attention: float

    def of(self, rows: int, length: int) -> float:
        """Return the cost of so many rows of one length; masked attention computes the whole square."""
        return rows * length * (self.token + length * self.attention)


@dataclass(frozen=True)
class PairLayout:
    """Where every token of a batch of pairs goes.

    With ``R`` packed rows of ``T`` tokens, and ``2B`` rows of ``L`` tokens as TRL has them (chosen half first):

    Attributes:
        source: index into the flattened ``[2B, L]`` batch for every packed token, ``[R, T]``; 0 for padding.
        positions: position of every packed token in its own sequence, ``[R, T]``.
        owner: pair of every packed token, ``[R, T]``; -1 for padding.
        branch: 0 for a prompt's token, 1 for chosen, 2 for rejected, ``[R, T]``.
        target: index into the flattened ``[R, T]`` rows for every token of the batch, ``[2B, L]``; 0 for padding.
    """

    source: torch.Tensor
    positions: torch.Tensor
    owner: torch.Tensor
    branch: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device) -> "PairLayout":
        """Return the layout on a device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        return PairLayout(**moved)

    def sees(self, row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Return which query may see which key: what stands before it in its own sequence.

        Args:
            row: of both, below ``R``; broadcasts with the others.
            query: place in the row, below ``T``.
            key: place in the row, below ``T``.
        """
        same_pair = self.owner[row, query] == self.owner[row, key]
        key_branch = self.branch[row, key]
        same_sequence = (key_branch == _PROMPT) | (key_branch == self.branch[row, query])
        return (query >= key) & same_pair & same_sequence

    def allowed(self) -> torch.Tensor:
        """Return :meth:`sees` for every query and key, ``[R, 1, T, T]``."""
        rows, places = (torch.arange(size, device=self.owner.device) for size in self.owner.shape)
        return self.sees(rows[:, None, None, None], places[:, None], places)


def pair_lengths(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[PairLengths] | None:
    """Measure the pairs of a ``[2B, L]`` batch whose row ``i`` belongs with row ``i + B``.

    Returns:
        None where rows are not padded on the right only, or are not pairs.
    """
    rows, length = input_ids.shape
    if rows % 2 or length == 0:
        return None
    mask = attention_mask.bool()
    real = mask.sum(dim=1)
    right_padded = (mask == (torch.arange(length, device=mask.device) < real[:, None])).all() & (real > 0).all()
    half = rows // 2
    equal = (input_ids[:half] == input_ids[half:]) & mask[:half] & mask[half:]
    common = equal.long().cumprod(dim=1).sum(dim=1)
    # One copy from the device for everything.
    found = torch.cat([common, real, right_padded.long()[None]]).tolist()
    if not found[-1]:
        return None
    return [
        PairLengths(prompt, chosen - prompt, rejected - prompt)
        for prompt, chosen, rejected in zip(found[:half], found[half:rows], found[rows:-1], strict=False)
    ]


def choose_rows(lengths: Sequence[int], work: LayoutCost, most_attention: float = float("inf")) -> list[list[int]]:
    """Spread stretches over rows so that the whole costs least, padding and attention counted.

    For every number of rows, the longest stretch goes first into the shortest row (Graham's LPT rule); the cheapest
    number wins.

    Args:
        lengths: of the stretches, in tokens.
        work: what rows cost.
        most_attention: queries times keys that all rows together may have, for memory.

    Returns:
        The stretches of each row, by index; nothing where no number of rows has so little attention.
    """
    by_length = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    best: list[list[int]] = []
    best_cost = float("inf")
    for count in range(len(lengths), 0, -1):
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for index in by_length:
            row = filled.index(min(filled))
            rows[row].append(index)
            filled[row] += lengths[index]
        cost = work.of(count, max(filled))
        if cost < best_cost and count * max(filled) ** 2 <= most_attention:
            best, best_cost = rows, cost
    return best


def lay_out(
    pairs: Sequence[PairLengths], length: int, work: LayoutCost, max_length: int | None = None
) -> PairLayout | None:
    """Lay the pairs of a ``[2B, length]`` batch into rows.

    Args:
        pairs: of the batch.
        length: of its rows.
        work: what rows cost.
        max_length: of any row; attention never needs more memory than a plain batch of that length.

    Returns:
        None where that costs no less than the batch as it is.
    """
    most_attention = 2 * len(pairs) * max_length**2 if max_length else float("inf")
    rows = choose_rows([pair.shared for pair in pairs], work, most_attention)
    if not rows:
        return None
    width = max(sum(pairs[index].shared for index in row) for row in rows)
    if work.of(len(rows), width) >= work.of(2 * len(pairs), length):
        return None
    shape = (len(rows), width)
    source, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    owner, branch = torch.full(shape, -1, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    target = torch.zeros((2 * len(pairs), length), dtype=torch.long)
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            pair = pairs[index]
            chosen, rejected = index, index + len(pairs)
            for tokens, at, name, readers in (
                (pair.prompt, 0, _PROMPT, (chosen, rejected)),
                (pair.chosen, pair.prompt, _CHOSEN, (chosen,)),
                (pair.rejected, pair.prompt, _REJECTED, (rejected,)),
            ):
                stretch, place = slice(start, start + tokens), torch.arange(at, at + tokens)
                source[number, stretch] = readers[0] * length + place
                positions[number, stretch] = place
                owner[number, stretch] = index
                branch[number, stretch] = name
                for reader in readers:
                    target[reader, at : at + tokens] = number * width + torch.arange(start, start + tokens)
                start += tokens
    return PairLayout(source, positions, owner, branch, target)
