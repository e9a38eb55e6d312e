"""After every save the result is read again: dead ones are named, and what is alive is left alone."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train import run_training as worker
from dpo_tui.train.export.liveness import Liveness, liveness_of, product_norm
from tests.support import tiny
from tests.support.training import finished_run, lines, make_config, make_run, train

QUICK = {"eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0}
ADAPTER = "adapter_model.safetensors"


def warnings_of(folder: RunFolder, rule: str) -> list[dict[str, Any]]:
    return [event for event in lines(folder.events) if event.get("rule") == rule]


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor], file: str = ADAPTER) -> Path:
    weights = {name: change(name, weight) for name, weight in load_file(folder / file).items()}
    save_file(weights, folder / file, metadata={"format": "pt"})
    return folder


def test_the_norm_of_a_product_is_that_of_the_product() -> None:
    torch.manual_seed(0)
    second, first = torch.randn(30, 4), torch.randn(4, 20)
    assert product_norm(second, first) == pytest.approx(float((second @ first).norm()), rel=1e-5)
    assert product_norm(second * 1e-30, first) > 0, "squares of small numbers are zero in fp32"
    assert product_norm(torch.zeros(30, 4), first) == 0


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a run of three steps, with the embedding trained whole."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_TUI_HOME", str(home))
        return finished_run(tiny_model, tiny_pairs, **QUICK, modules_to_save=["embed_tokens"]).adapter


def test_an_adapter_that_learnt_is_alive_and_its_norm_is_that_of_the_change(adapter: Path, tiny_model: Path) -> None:
    found = liveness_of(adapter, tiny_model)
    assert not found.problem() and not found.doubts()
    weights, scale = load_file(adapter / ADAPTER), 2.0  # lora_alpha over lora_r
    squares = sum(
        float((scale * weights[name] @ weights[name.replace("lora_B", "lora_A")]).norm() ** 2)
        for name in weights
        if "lora_B" in name
    )
    assert found.parts[0].norm == pytest.approx(math.sqrt(squares), rel=1e-5)
    start = load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"]
    (whole,) = (weight for name, weight in weights.items() if "embed_tokens" in name)
    assert found.parts[1].norm == pytest.approx(float((whole - start).norm()), rel=1e-4)


DEAD: dict[str, tuple[Callable[[str, torch.Tensor], torch.Tensor], str]] = {
    "NaN in one entry": (
        lambda name, weight: weight.index_fill(0, torch.tensor([1]), math.nan) if "0.mlp.up_proj" in name else weight,
        "NaN or infinity",
    ),
    "infinity": (lambda name, weight: weight / 0 if "lora_B" in name else weight, "NaN or infinity"),
}


@pytest.mark.parametrize("case", sorted(DEAD))
def test_an_adapter_with_one_bad_number_is_dead(adapter: Path, tiny_model: Path, tmp_path: Path, case: str) -> None:
    change, said = DEAD[case]
    dead = rewrite(shutil.copytree(adapter, tmp_path / "dead"), change)
    assert said in liveness_of(dead, tiny_model).problem(trained=False)


def test_each_part_that_was_not_trained_is_named_and_all_of_them_are_death(
    adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    start = load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"]

    def zero(name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight * 0 if "lora_B" in name else weight

    def reset(name: str, weight: torch.Tensor) -> torch.Tensor:
        return start.clone() if "embed_tokens" in name else weight

    no_matrices = rewrite(shutil.copytree(adapter, tmp_path / "one"), zero)
    no_embedding = rewrite(shutil.copytree(adapter, tmp_path / "other"), reset)
    assert ["the LoRA matrices of 14 layers are still" in text for text in doubts(no_matrices, tiny_model)] == [True]
    assert ["embed_tokens, trained whole, are still" in text for text in doubts(no_embedding, tiny_model)] == [True]
    nothing = liveness_of(rewrite(no_matrices, reset), tiny_model)
    assert "nothing has changed since the start" in nothing.problem()
    assert not nothing.problem(trained=False), "before the first step with a rate above zero that is as it must be"


def doubts(folder: Path, base: Path) -> list[str]:
    found = liveness_of(folder, base)
    assert not found.problem()
    return found.doubts()


def test_an_embedding_that_bf16_held_is_compared_with_the_rounded_one(
    adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Saved in fp32, it differs from the base's file by rounding alone: that is no training."""
    start = load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"]
    rounded = rewrite(
        shutil.copytree(adapter, tmp_path / "rounded"),
        lambda name, weight: start.bfloat16().float() if "embed_tokens" in name else weight,
    )
    assert "embed_tokens" in doubts(rounded, tiny_model)[0]


