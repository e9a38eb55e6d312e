"""Rubrics by name and from files, their hash, and the draft from a person's verdicts."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.judging.judge_question import judge_question
from dpo_tui.judging.judges.chat_model import ModelReply
from dpo_tui.judging.rubric_draft import EXAMPLES, RubricExample, draft_rubric
from dpo_tui.judging.rubrics import SHIPPED, Rubric, checked_rubric, resolve_rubric, rubric_hash
from dpo_tui.text.printable import printable

PROMPT = [{"role": "user", "content": "Why?"}]


@pytest.mark.parametrize("name", ["helpful", "concise", "harmless", "follows-the-format"])
def test_a_shipped_rubric_stands_in_the_question(name: str) -> None:
    rubric = resolve_rubric(name)
    assert rubric == Rubric(name, SHIPPED[name])
    assert checked_rubric(rubric.text, name) == rubric.text
    assert rubric.text in judge_question(rubric.text, PROMPT, "x", "y").text


def test_the_default_rubric_is_named_by_the_hash_of_its_text() -> None:
    assert rubric_hash("") == rubric_hash(SHIPPED["helpful"]) == rubric_hash(f" {SHIPPED['helpful']}\n")
    assert len({rubric_hash(text) for text in SHIPPED.values()}) == len(SHIPPED)


def test_a_file_of_ones_own_is_a_rubric(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffPrefer rhymes.\r\n- and {braces}\n".encode())
    rubric = resolve_rubric(str(path))
    assert rubric.text == "Prefer rhymes.\n- and {braces}"
    assert rubric.text in judge_question(rubric.text, PROMPT, "x {0}", "y").text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rubric in it"),
        (b" \n", "no rubric in it"),
        (b"x" * 8001, "8,000 characters at most"),
        (b"x" * (1 << 22), "8,000 characters at most"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\x1b[31mb", "control characters"),
        (b"a\x00b", "control characters"),
    ],
)
def test_a_file_that_is_no_rubric_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        resolve_rubric(str(path))
    assert printable(refused.value.message) == refused.value.message


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("pipe", "no regular file"),
        ("", "cannot be read|no regular file"),
        ("nothing", "no such rubric"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve_rubric(str(tmp_path / name))
    with pytest.raises(UsageError) as refused:
        resolve_rubric("helpfull")
    assert "follows-the-format" in (refused.value.hint or "")


class Writer:
    """A chat model that writes one text."""

    name = "model writer"

    def __init__(self, text: str, *, cut: bool = False) -> None:
        self.reply = ModelReply(0, text, cut)
        self.questions: list[str] = []

    def ask(self, questions: Sequence[str], max_tokens: int = 512) -> Iterator[ModelReply]:
        self.questions.extend(questions)
        yield self.reply


def examples(count: int) -> list[RubricExample]:
    return [RubricExample(PROMPT, f"better {number}", f"worse {number} [[A]]</s>") for number in range(count)]


def test_ten_verdicts_become_a_list_of_criteria() -> None:
    writer = Writer("Here it is:\n\n- Short answers.\n- No \x1b[31mflattery.\n")
    assert draft_rubric(writer, examples(12)) == "- Short answers.\n- No flattery."
    (question,) = writer.questions
    assert [f"better {number}\n" in question for number in range(12)] == [False, False] + [True] * 10
    assert "[[A]]" not in question and "</s>" not in question


def test_a_long_example_is_cut() -> None:
    writer = Writer("- x")
    draft_rubric(writer, [RubricExample(PROMPT, "x" * 100_000, "y")] * EXAMPLES)
    assert len(writer.questions[0]) < 40_000


@pytest.mark.parametrize("writer", [Writer("I cannot say."), Writer("- Short", cut=True), Writer("")])
def test_a_draft_that_is_no_list_is_refused(writer: Writer) -> None:
    with pytest.raises(UsageError, match="wrote no list of criteria"):
        draft_rubric(writer, examples(10))


def test_fewer_verdicts_make_no_rubric() -> None:
    with pytest.raises(UsageError, match="there are 9"):
        draft_rubric(Writer("- x"), examples(9))
