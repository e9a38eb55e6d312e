"""KL to the reference, and answers on the way: estimated for real, in little time, without disturbing the training."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_tui.config.schema import Config
from dpo_tui.train.evaluation.time_budget import LAST_EVALUATION_SECONDS, EvaluationCost, TimeBudget, TrainingProgress
from tests.support.training import lines, make_config, train


def evaluated_config(model: Path, pairs: Path, **changes: Any) -> Config:
    """Four steps with an evaluation every second one, as many KL estimates and samples as fit into the whole time."""
    settings = {"max_steps": 4, "eval_steps": 2, "save_steps": 500, "kl_prompts": 4, "kl_max_new_tokens": 8}
    return make_config(model, pairs, **(settings | {"looks_share": 1.0} | changes))


def toy_model(seed: int) -> Any:
    """Five tokens; the sixth ends an answer. The next token depends on the last one only, so that KL is exact."""
    import torch
    from transformers import GenerationMixin, GPT2Config, GPT2LMHeadModel

    class Bigram(GPT2LMHeadModel, GenerationMixin):  # type: ignore[misc]
        def forward(self, input_ids: Any = None, **_: Any) -> Any:
            from transformers.modeling_outputs import CausalLMOutputWithPast

            return CausalLMOutputWithPast(logits=self.table[input_ids])

    model = Bigram(
        GPT2Config(vocab_size=6, n_positions=32, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=5)
    )
    generator = torch.Generator().manual_seed(seed)
    model.table = torch.nn.Parameter(torch.randn(6, 6, generator=generator))
    return model.eval()


def exact_kl(policy: Any, reference: Any, start: int, length: int) -> float:
    """KL of answers of at most this length: the sum over the tokens of what each adds, weighted by being reached."""
    import torch

    ours, theirs = (model.table.detach().double().log_softmax(1) for model in (policy, reference))
    each = (ours.exp() * (ours - theirs)).sum(1)
    reached = torch.zeros(6, dtype=torch.double)
    reached[start] = 1.0
    total = 0.0
    for _ in range(length):
        total += float(reached @ each)
        reached = reached @ ours.exp()
        reached[5] = 0.0  # an answer that has ended adds nothing
    return total


def every_answer(length: int) -> Iterator[tuple[int, ...]]:
    """All answers of at most this many tokens: those that end, and those that are cut."""
    for size in range(1, length + 1):
        for tokens in product(range(5), repeat=size - 1):
            yield (*tokens, 5)
    yield from product(range(5), repeat=length)


def kl_by_enumeration(policy: Any, reference: Any, start: int, length: int) -> float:
    """Σ over every possible answer y of π(y) · (log π(y) − log π_ref(y)): the definition, with nothing left out."""
    ours, theirs = (model.table.detach().double().log_softmax(1).tolist() for model in (policy, reference))
    total = mass = 0.0
    for answer in every_answer(length):
        steps = list(pairwise((start, *answer)))
        log_p, log_q = (math.fsum(table[one][other] for one, other in steps) for table in (ours, theirs))
        mass += math.exp(log_p)
        total += math.exp(log_p) * (log_p - log_q)
    assert mass == pytest.approx(1.0, abs=1e-9), "every answer is counted once"
    return total


def toy_estimate(policy: Any, reference: Any, answers: int, seed: int) -> Any:
    import contextlib

    from dpo_tui.train.evaluation.kl import estimate_kl

    trainer = SimpleNamespace(
        model=policy, ref_model=reference, accelerator=SimpleNamespace(autocast=contextlib.nullcontext)
    )
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=5)
    return estimate_kl(trainer, tokenizer, [[0]] * answers, 6, seed=seed)


def test_the_estimate_agrees_with_the_exact_value_on_a_toy_vocabulary() -> None:
    """Within two standard errors of the KL summed over all 19,531 answers there are, and named with its n."""
    policy, reference = toy_model(1), toy_model(2)
    exact = kl_by_enumeration(policy, reference, start=0, length=6)
    assert exact == pytest.approx(exact_kl(policy, reference, start=0, length=6), abs=1e-9)
    estimate = toy_estimate(policy, reference, 600, seed=3)
    assert estimate.n == 600
    assert 0 < estimate.stderr < 0.25 * exact
    assert abs(estimate.mean - exact) <= 2 * estimate.stderr


def test_the_standard_error_is_as_wide_as_it_says() -> None:
    """Of twenty estimates from other samples about nineteen lie within two standard errors of the exact value."""
    policy, reference = toy_model(1), toy_model(2)
    exact = exact_kl(policy, reference, start=0, length=6)
    found = [toy_estimate(policy, reference, 64, seed) for seed in range(20)]
    off = [(estimate.mean - exact) / estimate.stderr for estimate in found]
    assert sum(abs(distance) <= 2 for distance in off) >= 17
    assert abs(sum(off) / len(off)) <= 2 / math.sqrt(len(off)), "and the estimate leans to neither side"


def test_a_mean_comes_with_its_standard_error() -> None:
    """Sample variance over n − 1; the error of the mean is √(variance / n)."""
    from dpo_tui.train.evaluation.kl import KlEstimate

    assert KlEstimate.of([1.0, 2.0, 6.0]) == KlEstimate(3.0, pytest.approx(math.sqrt(7 / 3)), 3)
    assert KlEstimate.of([4.0]) == KlEstimate(4.0, 0.0, 1)


@pytest.mark.parametrize("use_lora", [True, False])
def test_kl_starts_at_zero_and_grows_as_the_policy_moves(
    home: Path, tiny_model: Path, tiny_pairs: Path, use_lora: bool
) -> None:
    """With an adapter that is switched off for the reference, and with a reference model of its own."""
    folder = train(
        evaluated_config(tiny_model, tiny_pairs, use_lora=use_lora, eval_split=0.3, kl_prompts=12, learning_rate=0.03)
    )
    found = [line for line in lines(folder.metrics) if "eval_kl" in line]
    assert [line["step"] for line in found] == [0, 2, 4]
    assert found[0]["eval_kl"] == pytest.approx(0.0, abs=1e-6)
    assert found[-1]["eval_kl"] > 2 * found[-1]["eval_kl_stderr"] > 0
    assert [line["eval_kl_n"] for line in found] == [4, 12, 12]
    assert all(line["kl"] == line["eval_kl"] for line in found)
    assert not any("eval_loss" in line for line in found)


def test_answers_are_kept_for_every_evaluation_and_for_the_reference(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """The same prompts, by the policy before, at evaluations and after, and by the reference once."""
    folder = train(evaluated_config(tiny_model, tiny_pairs))
    samples = lines(folder.samples)
    assert [(sample["when"], sample["step"], sample["model"]) for sample in samples] == [
        *[("before", 0, "policy")] * 2,
        *[("reference", 0, "reference")] * 2,
        *[("evaluation", 2, "policy")] * 2,
        *[("after", 4, "policy")] * 2,
    ]
    assert len({json.dumps(sample["prompt"]) for sample in samples}) == 2


def test_looking_does_not_change_the_training(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Sampling draws random numbers of its own: every loss is the same, to the last digit, with dropout on."""
    changes = {"disable_dropout": False, "lora_dropout": 0.3}
    evaluated = train(evaluated_config(tiny_model, tiny_pairs, **changes))
    without = train(evaluated_config(tiny_model, tiny_pairs, kl_prompts=0, sample_prompts=0, **changes))
    assert [line["loss"] for line in lines(evaluated.metrics) if "loss" in line] == [
        line["loss"] for line in lines(without.metrics) if "loss" in line
    ]


