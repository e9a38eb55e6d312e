"""A reward model as the judge, in its child: scores and comparisons agree, and are those of plain transformers."""

from pathlib import Path

import pytest

from dpo_tui.judging.judges.judge import AnswerToScore, JudgeChoice
from dpo_tui.judging.judges.open_judge import open_judge
from dpo_tui.judging.preference_pairs import AnswerPair

PROMPT = [{"role": "user", "content": "help"}]


@pytest.mark.slow
def test_a_reward_model_scores_and_compares(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=1, pad_token_id=0)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = [f"answer {number}" for number in range(20)]
    expected = []
    for text in texts:
        talk = tokenizer.apply_chat_template([*PROMPT, {"role": "assistant", "content": text}], tokenize=False)
        with torch.no_grad():
            expected.append(float(model(**tokenizer(talk, return_tensors="pt")).logits[0, 0]))
    with open_judge(JudgeChoice("reward-model", str(tmp_path))) as judge:
        assert (judge.gives_scores, judge.name) == (True, f"reward model {tmp_path}")
        pairs = [AnswerPair("p", PROMPT, texts[n], texts[n + 1], n, 19) for n in range(19)]
        # Taken in part: the scores that nobody took must not be those of what is asked next.
        first, _ = next(iter(judge.compare(pairs)))
        assert first is pairs[0]
        scores = [value for _, value in judge.score([AnswerToScore("p", PROMPT, text) for text in texts])]
        assert scores == pytest.approx(expected, abs=1e-4)
        for pair, said in judge.compare(pairs):
            left, right = said.details["scores"]
            assert [left, right] == [scores[texts.index(pair.left)], scores[texts.index(pair.right)]]
            assert said.verdict == ("left" if left > right else "right" if right > left else "tie")
