"""The batches in which the reference is scored, against their definition."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.train.shortcuts import reference_precompute


def batches_by_taking_from_the_front(lengths: list[int], size: int, limit: int | None, exact: bool) -> list[list[int]]:
    """The definition: the longest pairs that are left make the next batch."""
    cut = [min(length, limit) if limit else length for length in lengths]
    left = sorted(range(len(cut)), key=lambda index: (-cut[index], index))
    most = size * max(cut, default=0)
    batches = []
    while left:
        count = size if exact else max(size, most // max(1, cut[left[0]]))
        batches.append(left[:count])
        left = left[count:]
    return batches


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 9), st.none() | st.integers(1, 30), st.booleans())
def test_each_batch_has_the_longest_pairs_that_are_left(
    lengths: list[int], size: int, limit: int | None, exact: bool
) -> None:
    expected = batches_by_taking_from_the_front(lengths, size, limit, exact)
    assert list(reference_precompute._batches_by_length(lengths, size, limit, exact=exact)) == expected
