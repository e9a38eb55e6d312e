"""Token ids of texts by their pieces between special tokens."""

import pytest
from tokenizers import Tokenizer

from dpo_tui.data.tokens import piece_tokenizer
from dpo_tui.data.tokens.piece_tokenizer import PieceTokenizer
from dpo_tui.demo.assets import model_dir


def test_the_cache_of_pieces_is_bounded_by_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound of their number alone let long texts take gigabytes: 20,000 pieces of 8,000 tokens."""
    monkeypatch.setattr(piece_tokenizer, "_MOST_TOKENS", 2_000)
    tokenizer = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    pieces = PieceTokenizer(tokenizer)
    for first in range(20):
        batch = [f"<|im_start|>user\n{number} {'word ' * 200}<|im_end|>" for number in range(first, first + 5)]
        assert pieces.ids(batch) == [tokenizer.encode(text, add_special_tokens=False).ids for text in batch]
        largest = max(sum(map(len, pieces.ids([text]))) for text in batch)
        assert sum(map(len, pieces._pieces.values())) <= 2_000 + (len(batch) + 1) * largest
