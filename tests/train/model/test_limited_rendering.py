"""The worker and the tools of the torch stack render within limits."""

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.data.tokens.chat_template import TemplateLimitError
from dpo_tui.train.model import limited_rendering
from dpo_tui.train.model.load import load_tokenizer

CUBIC = "{% for a in messages[0].content %}" * 3 + "{% endfor %}" * 3 + "done"


def test_a_template_that_is_hostile_to_a_long_row_fails_in_words(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_rendering, "SECONDS", 0.2)
    tokenizer, _ = load_tokenizer(from_values({"model_name": str(tiny_model), "dataset": "pairs.jsonl"}))
    tokenizer.chat_template = CUBIC
    chats = [[{"role": "user", "content": "x" * length}] for length in (3, 5000)]
    assert tokenizer.apply_chat_template(chats[0], tokenize=False) == "done"
    with pytest.raises(TemplateLimitError, match="takes more than"):
        tokenizer.apply_chat_template(chats, tokenize=False)
