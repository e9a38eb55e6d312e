"""Sampled answers of a round, and answers to the held-out prompts; each is written down as it comes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dpo_tui.improve.answer_files import read_answers
from dpo_tui.improve.improvement_store import ImprovementPrompt
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource
from dpo_tui.judging.answer_sources.sample_answers import sample_answers
from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.runs.folder import RunFolder

_SEEDS_A_ROUND = 1_000_003
"""Between the seeds of two rounds: the random numbers of the batches of one count up from its seed."""


def sample_round(work: RoundWork, number: int) -> None:
    """Sample the missing answers of a round: `plan.answers` to each training prompt, of the model that it starts from.

    Raises:
        RunError: the round before is not complete.
        ChildError: the model cannot be loaded.
    """
    plan = work.plan
    source = work.answers_from(work.run_before(number))
    if number == 1 and plan.source_of_answers is not None:
        source = AnswerSource(**plan.source_of_answers)
    _answer(
        work,
        source,
        work.training,
        work.folder.round(number).answers,
        f"round {number}: sampling answers",
        count=plan.answers,
        temperature=plan.temperature,
        top_p=plan.top_p,
        seed=plan.seed + number * _SEEDS_A_ROUND,
    )


def answer_held_out(work: RoundWork, number: int, run: RunFolder | None, path: Path, whose: str) -> None:
    """Let a model answer the held-out prompts once each, without sampling: the same model gives the same answers.

    Args:
        work: the improvement.
        number: of the round, for the progress; 0 before the first.
        run: whose model answers; None for the start model.
        path: of the file that gets the answers.
        whose: the model in words.

    Raises:
        ChildError: the model cannot be loaded.
    """
    step = (
        f"round {number}: {whose} answers the held-out prompts" if number else f"{whose} answers the held-out prompts"
    )
    source = work.answers_from(run)
    _answer(work, source, work.held_out, path, step, count=1, temperature=0.0, top_p=1.0, seed=work.plan.seed)


def _answer(
    work: RoundWork,
    source: AnswerSource,
    prompts: Sequence[ImprovementPrompt],
    path: Path,
    step: str,
    *,
    count: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> None:
    there = {(one.id, one.number) for one in read_answers(path)}
    missing = [
        AnswerRequest(prompt.id, number, prompt.messages)
        for prompt in prompts
        for number in range(count)
        if (prompt.id, number) not in there
    ]
    total = len(prompts) * count
    work.progress(step, total - len(missing), total)
    if not missing:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    answers = sample_answers(
        source, missing, temperature=temperature, top_p=top_p, max_new_tokens=work.plan.max_new_tokens, seed=seed
    )
    for done, answer in enumerate(answers, total - len(missing) + 1):
        append_json_line(path, asdict(answer))
        work.progress(step, done, total)
