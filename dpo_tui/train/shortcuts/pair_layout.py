"""Layout of a batch of preference pairs in packed rows, so that each prompt is computed once; tensors only, no model.

A pair becomes one segment of a row: prompt, rest of the chosen answer, rest of the rejected answer. Several pairs share
a row where that costs less attention than it saves padding.

Dimensions in names with a suffix: ``B`` pairs, ``N = 2B`` rows of TRL's batch (chosen half first), ``L`` tokens of such
a row, ``R`` packed rows, ``T`` tokens of a packed row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

# Values of PairLayout.branch_RT.
_PROMPT, _CHOSEN, _REJECTED = 0, 1, 2


@dataclass(frozen=True)
class PairLengths:
    """Token counts of one pair.

    Attributes:
        prompt: length of the common prefix of both rows: the prompt, and any tokens that both answers begin with.
        chosen: tokens of the chosen row after the prefix.
        rejected: tokens of the rejected row after the prefix.
    """

    prompt: int
    chosen: int
    rejected: int

    @property
    def packed(self) -> int:
        """Tokens of the pair with its prompt computed once."""
        return self.prompt + self.chosen + self.rejected


@dataclass(frozen=True)
class LayoutCost:
    """Cost model of a forward pass, in multiplications.

    Attributes:
        token: for one token in all linear layers.
        attention: for one query with one key in all attention layers.
    """

    token: float
    attention: float

    def of(self, rows: int, length: int) -> float:
        """Return the cost of ``rows`` rows of ``length`` tokens; attention under a mask computes the whole square."""
        return rows * length * (self.token + length * self.attention)


@dataclass(frozen=True)
class PairLayout:
    """Index tensors that pack a batch of pairs and unpack the hidden states.

    Attributes:
        source_RT: for every packed token its index in the flattened ``[N, L]`` batch; 0 for padding.
        positions_RT: position id of every packed token, counted in its own sequence; 0 for padding.
        pair_RT: index of the pair that a packed token belongs to; -1 for padding.
        branch_RT: 0 for a token of the prompt, 1 of the chosen answer, 2 of the rejected one; 0 for padding.
        target_NL: for every token of the batch its index in the flattened ``[R, T]`` rows; 0 for padding.
        placed: the first token of each pair in the flattened ``[R, T]`` rows, and its lengths, in ascending order.
    """

    source_RT: torch.Tensor
    positions_RT: torch.Tensor
    pair_RT: torch.Tensor
    branch_RT: torch.Tensor
    target_NL: torch.Tensor
    placed: tuple[tuple[int, PairLengths], ...]

    def to(self, device: torch.device) -> "PairLayout":
        """Return the layout on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})

    def may_attend(self, row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Return whether queries may attend to keys: to the earlier tokens of their own sequence, and to themselves.

        Args:
            row: packed row of both, below ``R``; the three tensors broadcast.
            query: place of the query in its row, below ``T``.
            key: place of the key in its row, below ``T``.
        """
        same_pair = self.pair_RT[row, query] == self.pair_RT[row, key]
        key_branch = self.branch_RT[row, key]
        # Both answers see the prompt; neither sees the other, although the rejected one comes after the chosen one.
        # Padding is pair -1: it sees padding only, so that no row of the mask is empty (softmax over nothing is NaN).
        same_sequence = (key_branch == _PROMPT) | (key_branch == self.branch_RT[row, query])
        return (query >= key) & same_pair & same_sequence

    def attention_mask(self) -> torch.Tensor:
        """Return :meth:`may_attend` for every query and key, boolean, ``[R, 1, T, T]``."""
        rows, places = (torch.arange(size, device=self.pair_RT.device) for size in self.pair_RT.shape)
        return self.may_attend(rows[:, None, None, None], places[:, None], places)


def measure_pairs(input_ids_NL: torch.Tensor, attention_mask_NL: torch.Tensor) -> list[PairLengths] | None:
    """Measure the pairs of a batch whose row ``i`` is paired with row ``i + B``.

    Returns:
        None where the rows are not pairs or have padding elsewhere than on the right.
    """
    rows, length = input_ids_NL.shape
    if rows % 2 or length == 0:
        return None
    # The prefix may run past the prompt into the answers. That is sharing all the same: under causal attention, equal
    # tokens at equal positions have equal hidden states in both rows.
    mask = attention_mask_NL.bool()
    real_N = mask.sum(dim=1)
    right_padded = (mask == (torch.arange(length, device=mask.device) < real_N[:, None])).all() & (real_N > 0).all()
    half = rows // 2
    # With both masks: padding equals padding, and the prefix of two equal answers would run on into it.
    equal_BL = (input_ids_NL[:half] == input_ids_NL[half:]) & mask[:half] & mask[half:]
    # The product becomes 0 at the first difference and stays there, so the sum is the length of the common prefix.
    common_B = equal_BL.long().cumprod(dim=1).sum(dim=1)
    # One copy to the host: each would wait for the GPU's queue to drain.
    numbers = torch.cat([common_B, real_N, right_padded.long()[None]]).tolist()
    if not numbers[-1]:
        return None
    return [
        PairLengths(prompt, chosen - prompt, rejected - prompt)
        for prompt, chosen, rejected in zip(numbers[:half], numbers[half:rows], numbers[rows:-1], strict=False)
    ]


def pack_segments(lengths: Sequence[int], cost: LayoutCost, max_attention: float = float("inf")) -> list[list[int]]:
    """Spread segments over rows at the least cost, padding and attention counted.

    For every number of rows, the longest segment goes first into the shortest row (Graham's LPT rule, 1969); the
    cheapest number of rows wins.

    Args:
        lengths: tokens of each segment.
        cost: of a forward pass.
        max_attention: queries times keys that all rows together may have, which bounds memory.

    Returns:
        The indices of each row's segments; empty where no number of rows keeps ``max_attention``.
    """
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    best: list[list[int]] = []
    best_cost = float("inf")
    for count in range(len(lengths), 0, -1):
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for index in longest_first:
            row = filled.index(min(filled))
            rows[row].append(index)
            filled[row] += lengths[index]
        row_cost = cost.of(count, max(filled))
        # Counted down, with < and not <=: of two numbers of rows that cost the same the larger one wins, whose rows are
        # shorter and hold fewer attention scores.
        if row_cost < best_cost and count * max(filled) ** 2 <= max_attention:
            best, best_cost = rows, row_cost
    return best


def plan_layout(
    pairs: Sequence[PairLengths], length: int, cost: LayoutCost, max_length: int | None = None
) -> PairLayout | None:
    """Plan the packed rows of a batch.

    Args:
        pairs: of the batch, from :func:`measure_pairs`.
        length: ``L``, tokens of a row of the batch.
        cost: of a forward pass.
        max_length: longest row that a batch may have; the packed rows then hold no more attention scores than a plain
            batch of that length. None for no bound.

    Returns:
        None where packed rows would cost no less than the batch as it is.
    """
    max_attention = 2 * len(pairs) * max_length**2 if max_length else float("inf")
    rows = pack_segments([pair.packed for pair in pairs], cost, max_attention)
    if not rows:
        return None
    width = max(sum(pairs[index].packed for index in row) for row in rows)
    if cost.of(len(rows), width) >= cost.of(2 * len(pairs), length):
        return None
    return _index_tensors(pairs, rows, length, width)


def _index_tensors(pairs: Sequence[PairLengths], rows: Sequence[Sequence[int]], length: int, width: int) -> PairLayout:
    """Build the layout in which packed row ``r`` of ``width`` tokens holds the pairs ``rows[r]``."""
    shape = (len(rows), width)
    # Padding has index 0, since a gather needs one that exists. What it fetches goes nowhere: the mask hides padding
    # from every token, and labels leave it out of every loss, so no gradient flows back through it.
    source_RT, positions_RT = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    pair_RT, branch_RT = torch.full(shape, -1, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    target_NL = torch.zeros((2 * len(pairs), length), dtype=torch.long)
    placed = []
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            pair = pairs[index]
            placed.append((number * width + start, pair))
            chosen_row, rejected_row = index, index + len(pairs)
            for tokens, first_position, branch, batch_rows in (
                (pair.prompt, 0, _PROMPT, (chosen_row, rejected_row)),
                (pair.chosen, pair.prompt, _CHOSEN, (chosen_row,)),
                # The rejected answer follows the prompt, not the chosen answer that precedes it in the row.
                (pair.rejected, pair.prompt, _REJECTED, (rejected_row,)),
            ):
                places = slice(start, start + tokens)
                positions = torch.arange(first_position, first_position + tokens)
                source_RT[number, places] = batch_rows[0] * length + positions
                positions_RT[number, places] = positions
                pair_RT[number, places] = index
                branch_RT[number, places] = branch
                # A prompt's hidden states go to both rows: gather sums the gradients of both answers into them.
                for batch_row in batch_rows:
                    target_NL[batch_row, positions] = number * width + torch.arange(start, start + tokens)
                start += tokens
    return PairLayout(source_RT, positions_RT, pair_RT, branch_RT, target_NL, tuple(placed))
