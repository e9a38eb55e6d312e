"""Preference pairs from prompts: sample several answers to each, rank them, pair the best with the worst.

Answers and rankings are written to a folder beside the output, ``OUT.work/``, so that an interrupted command can
continue.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.hold_out_by_prompt import prompt_id
from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import UsageError
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource
from dpo_tui.judging.answer_sources.sample_answers import sample_answers
from dpo_tui.judging.preference_pairs import AnswerPair, preference_row
from dpo_tui.runs.atomic_files import append_json_line, read_json, write_json_atomic
from dpo_tui.runs.metrics_reader import MetricsTail

_SKIPPED = "skipped"


@dataclass(frozen=True)
class SamplingSettings:
    """How answers are sampled; recorded, so that a collection is continued with the same settings.

    Attributes:
        model: hub id or folder, or ``run:FOLDER`` for the result of a run; for an endpoint, what it calls its model.
        n: number of answers to each prompt.
        temperature: divides the logits.
        top_p: nucleus of the distribution that is sampled from.
        max_new_tokens: longest answer.
        seed: of the random state.
        url: of the endpoint that answers; empty for a model on this machine.
    """

    model: str
    n: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 42
    url: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return the settings as plans and rows hold them; without an endpoint, as before there were any."""
        return {name: value for name, value in vars(self).items() if name != "url" or value}


