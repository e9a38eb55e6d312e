"""Blind judging of one run: base and tuned model answer the same prompts, and somebody says which answer is better.

    session = Session.open(folder, count=20)
    for _ in session.generate(): ...          # a child process generates the missing answers
    while (pair := session.next()) is not None:
        session.vote(pair, "left")            # left, right, tie or both-bad
    session.tally().summary()

A judging can be interrupted and continued at any time: everything is in the files of
:mod:`dpo_tui.judging.judging_files`. An :class:`AnswerPair` does not tell whose answer is on which side; that follows
from a seed in the plan.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

from dpo_tui.data.pairs.pair import Message
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.judging_files import AnswerLog, JudgingPlan, VerdictLog, make_plan, read_plan
from dpo_tui.judging.preference_pairs import AnswerPair, preference_row
from dpo_tui.judging.win_rate import WinRate, tally
from dpo_tui.processes.json_child import ChildError
from dpo_tui.processes.torch_tool import TorchTool
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder

Verdict = Literal["left", "right", "tie", "both-bad"]
SIDES = ("base", "tuned")


class Session:
    """The judging of one run; made by :meth:`open` or :meth:`existing`.

    Attributes:
        folder: of the run.
        held_out: whether the prompts were kept out of the training.
        caution: what to know before believing the result, as a sentence; empty without anything.
        stopped: whether :meth:`stop` was called.
    """

    def __init__(self, folder: RunFolder, plan: JudgingPlan) -> None:
        self.folder = folder
        self.held_out = plan.held_out
        self.caution = plan.caution
        self.stopped = False
        self._plan = plan
        self._answers = AnswerLog(folder)
        self._verdicts = VerdictLog(folder)
        self._tool: TorchTool | None = None

    @classmethod
    def open(
        cls, folder: RunFolder, *, count: int = 20, max_new_tokens: int = 256, seed: str | None = None
    ) -> "Session":
        """Begin the judging of a run, or continue it.

        Args:
            folder: of the run.
            count: number of prompts to judge; more than before adds some.
            max_new_tokens: longest answer; a judging that has begun keeps its own.
            seed: decides which answer is on which side; drawn at random when None.

        Raises:
            RunError: the run has no result to judge.
            UsageError: the judging began with another seed.
            DataError: the run's data cannot be read any more.
        """
        store.require_result(folder)
        return cls(folder, make_plan(folder, count, max_new_tokens, seed))

    @classmethod
    def existing(cls, folder: RunFolder) -> "Session | None":
        """Return the judging of a run as far as it has come; None where nobody has begun it."""
        plan = read_plan(folder)
        return None if plan is None else cls(folder, plan)

    @property
    def total(self) -> int:
        """Number of pairs to judge."""
        return len(self._plan.prompts)

    def prompt(self, key: str) -> list[Message]:
        """Return the conversation of a prompt id; empty for an id that is not of this session."""
        return self._plan.prompts.get(key, [])

    def unanswered(self) -> list[str]:
        """Ids of the prompts that lack an answer."""
        return [key for key in self._plan.prompts if not self._is_answered(key)]

    def _is_answered(self, key: str) -> bool:
        return self._answers.of(key).keys() >= set(SIDES)

    def generate(self) -> Iterator[tuple[int, int]]:
        """Generate the missing answers of both models in a child process; each is written as soon as it arrives.

        Yields:
            The number of answers so far, and of all answers.

        Raises:
            ChildError: the models cannot be loaded.
        """
        missing = self.unanswered()
        if not missing:
            return
        try:
            with TorchTool("generate", environment=tool_environment()) as tool:
                self._tool = tool
                yield from self._request_answers(tool, missing)
        except ChildError:
            # A child that stop() has ended fails its request, as it should.
            if not self.stopped:
                raise

    def _request_answers(self, tool: TorchTool, missing: list[str]) -> Iterator[tuple[int, int]]:
        # stop() may have come before there was a child to end.
        if self.stopped:
            return
        for _ in tool.ask({"do": "load-run", "run": str(self.folder.path)}):
            pass
        request = {
            "do": "answers",
            "prompts": [
                {"id": key, "messages": self._plan.prompts[key], "tools": self._plan.tools.get(key)} for key in missing
            ],
            "who": list(SIDES),
            "max_new_tokens": self._plan.max_new_tokens,
        }
        for message in tool.ask(request):
            if message["kind"] == "answer":
                self._answers.add(message["id"], message["who"], message["text"])
                count = sum(len(self._answers.of(key)) for key in self._plan.prompts)
                yield count, len(SIDES) * self.total

    def stop(self) -> None:
        """End the child process from another thread: :meth:`generate` then returns, and the answers so far stay."""
        self.stopped = True
        if self._tool is not None:
            self._tool.end()

    def next(self) -> AnswerPair | None:
        """Return the first pair that is answered and not judged, None without any; equal answers get a verdict here."""
        return next(self._unjudged(), None)

    def waiting(self) -> list[AnswerPair]:
        """Return all pairs that are answered and not judged; equal answers get a verdict here."""
        return list(self._unjudged())

    def pair(self, key: str) -> AnswerPair:
        """Return the pair of a prompt that is answered.

        Raises:
            KeyError: it is not of this session, or lacks an answer.
        """
        left, right = (self._answers.of(key)[who] for who in self.sides(key))
        number = list(self._plan.prompts).index(key) + 1
        return AnswerPair(key, self._plan.prompts[key], left, right, number, self.total)

    def _unjudged(self) -> Iterator[AnswerPair]:
        for number, (key, prompt) in enumerate(self._plan.prompts.items(), start=1):
            answers = self._answers.of(key)
            if key in self._verdicts.verdicts or not self._is_answered(key):
                continue
            if answers["base"] == answers["tuned"]:
                self._verdicts.add(key, "same", by="nobody")
                continue
            left, right = (answers[who] for who in self.sides(key))
            yield AnswerPair(key, prompt, left, right, number, self.total)

    def sides(self, key: str) -> tuple[str, str]:
        """Return whose answer is on the left and whose on the right: a hash of seed and prompt id decides."""
        digest = hashlib.blake2b(f"{self._plan.seed} {key}".encode("utf-8", "surrogatepass"), digest_size=1).digest()
        return ("base", "tuned") if digest[0] % 2 else ("tuned", "base")

    def vote(self, pair: AnswerPair, verdict: Verdict, *, by: str = "person", **details: Any) -> None:
        """Record a verdict; it replaces an earlier one on the same prompt.

        Args:
            pair: from :meth:`next`.
            verdict: which side is better, or neither.
            by: who judged.
            **details: further keys of the record.
        """
        left, right = self.sides(pair.id)
        winner = {"left": left, "right": right}.get(verdict, verdict)
        self._verdicts.add(pair.id, winner, by=by, left=left, verdict=verdict, **details)

    def undo(self) -> bool:
        """Take back the latest verdict that a person gave, and return whether there was one."""
        given = [str(verdict["id"]) for verdict in self.verdicts() if verdict.get("by") == "person"]
        if not given:
            return False
        self._verdicts.add(given[-1], "", by="person")
        return True

    def tally(self) -> WinRate:
        """Count the verdicts on the session's prompts; those on other prompts are counted apart."""
        verdicts = self.verdicts()
        return tally((verdict["winner"] for verdict in verdicts), len(self._verdicts.verdicts) - len(verdicts))

    def verdicts(self) -> list[dict[str, Any]]:
        """Return the records of the verdicts on the session's prompts, in the order in which they were given."""
        return [verdict for key, verdict in self._verdicts.verdicts.items() if key in self._plan.prompts]

    def pairs(self) -> list[dict[str, Any]]:
        """Return the verdicts for one side as rows of preference data."""
        rows = []
        for verdict in self.verdicts():
            key, winner = str(verdict["id"]), verdict["winner"]
            if winner not in SIDES or not self._is_answered(key):
                continue
            loser = next(who for who in SIDES if who != winner)
            answers = self._answers.of(key)
            source = {"run": self.folder.id, "winner": winner, "judged_by": str(verdict.get("by", ""))}
            rows.append(preference_row(self._plan.prompts[key], answers[winner], answers[loser], source))
        return rows
