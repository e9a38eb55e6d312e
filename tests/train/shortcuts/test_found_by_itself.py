"""Faults that no config names: the checks find them by computing, at the start and where a batch is longer later on."""

import inspect
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.errors import TrainingError
from tests.support.tiny import WORDS
from tests.support.training import lines, losses, make_config, train

Forward = Callable[..., Any]


def quick(model: Path, pairs: Path, **changes: Any) -> Any:
    values = {
        "sample_prompts": 0,
        "kl_prompts": 0,
        "max_steps": 6,
        "eval_split": 0.0,
        "save_steps": 1000,
        "max_seq_length": 400,
        "precompute_ref_log_probs": "off",
    }
    return make_config(model, pairs, **(values | changes))


def shortcuts(folder: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.receipt.read_text())["shortcuts"]
    return found


def warnings_of(folder: Any) -> str:
    return "\n".join(event["message"] for event in lines(folder.events) if event["kind"] == "warning")


def pairs_of(path: Path, prompts: list[int], answers: int = 8) -> Path:
    """Pairs whose prompts have these numbers of words."""
    shuffle = random.Random(3)
    rows = [
        {
            "prompt": " ".join(shuffle.choices(WORDS, k=words)),
            "chosen": " ".join(shuffle.choices(WORDS, k=answers)),
            "rejected": " ".join(shuffle.choices(WORDS, k=answers)),
        }
        for words in prompts
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sees_a_window(width: int) -> Callable[[Forward], Forward]:
    """Attention of a model's own that sees the latest tokens of the row it is given, by a name that nobody knows."""

    def change(forward: Forward) -> Forward:
        def changed(*args: Any, attention_mask: torch.Tensor, **kwargs: Any) -> Any:
            length = attention_mask.shape[-1]
            places = torch.arange(length)
            near = (places[:, None] - places < width) & (places[:, None] >= places)
            if attention_mask.ndim == 2:
                attention_mask = attention_mask[:, None, None, :].bool() & near
                attention_mask = attention_mask | torch.eye(length, dtype=torch.bool)
            else:
                attention_mask = attention_mask & near
            return forward(*args, attention_mask=attention_mask, **kwargs)

        return changed

    return change


def adds_noise_in_training(forward: Forward) -> Forward:
    def changed(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        outputs.last_hidden_state = outputs.last_hidden_state + 0.1 * torch.randn_like(outputs.last_hidden_state)
        return outputs

    return changed


@pytest.fixture
def changed_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the worker load a model whose backbone is changed so."""

    def use(change: Callable[[Forward], Forward]) -> None:
        from dpo_tui.train import run_training
        from dpo_tui.train.model import load as loading

        def load(config: Any, device: Any, **options: Any) -> Any:
            made = loading.load_model(config, device, **options)
            with torch.no_grad():
                for parameter in made.parameters():
                    if parameter.ndim > 1:
                        parameter.mul_(4)
            forward = made.model.forward
            made.model.forward = change(forward)
            made.model.forward.__signature__ = inspect.signature(forward)
            return made

        monkeypatch.setattr(run_training, "load_model", load)

    return use


def test_a_window_that_only_long_rows_show_is_found_at_the_start(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any
) -> None:
    """The short probe, cut to 32 tokens on a processor, agrees; the longest pair of the data does not."""
    data = pairs_of(tmp_path / "pairs.jsonl", [4] * 5 + [60])
    changed_model(sees_a_window(48))
    folder = train(quick(tiny_model, data))
    report = shortcuts(folder)["share_prefix"]
    assert not report["on"]
    assert "scores of a real batch differ" in report["why"]
    assert report["tokens_plain"] == 0
    assert losses(folder) == losses(train(quick(tiny_model, data, share_prefix="off")))


def first_batch_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in the order of the file."""
    from torch.utils.data import SequentialSampler

    from dpo_tui.train.trainer.trainers import PairTrainer

    monkeypatch.setattr(
        PairTrainer, "_get_train_sampler", lambda self, data=None: SequentialSampler(self.train_dataset)
    )


def test_a_run_of_less_than_an_epoch_checks_again_where_a_batch_is_longer(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its three steps may never meet a long row, so the start checks none; the third step has one."""
    data = pairs_of(tmp_path / "pairs.jsonl", [4, 5, 60] + [4] * 5)
    first_batch_is_short(monkeypatch)
    monkeypatch.setattr("dpo_tui.train.shortcuts.check_budget._FEWEST_PAIRS", 10)
    changed_model(sees_a_window(48))
    config = {"max_steps": 3, "per_device_train_batch_size": 1}
    folder = train(quick(tiny_model, data, **config))
    report = shortcuts(folder)["share_prefix"]
    assert not report["on"]
    assert "from step 3 on" in report["why"]
    assert 0 < report["tokens"] < report["tokens_plain"], "the first steps shared"
    assert "anew from here on" in warnings_of(folder)
    plain = train(quick(tiny_model, data, share_prefix="off", **config))
    assert losses(folder) == pytest.approx(losses(plain), abs=1e-5)
    with pytest.raises(TrainingError, match='share_prefix = "on": scores of a real batch differ'):
        train(quick(tiny_model, data, share_prefix="on", **config))


def test_a_longer_batch_that_agrees_is_shared(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs_of(tmp_path / "pairs.jsonl", [4, 5, 12] + [4] * 5)
    first_batch_is_short(monkeypatch)
    monkeypatch.setattr("dpo_tui.train.shortcuts.check_budget._SHARE", 10.0)
    folder = train(quick(tiny_model, data, max_steps=3, per_device_train_batch_size=1))
    everything = train(quick(tiny_model, data, max_steps=3, per_device_train_batch_size=1, num_train_epochs=3))
    report = shortcuts(folder)["share_prefix"]
    assert report["on"]
    assert report["tokens"] == shortcuts(everything)["share_prefix"]["tokens"]


def test_a_longer_batch_that_no_budget_is_left_for_is_computed_as_in_plain_trl(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pairs_of(tmp_path / "pairs.jsonl", [4, 5, 60] + [4] * 5)
    first_batch_is_short(monkeypatch)
    monkeypatch.setattr("dpo_tui.train.shortcuts.check_budget._FEWEST_PAIRS", 0.8)
    changed_model(sees_a_window(48))
    config = {"max_steps": 3, "per_device_train_batch_size": 1}
    folder = train(quick(tiny_model, data, **config))
    report = shortcuts(folder)["share_prefix"]
    assert report["on"]
    assert losses(folder) == pytest.approx(
        losses(train(quick(tiny_model, data, share_prefix="off", **config))), abs=1e-5
    )


def test_a_table_that_ends_in_mid_run_ends_sharing_and_not_the_run(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pairs side by side are longer than any pair that was checked."""

    def ends_at(forward: Forward) -> Forward:
        def changed(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            if input_ids.shape[1] > 100:
                raise IndexError("index 100 is out of range")
            return forward(*args, input_ids=input_ids, **kwargs)

        return changed

    data = pairs_of(tmp_path / "pairs.jsonl", [16] * 8)
    from dpo_tui.train.shortcuts import prefix_sharing
    from dpo_tui.train.shortcuts.pair_layout import LayoutCost

    monkeypatch.setattr(prefix_sharing, "layout_cost", lambda model, backbone: LayoutCost(token=1.0, attention=0.0))
    monkeypatch.setattr("dpo_tui.train.shortcuts.equivalence_check._CPU_PROMPT_TOKENS", 4)
    changed_model(ends_at)
    config = {"max_steps": 3, "per_device_train_batch_size": 4}
    folder = train(quick(tiny_model, data, **config))
    report = shortcuts(folder)["share_prefix"]
    assert not report["on"]
    assert "the model refuses it: IndexError: index 100 is out of range" in report["why"]
    # A float32 rounding apart: on a busy machine torch has split a sum between its threads in another way.
    plain = losses(train(quick(tiny_model, data, share_prefix="off", **config)))
    assert losses(folder) == pytest.approx(plain, abs=1e-6)


def test_what_is_random_in_training_is_found_by_computing_twice(
    home: Path, tiny_model: Path, tiny_pairs: Path, changed_model: Any
) -> None:
    """No rate says so; disable_dropout = true has not switched it off, and the run says that it has not."""
    changed_model(adds_noise_in_training)
    folder = train(quick(tiny_model, tiny_pairs))
    report = shortcuts(folder)
    assert not report["share_prefix"]["on"]
    assert "two passes over one batch in training mode differ" in report["share_prefix"]["why"]
    assert "disable_dropout = true does not reach everything that is random" in warnings_of(folder)


def test_a_check_changes_no_random_number_of_the_training(
    home: Path, tiny_model: Path, tiny_pairs: Path, changed_model: Any
) -> None:
    """With dropout that is not to be switched off, the losses are those of a run whose checks were left out."""
    from tests.support.trained_both_ways import ours, plain_trl

    config = quick(tiny_model, tiny_pairs, disable_dropout=False, lora_dropout=0.2, max_steps=3)
    plain, mine = plain_trl(config), ours(config)
    for theirs, own in zip(plain.log, mine.log, strict=True):
        assert own["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def depends_on_the_longest_row(forward: Forward) -> Forward:
    """As RoPE that is scaled with the batch, in a model of whose code nothing is known."""

    def changed(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        outputs = forward(*args, input_ids=input_ids, **kwargs)
        positions = kwargs.get("position_ids")
        longest = input_ids.shape[1] if positions is None else int(positions.max()) + 1
        outputs.last_hidden_state = outputs.last_hidden_state * (1 + longest / 1000)
        return outputs

    return changed


def test_a_reference_that_depends_on_the_batch_is_scored_in_every_step(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any
) -> None:
    data = pairs_of(tmp_path / "pairs.jsonl", [4] * 5 + [60])
    changed_model(depends_on_the_longest_row)
    settings = {"max_steps": None, "num_train_epochs": 3, "per_device_train_batch_size": 2}
    folder = train(quick(tiny_model, data, precompute_ref_log_probs="auto", **settings))
    report = shortcuts(folder)
    assert not report["reference_once"]["on"]
    assert "with a longer row in the batch" in report["reference_once"]["why"]
    assert losses(folder) == pytest.approx(losses(train(quick(tiny_model, data, **settings))), abs=1e-5)
    assert losses(folder)[1] == pytest.approx(0.6931, abs=1e-4)


def test_asked_for_it_is_scored_once_with_a_warning_and_not_kept(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any
) -> None:
    from dpo_tui.train.shortcuts import reference_cache

    data = pairs_of(tmp_path / "pairs.jsonl", [4] * 5 + [60])
    changed_model(depends_on_the_longest_row)
    folder = train(quick(tiny_model, data, precompute_ref_log_probs="on", per_device_train_batch_size=2))
    assert shortcuts(folder)["reference_once"]["on"]
    assert "The reference's scores are not those of the steps" in warnings_of(folder)
    assert not list(reference_cache.folder().glob("*.safetensors"))


def test_a_reference_that_draws_random_numbers_is_scored_in_every_step(
    home: Path, tiny_model: Path, tiny_pairs: Path, changed_model: Any
) -> None:
    changed_model(adds_noise_in_training)
    folder = train(quick(tiny_model, tiny_pairs, precompute_ref_log_probs="auto", max_steps=None, num_train_epochs=2))
    report = shortcuts(folder)["reference_once"]
    assert not report["on"]
    assert "the reference draws random numbers in training" in report["why"]


def test_full_fine_tuning_ends_where_a_reference_scored_once_would_be_wrong(
    home: Path, tiny_model: Path, tmp_path: Path, changed_model: Any
) -> None:
    """By then TRL has made no reference model; the run says what to set instead of training on other scores."""
    data = pairs_of(tmp_path / "pairs.jsonl", [4] * 5 + [60])
    changed_model(depends_on_the_longest_row)
    settings = {"max_steps": None, "num_train_epochs": 3, "per_device_train_batch_size": 2, "use_lora": False}
    with pytest.raises(TrainingError, match="the reference cannot be scored once"):
        train(quick(tiny_model, data, precompute_ref_log_probs="auto", **settings))
