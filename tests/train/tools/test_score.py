"""The child that scores answers: a reward model's own tokens, all of them, and its own head."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import TrainingError
from dpo_tui.train.tools.score import Scorer

WITH_START = "{{ bos_token }}"
"""What the templates of most models begin with, where their tokenizers add the same token to plain text."""


@pytest.fixture(scope="module")
def reward_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier with one output whose tokenizer puts a start token before every text, as Llama's does."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("reward")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = WITH_START + tokenizer.chat_template
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=1, pad_token_id=0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scores(model: Path, *answers: str, prompt: str = "help") -> list[float]:
    scorer, sent = Scorer(), []
    scorer.work({"do": "load-reward", "model": str(model)}, lambda *_: None)
    items: list[dict[str, Any]] = [
        {"id": f"p{number}", "messages": [{"role": "user", "content": prompt}], "answer": answer}
        for number, answer in enumerate(answers)
    ]
    scorer.work({"do": "score", "items": items}, lambda kind, message: sent.append(message["value"]))
    return sent


def test_a_reward_model_reads_the_start_token_once(reward_model):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    talk = [{"role": "user", "content": "help"}, {"role": "assistant", "content": "open settings"}]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert (ids == tokenizer.bos_token_id).sum() == 1
    assert (tokenizer(text, return_tensors="pt")["input_ids"] == tokenizer.bos_token_id).sum() == 2, "the trap is there"
    with torch.no_grad():
        expected = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()(ids).logits[0, 0]
    assert scores(reward_model, "open settings") == pytest.approx([float(expected)], abs=1e-5)


def test_a_conversation_that_the_model_cannot_read_whole_is_refused(reward_model):
    """Cut at its end, it would lose the answer, and every answer would have the same score."""
    with pytest.raises(TrainingError, match=r"prompt p0 with an answer of 4 characters has .* at most 512"):
        scores(reward_model, "help", "thank you", prompt="please " * 600)


def test_a_model_whose_head_would_be_random_is_no_reward_model(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.num_labels = 1
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"score.weight\b.* would be random numbers") as refused:
        scores(tmp_path, "help")
    assert refused.value.hint == "name a reward model that was saved whole"
