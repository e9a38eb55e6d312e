"""What counts as a mismatch between a shortcut and plain TRL, and which pairs are looked at for one."""

import contextlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference

from dpo_tui.train.shortcuts.equivalence_check import (
    batch_difference,
    find_mismatch,
    largest_difference,
    probe_batch,
    token_logps,
)

VOCABULARY = 50
BATCH = {
    "input_ids": torch.tensor([[3, 4, 5, 6], [3, 4, 7, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "completion_mask": torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0]]),
}


class Model(torch.nn.Module):  # type: ignore[misc]
    """Logits that follow from the ids, plus what a test adds while the shortcut is on or the batch is larger."""

    def __init__(
        self,
        *,
        on: float = 0.0,
        padding: float = 0.0,
        beside: float = 0.0,
        auxiliary: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.beside, self.dropout = beside, dropout
        self.shortcut_is_on = False
        self.switched: list[bool] = []
        self.on, self.padding, self.auxiliary = on, padding, auxiliary
        torch.manual_seed(0)
        self.table = torch.randn(VOCABULARY, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = self.table[input_ids]
        moved = self.on if self.shortcut_is_on else self.padding if input_ids.shape[1] > 4 else 0.0
        moved += self.beside if len(input_ids) > 2 else 0.0
        moved += self.dropout if self.training and len(input_ids) > 2 else 0.0
        # The logit of the token that follows: its log-probability moves by about as much.
        first = logits[:, :-1].gather(2, input_ids[:, 1:, None])
        logits = logits.clone()
        logits[:, :-1].scatter_(2, input_ids[:, 1:, None], first + moved)
        return SimpleNamespace(logits=logits, aux_loss=torch.tensor(2.0 + self.auxiliary * self.shortcut_is_on))

    def switch(self, on: bool) -> None:
        self.shortcut_is_on = on
        self.switched.append(on)


def trainer_of(model: Callable[..., Any], **more: Any) -> Any:
    accelerator = SimpleNamespace(autocast=contextlib.nullcontext, device=torch.device("cpu"))
    return SimpleNamespace(
        model=model, accelerator=accelerator, shortcuts=SimpleNamespace(has_fused_head=False), **more
    )


def mismatch(model: Model, **more: Any) -> str | None:
    found = find_mismatch(trainer_of(model, **more), BATCH, [model.switch])
    assert not model.shortcut_is_on, "left off, whatever was found"
    return found


def test_log_probabilities_are_those_of_the_answers_tokens_given_what_precedes_them() -> None:
    model = Model()
    by_hand = [model.table[before].log_softmax(-1)[token] for before, token in ((4, 5), (5, 6), (4, 7))]
    torch.testing.assert_close(token_logps(trainer_of(model), BATCH), torch.stack(by_hand))
    with_loss = token_logps(trainer_of(model, aux_loss_enabled=True), BATCH, auxiliary=True)
    torch.testing.assert_close(with_loss, torch.stack([*by_hand, torch.tensor(2.0)]))
    assert len(token_logps(trainer_of(model), BATCH, auxiliary=True)) == 3, "TRL adds none to this model's loss"


def test_a_shortcut_that_changes_nothing_has_no_mismatch() -> None:
    model = Model()
    assert mismatch(model) is None
    assert True in model.switched, "it was on for a pass"


def test_a_difference_above_the_tolerance_is_one_where_nothing_else_explains_it() -> None:
    assert mismatch(Model(on=5e-4)) is None
    found = mismatch(Model(on=0.1))
    assert found is not None and found.startswith("scores of a real batch differ by 0.1 a token")
    assert found.endswith("those of plain TRL among themselves by 0")


@pytest.mark.parametrize(("on", "expected"), [(0.035, True), (0.045, False)])
def test_half_precision_may_differ_by_four_times_what_padding_changes(on: float, expected: bool) -> None:
    assert (mismatch(Model(on=on, padding=0.01)) is None) is expected


def test_scores_that_are_no_numbers_never_pass_as_agreement() -> None:
    assert "differ by inf" in str(mismatch(Model(on=math.nan)))
    assert largest_difference(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 1.0])) == math.inf
    assert largest_difference(torch.tensor([1.0, 5.0]), torch.tensor([1.5, 2.0])) == 3.0
    assert largest_difference(torch.tensor([]), torch.tensor([])) == 0.0


def test_the_load_balancing_loss_is_compared_where_trl_adds_it() -> None:
    assert mismatch(Model(auxiliary=0.5), aux_loss_enabled=True) is not None
    assert mismatch(Model(auxiliary=0.5)) is None


