"""Making preference pairs: sample answers to prompts, rank them, write the best beside the worst.

What is sampled and ranked is kept in a folder beside the output, ``OUT.work/``, so that it can be gone on with.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.pairs.prompt_split import prompt_id
from dpo_tui.errors import UsageError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.append_log import keep_line
from dpo_tui.processes.torch_tool import TorchTool
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.metrics import MetricsTail

_SKIPPED = "skipped"


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to a prompt, to be ranked by hand.

    Attributes:
        id: of the prompt.
        prompt: the conversation.
        left: the best answer so far.
        right: one that has not been compared yet.
        number: of the prompt, from 1.
        total: prompts in all.
    """

    id: str
    prompt: list[Message]
    left: str
    right: str
    number: int
    total: int


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled; kept, so that it stays the same when it is gone on with.

    Attributes:
        model: hub id or folder, or ``run:ID``.
        n: answers to each prompt.
        temperature: of the sampling.
        top_p: of the sampling.
        max_new_tokens: longest answer.
        seed: of the sampling.
    """

    model: str
    n: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 42


class Collection:
    """Answers and rankings on their way to pairs.

    Args:
        folder: where they are kept.
        prompts: to answer.
        sampling: how.

    Raises:
        UsageError: the folder cannot be written, or holds another collection: other prompts, or another sampling.
    """

    def __init__(self, folder: Path, prompts: Sequence[list[Message]], sampling: Sampling) -> None:
        self.folder = folder
        self.sampling = sampling
        self.prompts = {prompt_id(prompt): prompt for prompt in prompts}
        plan = {"version": 1, "sampling": vars(sampling), "prompts": list(self.prompts)}
        earlier = read_json(folder / "plan.json")
        # Without an answer, as where the model's name was wrong, nothing would be lost.
        if earlier is not None and earlier != plan and (folder / "answers.jsonl").exists():
            raise UsageError(
                f"{folder}: holds answers to other prompts, or sampled in another way",
                hint="give the same prompts and options to go on, or another -o to begin anew",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(folder / "plan.json", plan)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written: {error.strerror}", hint="give another -o") from error
        self._answers: dict[str, dict[int, str]] = {key: {} for key in self.prompts}
        self._better: dict[str, list[tuple[str, str]]] = {key: [] for key in self.prompts}
        self._compared: dict[str, set[frozenset[str]]] = {key: set() for key in self.prompts}
        self._scores: dict[str, dict[str, float]] = {key: {} for key in self.prompts}
        self._by: dict[str, str] = {}
        for line in MetricsTail(folder / "answers.jsonl").poll():
            if line.get("id") in self._answers:
                self._answers[line["id"]][int(line["number"])] = str(line["answer"])
        for line in MetricsTail(folder / "rankings.jsonl").poll():
            if line.get("id") in self._better:
                self._take(line)

    def different(self, key: str) -> list[str]:
        """The answers to a prompt without repetitions, empty ones left out."""
        return list(dict.fromkeys(text for text in self._answers[key].values() if text.strip()))

    def generate(self) -> Iterator[tuple[int, int]]:
        """Sample what is not sampled yet; each answer is kept as it comes.

        Yields:
            Answers there are, and answers there will be.

        Raises:
            ChildError: the model cannot be loaded.
        """
        missing = [key for key in self.prompts if len(self._answers[key]) < self.sampling.n]
        if not missing:
            return
        with TorchTool("generate", environment=tool_environment()) as tool:
            load_generator(tool, self.sampling.model)
            request: dict[str, Any] = {name: value for name, value in vars(self.sampling).items() if name != "model"}
            request["do"] = "answers"
            request["prompts"] = [{"id": key, "messages": self.prompts[key]} for key in missing]
            for message in tool.ask(request):
                if message["kind"] == "answer":
                    record = {"id": message["id"], "number": message["number"], "answer": message["text"]}
                    keep_line(self.folder / "answers.jsonl", {"t": time.time(), **record})
                    self._answers[record["id"]][record["number"]] = record["answer"]
                    yield sum(map(len, self._answers.values())), len(self.prompts) * self.sampling.n

    def next(self) -> AnswerPair | None:
        """The next two answers to compare by hand: the best so far against one that has not been; None when all are."""
        for number, (key, prompt) in enumerate(self.prompts.items(), start=1):
            answers = self.different(key)
            seen = {text for pair in self._compared[key] for text in pair}
            waiting = [text for text in answers if text not in seen]
            if len(answers) < 2 or not waiting or self._by.get(key) == _SKIPPED:  # noqa: PLR2004 - a pair
                continue
            best = self._better[key][-1][0] if self._better[key] else waiting.pop(0)
            return AnswerPair(key, prompt, best, waiting[0], number, len(self.prompts))
        return None

    def prefer(self, duel: AnswerPair, side: str, *, by: str = "person") -> None:
        """Keep a comparison: ``left``, ``right``, or ``skip`` when neither is of use."""
        if side == "skip":
            self._record({"id": duel.id, "skip": True, "by": by})
            return
        winner, loser = (duel.left, duel.right) if side == "left" else (duel.right, duel.left)
        self._record({"id": duel.id, "better": winner, "worse": loser, "by": by})

    def unscored(self) -> list[tuple[str, str]]:
        """(id, answer) of the answers that have no score yet."""
        return [(key, text) for key in self.prompts for text in self.different(key) if text not in self._scores[key]]

    def score(self, key: str, answer: str, value: float, by: str) -> None:
        """Keep a score: more is better."""
        self._record({"id": key, "answer": answer, "score": value, "by": by})

    def undecided(self) -> Iterator[AnswerPair]:
        """Every pair of answers that a judge model has to compare, of prompts that it has not ranked yet."""
        for number, (key, prompt) in enumerate(self.prompts.items(), start=1):
            for left, right in combinations(self.different(key), 2):
                if frozenset((left, right)) not in self._compared[key]:
                    yield AnswerPair(key, prompt, left, right, number, len(self.prompts))

    def note_tie(self, duel: AnswerPair, by: str) -> None:
        """Keep that two answers are as good as each other, so that nobody asks again."""
        self._record({"id": duel.id, "tie": [duel.left, duel.right], "by": by})

    def pairs(self, margin: float = 0.0) -> list[dict[str, Any]]:
        """The best answer to each prompt beside the worst, with where they come from; none where nothing is better.

        Args:
            margin: how much better the best score must be, where there are scores.
        """
        found = []
        for key, prompt in self.prompts.items():
            ranked = self._ranked(key)
            skipped = self._by.get(key) == _SKIPPED
            if len(ranked) < 2 or skipped or ranked[0][1] - ranked[-1][1] <= margin:  # noqa: PLR2004 - a pair
                continue
            found.append(
                {
                    "prompt": prompt,
                    "chosen": [{"role": "assistant", "content": ranked[0][0]}],
                    "rejected": [{"role": "assistant", "content": ranked[-1][0]}],
                    "source": vars(self.sampling) | {"ranked_by": self._by.get(key, "")},
                }
            )
        return found

    def _ranked(self, key: str) -> list[tuple[str, float]]:
        """Answers with their score, or with their wins less their losses; best first."""
        scores = self._scores[key]
        if not scores:
            scores = dict.fromkeys(self.different(key), 0.0) if self._better[key] else {}
            for winner, loser in self._better[key]:
                if winner in scores and loser in scores:
                    scores[winner] += 1
                    scores[loser] -= 1
        return sorted(scores.items(), key=lambda one: -one[1])

    def _record(self, record: dict[str, Any]) -> None:
        keep_line(self.folder / "rankings.jsonl", {"t": time.time(), **record})
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        key = record["id"]
        self._by[key] = _SKIPPED if record.get("skip") else str(record.get("by", ""))
        if "better" in record:
            self._better[key].append((record["better"], record["worse"]))
            self._compared[key].add(frozenset((record["better"], record["worse"])))
        elif "tie" in record:
            self._compared[key].add(frozenset(record["tie"]))
        elif "score" in record:
            self._scores[key][record["answer"]] = float(record["score"])


def load_generator(tool: TorchTool, model: str) -> None:
    """Load a model, or ``run:FOLDER`` for what a run made, into a ``speak`` child."""
    run = model.removeprefix("run:")
    request = {"do": "load-model", "model": model} if run == model else {"do": "load-run", "run": run}
    for _ in tool.ask(request):
        pass


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]]) -> None:
    """Write pairs as JSON Lines; whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    partial.replace(path)
