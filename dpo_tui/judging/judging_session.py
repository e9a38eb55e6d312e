"""Judging one run: prompts, answers and verdicts, kept in the run's folder so that it can be gone on with at any time.

    session = Session.open(folder, count=20)
    for _ in session.generate(): ...          # a child process answers what is not answered yet
    while (ballot := session.next()) is not None:
        session.vote(ballot, "left")          # left, right, tie or both-bad
    session.tally().words()

Nobody can tell from a :class:`Ballot` whose answer is on which side: that hangs on a seed, which is kept.
"""

import hashlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpo_tui.data.pairs.prompt_split import prompt_id
from dpo_tui.errors import DataError, UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.append_log import keep_line
from dpo_tui.judging.run_prompts import TRAINED_ON, run_prompts
from dpo_tui.judging.win_rate import Winner, WinRate, tally
from dpo_tui.processes.json_child import ChildError, Message
from dpo_tui.processes.torch_tool import TorchTool
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics import MetricsTail

Verdict = Literal["left", "right", "tie", "both-bad"]
VERDICTS: tuple[Verdict, ...] = ("left", "right", "tie", "both-bad")
SIDES = ("base", "tuned")
_PLAN_VERSION = 2
"""Of judge/plan.json. Those of version 1 may hold prompts that were trained on, and are made again."""


@dataclass(frozen=True)
class Ballot:
    """One pair of answers to judge, blind.

    Attributes:
        id: of the prompt.
        prompt: the conversation.
        left: one answer.
        right: the other.
        number: of the pair, from 1.
        total: pairs in all.
    """

    id: str
    prompt: list[dict[str, Any]]
    left: str
    right: str
    number: int
    total: int


