"""Random numbers that a model draws in training: found also where a short batch does not show what they change."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from dpo_tui.train.shortcuts.random_draws import random_in_training
from tests.support.families import build
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import ours, plain_trl
from tests.support.training import make_config

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.fixture
def varied_pairs(tmp_path: Path) -> Path:
    """Prompts and answers of many lengths."""
    shuffle = random.Random(7)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n} {text(12)}", "chosen": text(20), "rejected": text(12)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quick(model: Path, pairs: Path, **changes: Any) -> Any:
    values = {"max_steps": 3, "eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0, "save_steps": 1000}
    return make_config(model, pairs, **(values | {"max_seq_length": 48} | changes))


def test_experts_that_are_drawn_at_random_train_as_in_plain_trl(home: Path, tmp_path: Path, varied_pairs: Path) -> None:
    """PhiMoE draws an expert where two are nearly as good: no token of the short batch need be one of those."""
    folder = build("phi-moe", tmp_path / "model")
    config = quick(folder, varied_pairs, lora_target_modules=ATTENTION, model_init={"router_aux_loss_coef": 0.0})
    plain, mine = plain_trl(config), ours(config)
    for theirs, own in zip(plain.log, mine.log, strict=True):
        assert own["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert own["logps/chosen"] == pytest.approx(theirs["logps/chosen"], abs=1e-4)
    report = mine.trainer.shortcuts.report()["share_prefix"]
    assert not report["on"]
    assert "draws random numbers for tokens in training mode" in report["why"]


def test_experts_drawn_at_random_keep_the_reference_from_being_scored_once(
    home: Path, tmp_path: Path, varied_pairs: Path
) -> None:
    folder = build("phi-moe", tmp_path / "model")
    epochs = {"max_steps": None, "num_train_epochs": 3, "precompute_ref_log_probs": "auto"}
    config = quick(
        folder, varied_pairs, lora_target_modules=ATTENTION, model_init={"router_aux_loss_coef": 0.0}, **epochs
    )
    report = ours(config).trainer.shortcuts.report()["reference_once"]
    assert not report["on"]
    assert "the reference draws random numbers in training" in report["why"]


def test_a_draw_for_each_layer_that_leaves_none_out_is_not_taken_for_noise(
    home: Path, tmp_path: Path, varied_pairs: Path
) -> None:
    """OPT draws one number a layer, whatever the number of tokens, also where its rate of leaving layers out is 0."""
    report = ours(quick(build("opt", tmp_path / "model"), varied_pairs)).trainer.shortcuts.report()
    assert report["share_prefix"]["on"]
    assert report["share_prefix"]["saved"] > 0.1


def vanishing_noise(states: torch.Tensor) -> torch.Tensor:
    return states + torch.empty_like(states).uniform_() * 1e-12


def large_noise(states: torch.Tensor) -> torch.Tensor:
    return states * (1 + 0.1 * torch.randn_like(states))


def rare_expert(states: torch.Tensor) -> torch.Tensor:
    return torch.where(states > 1e6, torch.bernoulli(states.sigmoid()), states)


def one_number(states: torch.Tensor) -> torch.Tensor:
    return states if torch.rand([]) >= 0 else -states


def two_numbers(states: torch.Tensor) -> torch.Tensor:
    return torch.where(states > 1e6, torch.rand([2]).sum(), states)


def draws_in_another_dtype(states: torch.Tensor) -> torch.Tensor:
    """Operations with named arguments, of which the result is of use with these alone."""
    rows = states[torch.zeros(4, dtype=torch.long)].double()
    return states + 0 * (rows @ torch.rand(8, 8, dtype=torch.float64)).float()


def attention_without_dropout(states: torch.Tensor) -> torch.Tensor:
    heads = states.reshape(1, 1, -1, 8)
    return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.0).reshape(states.shape)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (vanishing_noise, "uniform_ draws random numbers"),
        (large_noise, "two passes over one batch"),
        (rare_expert, "bernoulli draws random numbers"),
        (two_numbers, "rand draws random numbers"),
        (draws_in_another_dtype, "rand draws random numbers"),
        (one_number, ""),
        (attention_without_dropout, ""),
    ],
)
def test_what_a_pass_draws_is_named(change: Callable[[torch.Tensor], torch.Tensor], found: str) -> None:
    model, states = torch.nn.Linear(8, 8), torch.randn(4, 8)
    before = torch.get_rng_state()

    def logps() -> torch.Tensor:
        with torch.no_grad():
            made: torch.Tensor = change(model(states))
        return made

    assert (random_in_training(model, logps) or "").startswith(found)
    assert bool(random_in_training(model, logps)) is bool(found)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_random_in_training_alone_is_found_and_the_mode_is_restored() -> None:
    model, states = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5)).eval(), torch.randn(4, 8)
    found = random_in_training(model, lambda: model(states).detach())
    assert (found or "").startswith("two passes over one batch in training mode differ")
    assert not model.training


@pytest.mark.parametrize(
    "differences",
    [[0.0, 1e-3, 1e-3], [0.0, 1e-7, 0.0]],
    ids=["a kernel that adds in any order", "rounding"],
)
def test_what_differs_with_the_same_random_numbers_too_is_not_random(differences: list[float]) -> None:
    """Each pass is off by one of these, whatever the seed."""
    left = iter(differences)
    assert random_in_training(torch.nn.Linear(1, 1), lambda: torch.full((2,), next(left))) is None


def test_a_pass_that_draws_nothing_is_made_twice_and_not_watched() -> None:
    """Watching the operations of a large model takes long."""
    passes = []

    def logps() -> torch.Tensor:
        passes.append(len(_get_current_dispatch_mode_stack()))
        return torch.zeros(2)

    assert random_in_training(torch.nn.Linear(1, 1), logps) is None
    assert passes == [0, 0]


def test_a_pass_that_cannot_be_watched_is_taken_for_random_unless_memory_is_short() -> None:
    def logps_that_raise(error: Exception) -> Callable[[], torch.Tensor]:
        def logps() -> torch.Tensor:
            if _get_current_dispatch_mode_stack():
                raise error
            return rare_expert(torch.zeros(2, 2))

        return logps

    model = torch.nn.Linear(1, 1)
    refused = random_in_training(model, logps_that_raise(RuntimeError("no kernel under a mode")))
    assert refused == "an operation that is not known draws random numbers for tokens in training mode"
    with pytest.raises(torch.OutOfMemoryError):
        random_in_training(model, logps_that_raise(torch.OutOfMemoryError("none left")))
