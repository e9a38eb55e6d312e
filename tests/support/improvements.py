"""Improvements whose models are functions: the driver, its files and its decisions are real, nothing is generated."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupMember, GroupPlan
from dpo_tui.groups.group_state import GroupState
from dpo_tui.groups.group_store import create_group
from dpo_tui.improve import improvement_driver as driver_module
from dpo_tui.improve.improvement_driver import ImprovementDriver
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan
from dpo_tui.improve.improvement_state import ImprovementState, read_improvement_state
from dpo_tui.improve.improvement_store import ImprovementPrompt, create
from dpo_tui.improve.rounds import answer_sampling, run_round
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource, SampledAnswer
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import append_json_line, write_json_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from tests.support.fake_run import begin

JUDGE = """
import json, sys
for line in sys.stdin:
    one = json.loads(line)
    if {log!r}:
        with open({log!r}, "a") as log:
            log.write(json.dumps([one["id"], one["answer"]]) + "\\n")
    print(json.dumps({{"id": one["id"], "score": float({score})}}), flush=True)
"""
"""A program that scores by a Python expression over ``one``, and logs what it was asked."""


class NoSignals:
    """Stands for the driver's signal handling, which belongs to a process of its own."""

    terminated = False


@dataclass
class Staged:
    """An improvement with staged models.

    Attributes:
        folder: of the improvement.
        asked: how often each answer was asked for, by (who answers, prompt, number).
        trained: how often each round was trained.
        level: the level of helpfulness that answers of a model have, by the number of trainings it has behind it.
        write: makes an answer's text of its level, its prompt and its number.
    """

    folder: ImprovementFolder
    asked: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    trained: Counter[int] = field(default_factory=Counter)
    level: Callable[[int], int] = lambda trained: trained * 3
    write: Callable[[int, str, int], str] = lambda level, prompt, number: " ".join(
        [f"Answer {number} to {prompt}:", *["help"] * (level + number), *["word"] * (30 - level - number)]
    )

    def drive(self, stop_at: int | None = None) -> ImprovementState:
        """Drive it in this process until it ends, or is killed at a progress call of this number."""
        driver = ImprovementDriver(self.folder, NoSignals())  # type: ignore[arg-type]
        if stop_at is not None:
            _kill_at(driver, stop_at)
        driver.run()
        return read_improvement_state(self.folder)


class KilledError(BaseException):
    """Ends a driver as a kill would: nothing of it runs on."""


def _kill_at(driver: ImprovementDriver, number: int) -> None:
    calls = 0
    work = driver._work

    def progress(step: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KilledError
        work.progress(step, done, total)

    driver._work = replace(work, progress=progress)


def program(folder: Path, score: str, *, log: Path | None = None, name: str = "judge.py") -> JudgeChoice:
    """A program that judges by an expression over ``one``, with keys id, prompt, messages and answer."""
    path = folder / name
    path.write_text(JUDGE.format(score=score, log=str(log) if log else ""))
    return JudgeChoice("program", f"{sys.executable} {path}")


def prompts(training: int = 12, held_out: int = 10) -> list[ImprovementPrompt]:
    """Prompts of both kinds."""
    return [
        ImprovementPrompt(f"p{number}", [{"role": "user", "content": f"question {number}"}], number >= training)
        for number in range(training + held_out)
    ]


def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, judge: JudgeChoice | None = None, **plan: Any) -> Staged:
    """Make an improvement; its models and trainings are staged, its judge is a real program."""
    choice = judge or program(tmp_path, "one['answer'].count('help')")
    document = ImprovementPlan("", "better", "start-model", judge=choice.to_document(), **plan)
    folder = create(document, "[model]\nmodel_name = 'start-model'\n", prompts())
    stage = Staged(folder)

    def sample(
        source: AnswerSource, requests: Sequence[AnswerRequest], *, temperature: float, **_: Any
    ) -> Iterator[SampledAnswer]:
        trained = (
            0
            if source.model == "start-model"
            else int(Path(source.model.removeprefix("run:")).joinpath("trained").read_text())
        )
        for one in requests:
            stage.asked[(f"{source.model} {temperature}", one.id, one.number)] += 1
            text = stage.write(stage.level(trained), str(one.messages[-1]["content"]), one.number)
            yield SampledAnswer(one.id, one.number, text, False, len(text.split()))

    def train(work: RoundWork, number: int) -> list[RunFolder]:
        stage.trained[number] += 1
        work.progress(f"round {number}: training", 0, 1)
        run = store.create("", name=f"better-r{number}", devices=[])
        (run.path / "trained").write_text(str(number))
        for step in (0, 10):
            append_json_line(run.metrics, {"t": 1.0, "step": step, "loss": 0.7 - step / 100, "eval_kl": step / 10})
        return [run]

    monkeypatch.setattr(answer_sampling, "sample_answers", sample)
    monkeypatch.setattr(run_round, "train_round", train)
    monkeypatch.setattr(run_round, "group_of", lambda improvement, number: None)
    monkeypatch.setattr(driver_module, "_STOP_POLL", 1e9)
    return stage


def round_group(improvement: ImprovementFolder, number: int, *runs: str) -> GroupFolder:
    """The group of a round, and its runs as those of real trainings are."""
    members = tuple(GroupMember(place, f"better-r{number}-{place}", {}) for place, _ in enumerate(runs, 1))
    part_of = {"improvement": improvement.id, "round": number}
    group = create_group(
        GroupPlan("", f"better-r{number}", kind="round", members=members, part_of=part_of), [""] * len(runs)
    )
    for member, run in zip(members, runs, strict=True):
        folder = RunFolder(improvement.path.parent.parent / "runs" / run)
        state = begin(folder, member.name)
        belongs = {"id": group.id, "kind": "round", "member": member.number, "values": {}}
        write_state(folder, State(**{**state.to_dict(), "status": "done", "ended_at": 1.0, "group": belongs}))
    state = GroupState("done", "", driver_pid=1, ended_at=1.0, runs={str(n): run for n, run in enumerate(runs, 1)})
    write_json_atomic(group.state, state.to_dict())
    return group


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a ``.jsonl`` file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