def test_what_cannot_be_compared_is_said_and_is_no_death(adapter: Path, tmp_path: Path) -> None:
    found = liveness_of(adapter, None)
    assert not found.problem()
    assert "could not be compared" in found.doubts()[0]
    random = shutil.copytree(adapter, tmp_path / "random")
    settings = json.loads((random / "adapter_config.json").read_text())
    (random / "adapter_config.json").write_text(json.dumps(settings | {"init_lora_weights": "pissa"}))
    zeros = rewrite(random, lambda name, weight: weight * 0 if "lora_B" in name else weight)
    assert not liveness_of(zeros, None).problem(), "with such a start zero is no sign"


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"lora_target_modules": ["embed_tokens", "q_proj"]}])
def test_other_kinds_of_adapter(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = finished_run(tiny_model, tiny_pairs, **QUICK, **changes)
    assert not liveness_of(folder.adapter, tiny_model).problem()
    assert not liveness_of(folder.adapter, tiny_model).doubts()
    zero = rewrite(
        shutil.copytree(folder.adapter, tmp_path / "zero"),
        lambda name, weight: weight * 0 if "lora_B" in name or "embedding_B" in name else weight,
    )
    if "use_dora" not in changes:
        assert liveness_of(zero, tiny_model).problem()
        return
    assert not liveness_of(zero, tiny_model).problem(), "its magnitudes have moved"
    weights = load_file(tiny_model / "model.safetensors")
    start = rewrite(
        zero,
        lambda name, weight: (
            weights[name.removeprefix("base_model.model.").replace("lora_magnitude_vector", "weight")].norm(dim=1)
            if "magnitude" in name
            else weight
        ),
    )
    assert "nothing has changed" in liveness_of(start, tiny_model).problem()


@pytest.fixture
def without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimizer that does nothing, as a save of another object than the trained one looks afterwards."""
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)


@pytest.mark.parametrize("use_lora", [True, False], ids=["adapter", "full"])
def test_a_dead_checkpoint_is_warned_of_and_a_dead_result_is_not_kept(
    home: Path, tiny_model: Path, tiny_pairs: Path, without_steps: None, use_lora: bool
) -> None:
    config = make_config(tiny_model, tiny_pairs, **QUICK, use_lora=use_lora, max_steps=4, warmup_ratio=0.0)
    folder = make_run(config)
    with pytest.raises(TrainingError, match="The result is dead: nothing has changed since the start"):
        train(config, folder)
    assert [event["step"] for event in warnings_of(folder, "dead-checkpoint")] == [2, 4]
    assert not folder.has_result and not list(folder.path.glob(".*.partial"))


def test_before_the_learning_rate_has_left_zero_nothing_needs_to_have_changed(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """The first step of a warm-up has the rate zero."""
    config = make_config(tiny_model, tiny_pairs, **QUICK, max_steps=2, save_steps=1, warmup_ratio=0.5)
    folder = train(config)
    assert not warnings_of(folder, "dead-checkpoint")
    one = train(make_config(tiny_model, tiny_pairs, **QUICK, max_steps=1, warmup_ratio=0.9))
    assert [event["message"][:42] for event in warnings_of(one, "untrained-result")] == [
        "No step had a learning rate above zero: th"
    ]


def test_the_sum_of_learning_rates_is_kept_over_a_resume(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that a resume makes without a step of its own is held to the steps before."""
    config = make_config(tiny_model, tiny_pairs, **QUICK, max_steps=4)
    folder = train(config)
    state = json.loads((folder.checkpoints / "checkpoint-4" / "trainer_state.json").read_text())
    kept = state["stateful_callbacks"]["RunCallback"]["attributes"]["learning_rate_sum"]
    rates = [line["learning_rate"] for line in lines(folder.metrics) if "learning_rate" in line]
    assert kept == pytest.approx(sum(rates)) and len(rates) == 4
    seen: list[float] = []
    monkeypatch.setattr(worker.SaveCheck, "check_result", lambda self, path, total: seen.append(total))
    train(config, folder)
    assert seen == [pytest.approx(kept)]


def full(home_model: Path, pairs: Path, dtype: torch.dtype, **changes: Any) -> RunFolder:
    """Full fine-tuning with its weights in another precision, as Unsloth holds them."""
    load = worker.load_model
    config = make_config(home_model, pairs, **QUICK, use_lora=False, max_steps=2, warmup_ratio=0.0, **changes)
    folder = make_run(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "load_model", lambda *arguments, **options: load(*arguments, **options).to(dtype))
        try:
            train(config, folder)
        except TrainingError as error:
            (folder.path / "failure").write_text(error.message)
    return folder


def test_updates_that_bf16_rounds_to_nothing_are_named(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = full(tiny_model, tiny_pairs, torch.bfloat16, learning_rate=1e-12)
    assert "in 16 bits, updates of this size round to nothing" in (folder.path / "failure").read_text()
    assert "round to nothing" in warnings_of(folder, "dead-checkpoint")[0]["message"]


def test_most_updates_that_bf16_rounds_to_nothing_are_named_once(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """At a usual rate the small weights move and the others do not."""
    folder = full(tiny_model, tiny_pairs, torch.bfloat16, learning_rate=5e-7, save_steps=1)
    assert folder.merged.is_dir()
    (said,) = warnings_of(folder, "unchanged-weights")
    assert "16 bits round most updates" in said["message"]


@pytest.mark.parametrize("rate", [5e-7, 1e-5])
def test_full_fine_tuning_in_fp32_moves_at_rates_that_bf16_rounds_away(
    home: Path, tiny_model: Path, tiny_pairs: Path, rate: float
) -> None:
    config = make_config(tiny_model, tiny_pairs, **QUICK, use_lora=False, max_steps=2, learning_rate=rate)
    folder = train(config)
    assert not warnings_of(folder, "unchanged-weights") and not warnings_of(folder, "dead-checkpoint")
    (said,) = [event for event in lines(folder.events) if "was read again" in event["message"]]
    assert "the weights have changed by a norm of" in said["message"]


def test_a_change_outside_the_sample_is_found(tiny_model: Path, tmp_path: Path) -> None:
    """That a model has not changed is said only when all of it was read."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    big = {"big": torch.zeros(3000, 64)}
    save_file(big, tiny_copy := tmp_path / "base.safetensors")
    base = tmp_path / "base"
    base.mkdir()
    shutil.move(tiny_copy, base / "model.safetensors")
    big["big"][700, 3] = 1.0
    save_file(big, folder / "model.safetensors")
    found = liveness_of(folder, base)
    assert found.parts[0].norm == 1.0 and not found.problem()
    big["big"][700, 3] = 0.0
    save_file(big, folder / "model.safetensors")
    assert liveness_of(folder, base).problem()


def test_shards_and_files_without_the_prefix_of_the_model_are_compared(tiny_model: Path, tmp_path: Path) -> None:
    sharded = tiny.save_sharded(tiny_model, tmp_path / "sharded")
    base = shutil.copytree(tiny_model, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    save_file({name.removeprefix("model."): weight for name, weight in weights.items()}, base / "model.safetensors")
    found = liveness_of(sharded, base)
    assert found.parts[0].share == 0 and "nothing has changed" in found.problem()
    (sharded / "model-00002-of-00010.safetensors").unlink(missing_ok=True)
    shard = sorted(sharded.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(TrainingError, match="is not there"):
        liveness_of(sharded, base)


def test_pickled_weights_of_a_base_are_compared_too(tiny_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    torch.save(load_file(tiny_model / "model.safetensors"), base / "pytorch_model.bin")
    assert "nothing has changed" in liveness_of(tiny_model, base).problem()


def test_a_sentence_names_every_part() -> None:
    assert Liveness((), ()).sentence() == "no NaN"