class PairCollection:
    """Sampled answers and their rankings, from which pairs are made.

    Args:
        folder: of its files: plan.json, answers.jsonl, rankings.jsonl.
        prompts: to answer.
        sampling: how to sample.

    Attributes:
        scored_by: names of the judges whose scores it holds.

    Raises:
        UsageError: the folder cannot be written, or holds answers to other prompts or of other settings.
    """

    def __init__(self, folder: Path, prompts: Sequence[list[Message]], sampling: SamplingSettings) -> None:
        self.folder = folder
        self.sampling = sampling
        self.prompts = {prompt_id(prompt): prompt for prompt in prompts}
        plan = {"version": 1, "sampling": sampling.to_document(), "prompts": list(self.prompts)}
        earlier = read_json(folder / "plan.json")
        # A plan without an answer, as after a misspelt model name, may be replaced.
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
        self._rubrics: dict[str, str] = {}
        self.scored_by: set[str] = set()
        # Lines of prompts that are not asked about now are passed over, and stay in the files.
        for line in MetricsTail(folder / "answers.jsonl").poll():
            if line.get("id") in self._answers:
                self._answers[line["id"]][int(line["number"])] = str(line["answer"])
        for line in MetricsTail(folder / "rankings.jsonl").poll():
            if line.get("id") in self._better:
                self._apply(line)

    def distinct_answers(self, key: str) -> list[str]:
        """Return the answers to a prompt without repetitions and empty ones."""
        return list(dict.fromkeys(text for text in self._answers[key].values() if text.strip()))

    def is_without_choice(self) -> bool:
        """Whether each prompt has several answers and all of them are the same: then nothing was sampled."""
        several = [answers for answers in self._answers.values() if len(answers) > 1]
        return bool(several) and all(len(set(answers.values())) == 1 for answers in several)

    def generate(self, *, allow_http: bool = False) -> Iterator[tuple[int, int]]:
        """Sample the missing answers; each is written as soon as it arrives.

        Args:
            allow_http: accept an endpoint that is plain http to another machine.

        Yields:
            The number of answers so far, and of all answers.

        Raises:
            UsageError: the endpoint cannot be used.
            ChildError: the model cannot be loaded.
            EndpointError: the endpoint did not answer.
        """
        sampling = self.sampling
        missing = [
            AnswerRequest(key, number, prompt)
            for key, prompt in self.prompts.items()
            for number in range(sampling.n)
            if number not in self._answers[key]
        ]
        source = (
            AnswerSource(url=sampling.url, endpoint_model=sampling.model, allow_http=allow_http)
            if sampling.url
            else AnswerSource(sampling.model)
        )
        for answer in sample_answers(
            source,
            missing,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            seed=sampling.seed,
        ):
            record = {"id": answer.id, "number": answer.number, "answer": answer.text}
            size = {"tokens": answer.tokens, "cut": answer.cut}
            append_json_line(self.folder / "answers.jsonl", {"t": time.time(), **record, **size})
            self._answers[answer.id][answer.number] = answer.text
            yield sum(map(len, self._answers.values())), len(self.prompts) * sampling.n

    def next(self) -> AnswerPair | None:
        """Return the best answer so far against the next that has not been compared; None when all have been."""
        for number, (key, prompt) in enumerate(self.prompts.items(), start=1):
            answers = self.distinct_answers(key)
            compared = {text for pair in self._compared[key] for text in pair}
            waiting = [text for text in answers if text not in compared]
            if len(answers) < 2 or not waiting or self._by.get(key) == _SKIPPED:  # noqa: PLR2004 - a pair
                continue
            best = self._better[key][-1][0] if self._better[key] else waiting.pop(0)
            return AnswerPair(key, prompt, best, waiting[0], number, len(self.prompts))
        return None

    def record_preference(self, pair: AnswerPair, side: str, *, by: str = "person", **details: Any) -> None:
        """Record which answer is better: ``left``, ``right``, or ``skip`` to leave the prompt out.

        Args:
            pair: that was compared.
            side: the verdict.
            by: who gave it.
            **details: further keys of the record.
        """
        if side == "skip":
            self._record({"id": pair.id, "skip": True, "by": by})
            return
        winner, loser = (pair.left, pair.right) if side == "left" else (pair.right, pair.left)
        self._record({"id": pair.id, "better": winner, "worse": loser, "by": by, **details})

    def unscored(self) -> list[tuple[str, str]]:
        """Return (prompt id, answer) of the answers without a score."""
        answers = [(key, text) for key in self.prompts for text in self.distinct_answers(key)]
        return [(key, text) for key, text in answers if text not in self._scores[key]]

    def record_score(self, key: str, answer: str, value: float, by: str) -> None:
        """Record the score of an answer; higher is better."""
        self._record({"id": key, "answer": answer, "score": value, "by": by})

    def uncompared_pairs(self) -> Iterator[AnswerPair]:
        """Yield every two answers to a prompt that have not been compared, for a judge model."""
        for number, (key, prompt) in enumerate(self.prompts.items(), start=1):
            for left, right in combinations(self.distinct_answers(key), 2):
                if frozenset((left, right)) not in self._compared[key]:
                    yield AnswerPair(key, prompt, left, right, number, len(self.prompts))

    def record_tie(self, pair: AnswerPair, by: str, **details: Any) -> None:
        """Record that two answers are equally good, so that they are not compared again; see record_preference."""
        self._record({"id": pair.id, "tie": [pair.left, pair.right], "by": by, **details})

    def pairs(self, margin: float = 0.0) -> list[dict[str, Any]]:
        """Return rows of preference data: the best answer to each prompt against the worst.

        Args:
            margin: by which the best score must exceed the worst; prompts below it, or with equal answers, give no row.
        """
        rows = []
        for key, prompt in self.prompts.items():
            ranked = self._ranked(key)
            skipped = self._by.get(key) == _SKIPPED
            if len(ranked) < 2 or skipped or ranked[0][1] - ranked[-1][1] <= margin:  # noqa: PLR2004 - a pair
                continue
            (chosen, best), (rejected, worst) = ranked[0], ranked[-1]
            source = self.sampling.to_document() | {"ranked_by": self._by.get(key, "")}
            source |= {"rubric": self._rubrics[key]} if key in self._rubrics else {}
            source |= {"margin": best - worst, "scores" if self._scores[key] else "wins_less_losses": [best, worst]}
            rows.append(preference_row(prompt, chosen, rejected, source))
        return rows

    def _ranked(self, key: str) -> list[tuple[str, float]]:
        """Return answers with their score, or with wins less losses where there are only comparisons; best first."""
        scores = self._scores[key]
        if not scores:
            scores = dict.fromkeys(self.distinct_answers(key), 0.0) if self._better[key] else {}
            for winner, loser in self._better[key]:
                if winner in scores and loser in scores:
                    scores[winner] += 1
                    scores[loser] -= 1
        return sorted(scores.items(), key=lambda answer_score: -answer_score[1])

    def _record(self, record: dict[str, Any]) -> None:
        append_json_line(self.folder / "rankings.jsonl", {"t": time.time(), **record})
        self._apply(record)

    def _apply(self, record: dict[str, Any]) -> None:
        key = record["id"]
        self._by[key] = _SKIPPED if record.get("skip") else str(record.get("by", ""))
        if record.get("rubric"):
            self._rubrics[key] = str(record["rubric"])
        if "better" in record:
            self._better[key].append((record["better"], record["worse"]))
            self._compared[key].add(frozenset((record["better"], record["worse"])))
        elif "tie" in record:
            self._compared[key].add(frozenset(record["tie"]))
        elif "score" in record:
            self._scores[key][record["answer"]] = float(record["score"])
            self.scored_by.add(str(record.get("by", "")))
