"""The child that answers prompts: sizes of answers, their numbers, and what a seed gives after an interruption."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.train.tools.generate import Generator


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Generator:
    found = Generator()
    found.work({"do": "load-model", "model": str(tiny_model)}, lambda kind, message: None)
    return found


def answers(generator: Generator, prompts: list[dict[str, Any]], **request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asked = {"do": "answers", "prompts": prompts, "max_new_tokens": 6, **request}
    generator.work(asked, lambda kind, message: found.append(message))
    return found


def prompts(*wanted: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"id": key, "number": n, "messages": [{"role": "user", "content": "help me"}]} for key, n in wanted]


WANTED = [(key, number) for key in "ab" for number in range(4)]


def test_each_answer_has_its_number_and_its_size(generator: Generator) -> None:
    found = answers(generator, prompts(*WANTED), temperature=1.0, seed=1)
    assert [(one["id"], one["number"]) for one in found] == WANTED
    assert all(0 < one["tokens"] <= 6 for one in found)
    assert all(one["tokens"] == 6 for one in found if one["cut"])
    assert any(one["cut"] for one in found), "random weights seldom end an answer"


def test_an_answer_that_ended_by_itself_is_not_cut(generator: Generator) -> None:
    """Also where its last token is the last one that was allowed: every token ends an answer here."""
    loaded = generator.loaded
    assert loaded is not None
    with loaded.active_model("tuned") as model:
        before = model.generation_config.eos_token_id
        model.generation_config.eos_token_id = list(range(model.config.vocab_size))
    try:
        (found,) = answers(generator, prompts(("a", 0)), max_new_tokens=1)
    finally:
        model.generation_config.eos_token_id = before
    assert (found["tokens"], found["cut"]) == (1, False)


def test_what_is_missing_after_an_interruption_is_not_sampled_as_what_is_there(generator: Generator) -> None:
    """By their place in the request, answers 2 to 9 would have the random states that answers 0 to 7 had."""
    wanted = [("a", number) for number in range(10)]
    whole = answers(generator, prompts(*wanted), temperature=1.0, seed=1)
    assert answers(generator, prompts(*wanted), temperature=1.0, seed=1) == whole
    rest = answers(generator, prompts(*wanted[2:]), temperature=1.0, seed=1)
    assert [one["number"] for one in rest] == list(range(2, 10))
    assert [one["text"] for one in rest] != [one["text"] for one in whole[:8]]


def test_without_numbers_each_prompt_gets_as_many_answers_as_asked_for(generator: Generator) -> None:
    plain = [{"id": "a", "messages": [{"role": "user", "content": "help me"}]}]
    found = answers(generator, plain, n=3, temperature=1.0, seed=1)
    assert [(one["id"], one["number"]) for one in found] == [("a", 0), ("a", 1), ("a", 2)]
    greedy = answers(generator, plain, n=2)
    assert greedy[0]["text"] == greedy[1]["text"]


def test_a_model_is_loaded_with_the_template_of_its_training(tiny_model: Path, tmp_path: Path) -> None:
    """With another one a start model would answer another prompt than its trained successor does."""
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}{{ style }}: {{ m['content'] }}{% endfor %}")
    found = Generator()
    settings = {"chat_template": str(template), "chat_template_kwargs": {"style": "terse"}}
    found.work({"do": "load-model", "model": str(tiny_model), "settings": settings}, lambda kind, message: None)
    assert found.loaded is not None
    text = found.loaded.tokenizer.apply_chat_template([{"role": "user", "content": "help me"}], tokenize=False)
    assert text == "terse: help me"
