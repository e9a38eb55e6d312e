"""Files of a run's judging, in ``judge/`` of the run's folder.

``plan.json`` has the prompts and the seed, ``answers.jsonl`` an answer a line, ``verdicts.jsonl`` a verdict a line. The
logs only grow, and each line is written before the next key is read: a kill loses no answer and no verdict.
"""

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.hold_out_by_prompt import prompt_id
from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import DataError, UsageError
from dpo_tui.judging.run_prompts import TRAINED_ON, run_prompts
from dpo_tui.judging.win_rate import WINNERS
from dpo_tui.runs.atomic_files import append_json_line, read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import MetricsTail

_PLAN_VERSION = 2
"""Of plan.json. Plans of version 1 may hold prompts that were trained on, and are made again."""


@dataclass(frozen=True)
class JudgingPlan:
    """What is judged: plan.json.

    Attributes:
        seed: decides for each prompt which answer is on the left.
        max_new_tokens: longest answer.
        prompts: conversations by prompt id, in the order in which they are judged.
        held_out: whether the prompts were kept out of the training.
        caution: what to know before believing the result, as a sentence; empty without anything.
        tools: the schemas of tools by the id of the prompt that they are for.
    """

    seed: str
    max_new_tokens: int
    prompts: dict[str, list[Message]]
    held_out: bool
    caution: str
    tools: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @staticmethod
    def of(document: dict[str, Any]) -> "JudgingPlan":
        """Read the document of a plan; earlier ones have no ``caution`` and no ``tools``.

        Raises:
            Exception: it is no plan.
        """
        if not all(isinstance(message, dict) for prompt in document["prompts"] for message in prompt):
            raise TypeError("a prompt is no conversation")
        held_out = bool(document["held_out"])
        return JudgingPlan(
            seed=str(document["seed"]),
            max_new_tokens=int(document["max_new_tokens"]),
            prompts={prompt_id(prompt): prompt for prompt in document["prompts"]},
            held_out=held_out,
            caution=str(document.get("caution", "" if held_out else TRAINED_ON)),
            tools=dict(document.get("tools", {})),
        )


def read_plan(run: RunFolder) -> JudgingPlan | None:
    """Return the plan of a run's judging; None where nobody has begun to judge it."""
    document = _read_document(run)
    return None if document is None else JudgingPlan.of(document)


def _read_document(run: RunFolder) -> dict[str, Any] | None:
    """The document of a plan; None where there is none.

    Raises:
        DataError: it is damaged, or no plan.
    """
    file = _file(run, "plan.json")
    document = read_json(file)
    try:
        if document is not None:
            JudgingPlan.of(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{file}: is not the plan of a judging: {type(error).__name__}: {error}",
            hint=f"Remove {file.parent} to judge anew; it holds the answers and verdicts.",
        ) from None
    return document


def make_plan(run: RunFolder, count: int, max_new_tokens: int, seed: str | None) -> JudgingPlan:
    """Return the plan of a run's judging, made or extended where it has too few prompts; see :meth:`Session.open`."""
    document = _read_document(run)
    if document is not None and seed is not None and str(document["seed"]) != seed:
        raise UsageError(
            f"the judging of run {run.id} began with the seed {document['seed']}",
            hint=f"leave --seed out, or remove {_file(run, '')} to begin anew",
        )
    planned = len(document["prompts"]) if document else 0
    if document is not None and planned >= count and document.get("version", 1) >= _PLAN_VERSION:
        return JudgingPlan.of(document)
    try:
        found = run_prompts(run, max(count, planned))
    except DataError:
        if document is None or planned < count:
            raise
        return JudgingPlan.of(document)  # of version 1, but its data is gone: better judged as it is than not at all
    document = {
        "version": _PLAN_VERSION,
        "seed": document["seed"] if document else seed or secrets.token_hex(8),
        "max_new_tokens": document["max_new_tokens"] if document else max_new_tokens,
        "held_out": found.held_out,
        "caution": found.caution,
        "prompts": found.prompts,
        "tools": found.tools,
    }
    _file(run, "").mkdir(mode=0o700, exist_ok=True)
    write_json_atomic(_file(run, "plan.json"), document)
    return JudgingPlan.of(document)


class AnswerLog:
    """answers.jsonl: the answers of both models, also of prompts that are no longer judged."""

    def __init__(self, run: RunFolder) -> None:
        self._path = _file(run, "answers.jsonl")
        self._answers: dict[str, dict[str, str]] = {}
        for line in MetricsTail(self._path).poll():
            self._answers.setdefault(str(line.get("id")), {})[str(line.get("who"))] = str(line.get("answer", ""))

    def of(self, key: str) -> dict[str, str]:
        """Return the answers to a prompt by who gave them, ``base`` or ``tuned``."""
        return self._answers.get(key, {})

    def add(self, key: str, who: str, answer: str) -> None:
        """Append an answer.

        Raises:
            OSError: the line could not be written whole.
        """
        append_json_line(self._path, {"t": time.time(), "id": key, "who": who, "answer": answer})
        self._answers.setdefault(key, {})[who] = answer


class VerdictLog:
    """verdicts.jsonl: of several verdicts on a prompt the latest counts, and one without a winner takes it back.

    Attributes:
        verdicts: the records that count, by prompt id, in the order in which they were given.
    """

    def __init__(self, run: RunFolder) -> None:
        self._path = _file(run, "verdicts.jsonl")
        self.verdicts: dict[str, dict[str, Any]] = {}
        for line in MetricsTail(self._path).poll():
            self._apply(line)

    def add(self, key: str, winner: str, *, by: str, **details: Any) -> None:
        """Append a verdict; an empty winner takes the prompt's verdict back.

        Raises:
            OSError: the line could not be written whole.
        """
        record = {"t": time.time(), "id": key, "winner": winner, "by": by, **details}
        append_json_line(self._path, record)
        self._apply(record)

    def _apply(self, record: dict[str, Any]) -> None:
        key = str(record.get("id"))
        # Removed first, so that a verdict given again becomes the latest: that is the one that undo takes back.
        self.verdicts.pop(key, None)
        # Of any other winner nothing follows: a line that another program wrote, or a newer dpo-tui.
        if record.get("winner") in WINNERS:
            self.verdicts[key] = record


def _file(run: RunFolder, name: str) -> Path:
    return run.path / "judge" / name