def test_a_policy_that_drifts_is_warned_of_and_can_be_stopped(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """A warning above 10, once; with kl_stop the run ends early, done and saved."""
    folder = train(
        evaluated_config(tiny_model, tiny_pairs, use_lora=False, learning_rate=0.1, max_steps=8, kl_stop=10.0)
    )
    warnings = [event["message"] for event in lines(folder.events) if event["kind"] == "warning"]
    assert sum("above 10: the policy drifts" in message for message in warnings) == 1
    assert any("above kl_stop = 10" in message for message in warnings)
    assert max(line["step"] for line in lines(folder.metrics)) < 8
    assert (folder.merged / "model.safetensors").is_file()
    assert json.loads(folder.progress.read_text())["phase"] == "done"


def test_what_is_too_dear_is_left_out_and_said(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """At most five percent of the training: here not even one answer, so only the result is looked at."""
    folder = train(evaluated_config(tiny_model, tiny_pairs, looks_share=1e-6))
    assert [line["step"] for line in lines(folder.metrics) if "eval_kl" in line] == [0, 4]
    assert {sample["when"] for sample in lines(folder.samples)} == {"before", "reference", "after"}
    assert json.loads(folder.receipt.read_text())["results"]["metrics"]["eval_kl_n"] == 4
    notes = [event["message"] for event in lines(folder.events) if event["kind"] == "note"]
    assert sum("looks_share" in message for message in notes) == 2


def test_the_share_is_spread_over_the_evaluations_that_are_left() -> None:
    budget = TimeBudget(0.05)
    progress = TrainingProgress(step_seconds=2.0, step=100, max_steps=400, eval_steps=100)
    assert budget.seconds(progress) == pytest.approx(0.05 * 800 / 4)
    budget.spend(20.0)
    assert budget.seconds(progress) == pytest.approx(5.0)
    budget.spend(30.0)
    assert budget.seconds(progress) == 0.0
    assert budget.seconds(replace(progress, step=400)) == LAST_EVALUATION_SECONDS


def test_fewer_prompts_are_answered_in_less_time() -> None:
    assert EvaluationCost().affordable(16, 1.0) == 16
    assert EvaluationCost(prompts=4, seconds=2.0).affordable(16, 3.0) == 6
    assert EvaluationCost(prompts=4, seconds=2.0).affordable(16, 60.0) == 16
