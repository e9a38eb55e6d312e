"""Scores of SentencePiece tokens, from the merges of a ``tokenizer.json``.

SentencePiece joins the two neighbours whose product has the highest score; the tokenizers library applies the earliest
merge in a list. The list of a converted SentencePiece model has every way to make a token of two others, all ways of
one token in a row, and the tokens by falling score: then the place of a token is its score, and both join alike.
(Of two overlapping ways to the same token, as in a long run of one character, SentencePiece takes the left one.)
"""

from collections.abc import Callable, Mapping, Sequence

from dpo_tui.errors import DpoTuiError

_LOWEST = -1e9
"""Score of tokens that no merge makes: single characters, and those that are not of the text."""


def spm_scores(
    tokens: Sequence[str],
    normal: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    refusal: Callable[[str], DpoTuiError],
) -> list[float]:
    """Return the score of every token.

    Args:
        tokens: all tokens, by id.
        normal: ids of the tokens that text is made of.
        merges: pairs of tokens, the first to apply first.
        refusal: makes the error of a reason.

    Raises:
        DpoTuiError: scores would join in another order than the merges.
    """
    place: dict[str, int] = {}
    previous = ""
    for left, right in merges:
        made = left + right
        if made != previous:
            if made in place:
                raise refusal(f"its merges make {made!r} in two places, as no SentencePiece model does")
            place[made] = len(place)
        previous = made
    pairs = {(left, right) for left, right in merges}
    for token in normal:
        for cut in range(1, len(token)):
            pair = (token[:cut], token[cut:])
            # llama.cpp joins whatever two tokens make a third, whether there is a merge of them or not.
            if pair[0] in normal and pair[1] in normal and pair not in pairs:
                raise refusal(f"{token!r} can be made of {pair[0]!r} and {pair[1]!r}, and no merge does")
    return [float(-place[token]) if token in place else _LOWEST for token in tokens]