class Session:
    """The judging of one run; :meth:`open` makes one.

    Attributes:
        folder: of the run.
        held_out: whether the prompts were kept out of the training.
        caution: what to know before believing the result, as a sentence; empty without anything.
        stopped: whether :meth:`stop` was called.
    """

    def __init__(self, folder: RunFolder, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.held_out = bool(plan["held_out"])
        self.caution = str(plan.get("caution", "" if self.held_out else TRAINED_ON))
        self._seed = str(plan["seed"])
        self._max_new_tokens = int(plan["max_new_tokens"])
        self._prompts: dict[str, list[dict[str, Any]]] = {prompt_id(prompt): prompt for prompt in plan["prompts"]}
        self._answers: dict[str, dict[str, str]] = {}
        self._verdicts: dict[str, dict[str, Any]] = {}
        self._tool: TorchTool | None = None
        self.stopped = False
        for line in MetricsTail(_place(folder, "answers.jsonl")).poll():
            self._answers.setdefault(str(line.get("id")), {})[str(line.get("who"))] = str(line.get("answer", ""))
        for line in MetricsTail(_place(folder, "verdicts.jsonl")).poll():
            self._take(line)

    @classmethod
    def open(
        cls, folder: RunFolder, *, count: int = 20, max_new_tokens: int = 256, seed: str | None = None
    ) -> "Session":
        """Go on with a run's judging, or begin it.

        Args:
            folder: of the run.
            count: prompts to judge; more than before adds some.
            max_new_tokens: longest answer; of a judging that has begun it stays.
            seed: decides the sides; drawn when None, and kept.

        Raises:
            RunError: the run has no result to judge.
            UsageError: another seed than the one that the judging began with.
            DataError: the run's data is not there any more.
        """
        store.require_result(folder)
        plan = read_json(_place(folder, "plan.json"))
        if plan is not None and seed is not None and str(plan["seed"]) != seed:
            raise UsageError(
                f"the judging of run {folder.id} began with the seed {plan['seed']}",
                hint=f"leave --seed out, or remove {_place(folder, '')} to begin anew",
            )
        planned = len(plan["prompts"]) if plan else 0
        if plan is not None and planned >= count and plan.get("version", 1) >= _PLAN_VERSION:
            return cls(folder, plan)
        try:
            found = run_prompts(folder, max(count, planned))
        except DataError:
            if plan is None or planned < count:
                raise
            return cls(folder, plan)  # an old plan is judged as it is when its data is gone
        plan = {
            "version": _PLAN_VERSION,
            "seed": plan["seed"] if plan else seed or secrets.token_hex(8),
            "max_new_tokens": plan["max_new_tokens"] if plan else max_new_tokens,
            "held_out": found.held_out,
            "caution": found.caution,
            "prompts": found.prompts,
        }
        _place(folder, "").mkdir(exist_ok=True)
        write_json_atomic(_place(folder, "plan.json"), plan)
        return cls(folder, plan)

    @classmethod
    def begun(cls, folder: RunFolder) -> "Session | None":
        """A run's judging as far as it has come; None when nobody has begun it."""
        plan = read_json(_place(folder, "plan.json"))
        return None if plan is None else cls(folder, plan)

    @property
    def total(self) -> int:
        """Pairs in all."""
        return len(self._prompts)

    def prompt(self, key: str) -> list[dict[str, Any]]:
        """The conversation that goes by an id; empty for an id that is none of the session's."""
        return self._prompts.get(key, [])

    def unanswered(self) -> list[str]:
        """Ids of the prompts that lack an answer."""
        return [key for key in self._prompts if len(self._answers.get(key, {})) < len(SIDES)]

    def generate(self) -> Iterator[tuple[int, int]]:
        """Have base and tuned model answer what is not answered yet; each answer is kept as it comes.

        Yields:
            Answers there are, and answers there will be.

        Raises:
            ChildError: the models cannot be loaded.
        """
        missing = self.unanswered()
        if not missing:
            return
        try:
            with TorchTool("generate", environment=tool_environment()) as tool:
                self._tool = tool
                yield from self._ask(tool, missing)
        except ChildError:
            if not self.stopped:
                raise

    def _ask(self, tool: TorchTool, missing: list[str]) -> Iterator[tuple[int, int]]:
        if self.stopped:
            return
        for _ in tool.ask({"do": "load-run", "run": str(self.folder.path)}):
            pass
        request = {
            "do": "answers",
            "prompts": [{"id": key, "messages": self._prompts[key]} for key in missing],
            "who": list(SIDES),
            "max_new_tokens": self._max_new_tokens,
        }
        for message in tool.ask(request):
            if message["kind"] == "answer":
                self._keep_answer(message)
                there = sum(len(self._answers.get(key, {})) for key in self._prompts)
                yield there, len(SIDES) * self.total

    def stop(self) -> None:
        """End the child that answers, from another thread: :meth:`generate` ends, what is answered is kept."""
        self.stopped = True
        if self._tool is not None:
            self._tool.end()

    def next(self) -> Ballot | None:
        """The first pair that is answered and not judged, None without any; equal answers judge themselves."""
        for number, key in enumerate(self._prompts, start=1):
            answers = self._answers.get(key, {})
            if key in self._verdicts or len(answers) < len(SIDES):
                continue
            if answers["base"] == answers["tuned"]:
                self._record(key, "same", by="nobody")
                continue
            left, right = (answers[who] for who in self.sides(key))
            return Ballot(key, self._prompts[key], left, right, number, len(self._prompts))
        return None

    def sides(self, key: str) -> tuple[str, str]:
        """Who is on the left and who on the right: a coin that the seed has tossed."""
        digest = hashlib.blake2b(f"{self._seed} {key}".encode(), digest_size=1).digest()
        return ("base", "tuned") if digest[0] % 2 else ("tuned", "base")

    def vote(self, ballot: Ballot, verdict: Verdict, *, by: str = "person", **details: Any) -> None:
        """Keep a verdict; one that was given before is replaced.

        Args:
            ballot: as :meth:`next` gave it.
            verdict: which side, or neither.
            by: who judged.
            **details: further keys of its record.
        """
        left, right = self.sides(ballot.id)
        winner = {"left": left, "right": right}.get(verdict, verdict)
        self._record(ballot.id, winner, by=by, left=left, verdict=verdict, **details)

    def undo(self) -> bool:
        """Take the latest verdict of a person back, and say whether there was one."""
        given = [str(verdict["id"]) for verdict in self.verdicts() if verdict.get("by") == "person"]
        if not given:
            return False
        self._record(given[-1], "", by="person")
        return True

    def tally(self) -> WinRate:
        """Count the verdicts of the session's prompts, and how many there are of others."""
        verdicts = self.verdicts()
        return tally((verdict["winner"] for verdict in verdicts), len(self._verdicts) - len(verdicts))

    def verdicts(self) -> list[dict[str, Any]]:
        """The record of every verdict on one of the session's prompts, in the order in which they were given."""
        return [verdict for key, verdict in self._verdicts.items() if key in self._prompts]

    def pairs(self) -> list[dict[str, Any]]:
        """The verdicts for one side as preference pairs, with where they come from."""
        found = []
        for verdict in self.verdicts():
            key = str(verdict["id"])
            if verdict["winner"] not in SIDES:
                continue
            loser = next(who for who in SIDES if who != verdict["winner"])
            answers = self._answers[key]
            found.append(
                {
                    "prompt": self._prompts[key],
                    "chosen": [{"role": "assistant", "content": answers[verdict["winner"]]}],
                    "rejected": [{"role": "assistant", "content": answers[loser]}],
                    "source": {"run": self.folder.id, "winner": verdict["winner"], "judged_by": verdict["by"]},
                }
            )
        return found

    def _keep_answer(self, message: Message) -> None:
        record = {"id": message["id"], "who": message["who"], "answer": message["text"]}
        keep_line(_place(self.folder, "answers.jsonl"), {"t": time.time(), **record})
        self._answers.setdefault(record["id"], {})[record["who"]] = record["answer"]

    def _record(self, key: str, winner: Winner | str, *, by: str, **details: Any) -> None:
        record = {"t": time.time(), "id": key, "winner": winner, "by": by, **details}
        keep_line(_place(self.folder, "verdicts.jsonl"), record)
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        key = str(record.get("id"))
        self._verdicts.pop(key, None)
        if record.get("winner"):
            self._verdicts[key] = record


def _place(folder: RunFolder, name: str) -> Path:
    return folder.path / "judge" / name