@pytest.mark.parametrize("error", [ValueError("no such mask"), torch.OutOfMemoryError("too large")])
def test_a_model_that_refuses_a_shortcut_is_not_one_that_lacks_memory(error: Exception) -> None:
    model = Model()

    def refusing(**inputs: Any) -> Any:
        if model.shortcut_is_on:
            raise error
        return model(**inputs)

    trainer = trainer_of(refusing)
    if isinstance(error, ValueError):
        assert find_mismatch(trainer, BATCH, [model.switch]) == "the model refuses it: ValueError: no such mask"
    else:
        with pytest.raises(torch.OutOfMemoryError):
            find_mismatch(trainer, BATCH, [model.switch])
    assert not model.shortcut_is_on


def pair(prompt: int, chosen: int, rejected: int, start: int = 10) -> dict[str, list[int]]:
    """A pair of these lengths whose answers begin differently."""
    return {
        "prompt_ids": list(range(start, start + prompt)),
        "chosen_ids": [start + 100, *range(chosen - 1)],
        "rejected_ids": [start + 101, *range(rejected - 1)],
    }


def probe(*rows: dict[str, list[int]], pairs_a_step: int = 4, device: str = "cpu") -> dict[str, torch.Tensor] | None:
    trainer = trainer_of(
        Model(),
        train_dataset=Dataset.from_list(list(rows)),
        data_collator=DataCollatorForPreference(pad_token_id=0, max_length=None),
        args=SimpleNamespace(per_device_train_batch_size=pairs_a_step),
    )
    trainer.accelerator.device = torch.device(device)
    return probe_batch(trainer)


def first_tokens(batch: dict[str, torch.Tensor] | None) -> list[int]:
    assert batch is not None
    chosen: torch.Tensor = batch["input_ids"][: len(batch["input_ids"]) // 2]
    return [int(row[0]) for row in chosen]


def test_the_probe_is_the_two_shortest_of_the_half_that_shares_most() -> None:
    sharing_most = [pair(12, 2, 2, 20), pair(10, 2, 2, 40), pair(14, 2, 2, 60)]
    sharing_little = [pair(1, 3, 3, 200), pair(1, 2, 2, 220), pair(20, 60, 60, 240)]
    assert sorted(first_tokens(probe(*sharing_little, *sharing_most))) == [20, 40]
    assert first_tokens(probe(*sharing_little, *sharing_most, pairs_a_step=1)) == [40], "no more than a step"


def test_pairs_that_begin_differently_are_no_probe() -> None:
    without = {"prompt_ids": [], "chosen_ids": [5, 6], "rejected_ids": [7, 8]}
    assert probe(without, without) is None
    assert first_tokens(probe(without, pair(3, 2, 2, 30), without)) == [30]
    longer = pair(3, 2, 2, 30) | {"rejected_ids": [*pair(3, 2, 2, 30)["chosen_ids"], 8]}
    assert first_tokens(probe(longer)) == [30], "one answer is the beginning of the other"
    same = pair(3, 2, 2, 30) | {"rejected_ids": pair(3, 2, 2, 30)["chosen_ids"]}
    assert probe(same) is None, "two equal rows show no mistake in an answer"


def test_on_a_cpu_the_end_of_a_prompt_and_the_beginning_of_answers_are_enough() -> None:
    batch = probe(pair(100, 30, 40, 10))
    assert batch is not None
    assert batch["input_ids"].shape == (2, 24 + 8)
    assert batch["input_ids"][0, :24].tolist() == list(range(86, 110))
    assert batch["input_ids"][0, 24:].tolist() == [110, *range(7)]
    assert probe(pair(100, 30, 40, 10), device="meta")["input_ids"].shape == (2, 140)  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({}, 0.0),
        ({"beside": 5e-4}, 0.0),
        ({"beside": 0.1}, 0.1),
        ({"beside": 0.025, "padding": 0.01}, 0.0),
        ({"beside": 0.1, "padding": 0.01}, 0.11),
        ({"dropout": 3.0}, 0.0),
    ],
    ids=["nothing", "within the tolerance", "for certain", "within rounding", "above rounding", "in evaluation mode"],
)
def test_what_a_longer_pair_changes_for_the_pair_beside_it(changes: dict[str, float], difference: float) -> None:
    """The longer pair's own scores do not count, and its padding is a part of what it changes."""
    model = Model(**changes)
    model.train()
    trainer = trainer_of(model, data_collator=DataCollatorForPreference(pad_token_id=0, max_length=None))
    short = {"prompt_ids": [3, 4], "chosen_ids": [5, 6], "rejected_ids": [7]}
    long = {"prompt_ids": [3, 4, 5], "chosen_ids": [5, 6, 8, 9], "rejected_ids": [7, 7]}
    assert batch_difference(trainer, short, long) == pytest.approx(difference, rel=0.15)
    assert model.training, "the mode is as it was"
