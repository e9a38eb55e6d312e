"""All looks of a run together keep to their share of its training, on a clock that counts what they would take."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from dpo_tui.config.files import from_values
from dpo_tui.train.evaluation import in_training
from dpo_tui.train.evaluation.in_training import InTrainingEvaluation
from dpo_tui.train.evaluation.kl import KlEstimate
from dpo_tui.train.evaluation.time_budget import FIRST_EVALUATION_SECONDS, LAST_EVALUATION_SECONDS, TrainingProgress


class Run:
    """A run on a slow processor: nothing is computed, and the clock goes by what a look or a step would take.

    Args:
        step: seconds of a training step.
        token: seconds of a generated token; those of a batch are generated together.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, steps: int, step: float, token: float, **settings: Any) -> None:
        self.now, self.in_looks = 0.0, 0.0
        self.steps, self.step, self.token = steps, step, token
        self.said: list[str] = []
        self.samples: list[str] = []
        self.estimates: list[int] = []
        self.config = from_values({"model_name": "m", "dataset": "d", "strategy": "dpo", "gpus": "none", **settings})
        patch.setattr(in_training, "greedy_answers", self._answers)
        patch.setattr(in_training, "estimate_kl", self._kl)
        patch.setattr(in_training, "has_reference", lambda _: True)
        patch.setattr(in_training, "prompt_token_ids", lambda *_: [1] * 100)
        patch.setattr(in_training, "preserved_state", lambda _: _nothing())

    def _generate(self, tokens: int, should_stop: Callable[[], bool]) -> bool:
        for _ in range(tokens):
            if should_stop():
                return False
            self.now += self.token
        return True

    def _answers(self, _: Any, __: Any, prompts: list[Any], tokens: int, should_stop: Any) -> Iterator[str]:
        if self._generate(tokens, should_stop):
            yield from ["an answer"] * len(prompts)

    def _kl(self, _: Any, __: Any, prompts: list[Any], tokens: int, *, should_stop: Any, **___: Any) -> Any:
        done = 0
        for start in range(0, len(prompts), 8):
            if not self._generate(tokens, should_stop):
                break
            done += len(prompts[start : start + 8])
        return KlEstimate(1.0, 0.1, done) if done else None

    def _forward(self, **_: Any) -> None:
        self.now += self.step / 3 / 4  # a prompt of 100 tokens; a step has 400

    def looks(self) -> InTrainingEvaluation:
        model = _Model(
            device=torch.device("cpu"), training=True, eval=lambda: None, train=lambda *_: None, forward=self._forward
        )
        trainer = SimpleNamespace(
            model=model,
            train_dataset=Dataset.from_dict({"input_ids": [[1] * 400] * 10}),
            args=SimpleNamespace(max_steps=self.steps, per_device_train_batch_size=1, gradient_accumulation_steps=1),
            accelerator=SimpleNamespace(autocast=_nothing, device=torch.device("cpu")),
            state=SimpleNamespace(global_step=0),
            log=lambda found: self.estimates.append(found["eval_kl_n"]),
        )
        journal: Any = SimpleNamespace(
            rank=SimpleNamespace(is_first=True),
            phase=lambda _: None,
            progress=lambda *_, **__: None,
            sample=lambda found: self.samples.append(found["when"]),
            event=lambda _, message, **__: self.said.append(message),
        )
        stops: Any = SimpleNamespace(stop_wanted=lambda: False)
        made = InTrainingEvaluation(self.config, trainer, None, prompts=[[]] * 16, journal=journal, stop_requests=stops)
        made.budget.clock = lambda: self.now
        return made

    def train(self, every: int) -> float:
        """Train with an evaluation before the first step and every some steps, and return the share of the looks."""
        looks = self.looks()

        def look(function: Callable[..., Any], *given: Any) -> None:
            began = self.now
            function(*given)
            self.in_looks += self.now - began

        look(looks.before)
        trained, seconds = 0, 0.0
        look(looks.at_evaluation, TrainingProgress(None, 0, self.steps, every))
        while trained < self.steps:
            trained += 1
            self.now += self.step
            seconds += self.step
            if trained % every == 0 or trained == self.steps:
                look(looks.at_evaluation, TrainingProgress(self.step, trained, self.steps, every))
        look(looks.after, seconds)
        return self.in_looks / seconds


class _Model(SimpleNamespace):
    def __call__(self, **given: Any) -> None:
        self.forward(**given)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("token", [0.005, 0.03, 0.3, 3.0])
@pytest.mark.parametrize("every", [20, 100, 10_000])
def test_by_default_looks_take_their_share_of_a_training_that_is_long_enough(
    monkeypatch: pytest.MonkeyPatch, every: int, token: float
) -> None:
    run = Run(monkeypatch, steps=1000, step=2.0, token=token)
    assert run.train(every) <= 0.05 + 3 * token / 2000, "but for the tokens in which a deadline comes"


@pytest.mark.parametrize("token", [0.005, 0.03, 0.3, 3.0])
def test_looks_at_a_short_training_take_no_longer_than_is_said(monkeypatch: pytest.MonkeyPatch, token: float) -> None:
    """125 seconds on a processor, for which they took 34 before."""
    run = Run(monkeypatch, steps=125, step=1.0, token=token)
    run.train(50)
    most = FIRST_EVALUATION_SECONDS + LAST_EVALUATION_SECONDS + 3 * token  # the token that a deadline comes in
    assert run.in_looks <= most
    if token <= 0.03:
        assert {"before", "after"} <= set(run.samples)
        assert run.estimates[-1] >= 4


def test_a_long_training_has_time_for_answers_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute for the answers is nothing beside an hour, which a pass over a prompt tells."""
    run = Run(monkeypatch, steps=1000, step=4.0, token=0.3)
    assert run.train(100) <= 0.05
    assert run.samples.count("before") == 3
    assert run.samples.count("after") == 3


def test_no_limit_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, steps=10, step=1.0, token=0.3, looks_share=1.0)
    run.train(5)
    assert run.samples.count("before") == run.samples.count("evaluation") == run.samples.count("after") == 3
    assert run.estimates == [4, 16, 16]
