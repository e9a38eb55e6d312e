"""A language model as the judge, asked about each pair in both orders."""

from collections.abc import Iterator, Sequence

from dpo_tui.errors import UsageError
from dpo_tui.judging.judge_question import judge_question, read_verdict
from dpo_tui.judging.judges.chat_model import ChatModel
from dpo_tui.judging.judges.judge import AnswerToScore, Comparison
from dpo_tui.judging.judges.position_bias import PositionBias, verdict_of
from dpo_tui.judging.preference_pairs import AnswerPair


class AskingJudge:
    """Judge by questions; see :class:`dpo_tui.judging.judges.judge.Judge`.

    Args:
        model: that is asked.
        rubric: the criteria as text; empty for the default ones.
        max_answer_chars: characters of each answer that the model sees; 0 for all of them.

    Attributes:
        bias: position bias over all pairs so far.
    """

    gives_scores = False

    def __init__(self, model: ChatModel, rubric: str = "", max_answer_chars: int = 0) -> None:
        self.name = model.name
        self.bias = PositionBias()
        self._model = model
        self._rubric = rubric
        self._most = max_answer_chars or None

    def score(self, answers: Sequence[AnswerToScore]) -> Iterator[tuple[AnswerToScore, float]]:
        """Refuse: a model that is asked in words compares.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.name} compares answers and gives no scores")

    def compare(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[AnswerPair, Comparison]]:
        """Yield each pair with the verdict on which both orders agree, or a tie; equal answers are not asked about.

        Raises:
            DpoTuiError: the model gave no reply to a question.
        """
        sides = [(pair.left[: self._most], pair.right[: self._most]) for pair in pairs]
        asked = [number for number, (left, right) in enumerate(sides) if left != right]
        questions = [
            judge_question(self._rubric, pairs[number].prompt, *answers)
            for number in asked
            for answers in (sides[number], sides[number][::-1])
        ]
        # A pair whose other order failed stays without a verdict, and is passed over.
        replies: dict[int, str | None] = {}
        passed = 0
        for reply in self._model.ask([question.text for question in questions]):
            replies[reply.number] = None if reply.cut else read_verdict(reply.text, questions[reply.number].nonce)
            place = reply.number // 2
            if not {2 * place, 2 * place + 1} <= replies.keys():
                continue
            yield from self._identical(pairs[passed : asked[place]])
            passed = asked[place] + 1
            yield pairs[asked[place]], self._comparison(replies[2 * place], replies[2 * place + 1])
        yield from self._identical(pairs[passed:])

    def _comparison(self, left_first: str | None, right_first: str | None) -> Comparison:
        verdict = verdict_of(left_first, right_first)
        self.bias.add([left_first, right_first], verdict)
        return Comparison(verdict, {"orders": [left_first, right_first]})

    def _identical(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[AnswerPair, Comparison]]:
        for pair in pairs:
            if pair.left[: self._most] == pair.right[: self._most]:
                yield pair, Comparison("tie", {"identical": True})
