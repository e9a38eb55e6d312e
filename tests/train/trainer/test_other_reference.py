"""A reference other than the start (``ref_model``): exact against TRL, in steps or once, in `eval` and a resume."""

import gc
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.advice.diagnose import diagnose
from dpo_tui.config.schema import Config
from dpo_tui.runs.atomic_files import read_json
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import Trained, ours
from tests.support.training import lines, losses, make_config, make_run, train

STEPS = 12
COMPARED = ("loss", "grad_norm", "logps/chosen", "rewards/chosen", "rewards/rejected", "rewards/margins")


@pytest.fixture(scope="module")
def reference(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another width and depth with the tokenizer of the tiny one."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("reference") / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(5)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shuffle = random.Random(3)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"prompt": f"{n} {text(12)}", "chosen": text(20), "rejected": text(12)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    words = random.Random(4)
    rows = [
        {"prompt": f"{n} how do i", "completion": " ".join(words.choices(WORDS, k=3 + n % 7)), "label": n % 2 == 0}
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(model: Path, data: Path, reference: Path, **changes: Any) -> Config:
    values = {
        "ref_model": str(reference), "max_steps": STEPS, "max_seq_length": 48, "learning_rate": 5e-3, "eval_split": 0.0,
        "sample_prompts": 0, "kl_prompts": 0, "save_steps": 1000,
    }  # fmt: skip
    return make_config(model, data, **(values | changes))


def plain_trl(config: Config) -> Trained:
    """TRL's own trainer, the reference loaded by transformers alone."""
    from transformers import AutoModelForCausalLM, set_seed

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import TRAINERS

    entry, device = TRAINERS[config.strategy], choose_device(config)
    arguments = entry.arguments(config, make_run(config), device, evaluates=False, resumes=False)
    arguments.save_strategy, arguments.precompute_ref_log_probs = "no", False
    set_seed(config.seed)
    return Trained(
        entry.trainer(
            model=load_model(config, device),
            ref_model=AutoModelForCausalLM.from_pretrained(str(config.ref_model), dtype=torch.float32),
            args=arguments,
            train_dataset=load_datasets(config).train,
            processing_class=load_tokenizer(config)[0],
            peft_config=lora_config(config),
        )
    )


def largest_difference(one: Trained, other: Trained) -> float:
    assert len(one.log) == len(other.log) == STEPS
    both = [name for name in COMPARED if name in one.log[0] and name in other.log[0]]
    assert len(both) >= 4
    steps = zip(one.log, other.log, strict=True)
    return float(max(abs(mine[name] - theirs[name]) for mine, theirs in steps for name in both))


@pytest.mark.parametrize("precompute", ["on", "off"])
@pytest.mark.parametrize("trained", [{"use_lora": True}, {"use_lora": False, "learning_rate": 1e-3}], ids=str)
@pytest.mark.usefixtures("home")
def test_every_step_is_trls_with_that_reference(
    tiny_model: Path, pairs: Path, reference: Path, trained: dict[str, Any], precompute: str
) -> None:
    config = config_of(tiny_model, pairs, reference, precompute_ref_log_probs=precompute, **trained)
    plain, mine = plain_trl(config), ours(config)
    assert largest_difference(plain, mine) <= 1e-4
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
    assert abs(plain.log[0]["loss"] - 0.6931) > 0.01, "the reference is the start, so nothing is compared"
    assert mine.trainer.shortcuts.report()["reference_once"]["on"] == (precompute == "on")
    assert mine.trainer.shortcuts.report()["share_prefix"]["on"], "prompts are shared in both models"


@pytest.mark.parametrize("precompute", ["on", "off"])
def test_every_step_of_kto_is_trls_with_that_reference(
    home: Path, tiny_model: Path, answers: Path, reference: Path, precompute: str
) -> None:
    settings = {"strategy": "kto", "per_device_train_batch_size": 4, "precompute_ref_log_probs": precompute}
    config = config_of(tiny_model, answers, reference, **settings)
    plain, mine = plain_trl(config), ours(config)
    assert largest_difference(plain, mine) <= 1e-4
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
    assert (mine.trainer.ref_model is None) == (precompute == "on"), "a reference that was scored is let go"


def test_a_reference_that_is_scored_once_leaves_memory_and_its_scores_are_kept(
    home: Path, tiny_model: Path, pairs: Path, reference: Path
) -> None:
    config = config_of(tiny_model, pairs, reference, precompute_ref_log_probs="on", max_steps=2)
    trainer = ours(config.model_copy(update={"kl_prompts": 0})).trainer
    gc.collect()
    widths = [module.config.hidden_size for module in gc.get_objects() if type(module).__name__ == "LlamaModel"]
    assert trainer.model.config.hidden_size in widths
    assert 48 not in widths, "the trainer still holds the model of the reference"
    del trainer
    shutil.rmtree(home / "cache")
    folder, again = train(config), train(config)
    kept = [(read_json(run.receipt) or {})["shortcuts"]["reference_once"] for run in (folder, again)]
    assert [one["kept_from_before"]["train"] for one in kept] == [False, True]
    assert losses(again) == losses(folder)
    other = train(config.model_copy(update={"ref_model": None}))
    assert losses(other)[1] == pytest.approx(0.6931, abs=1e-3), "the scores of another reference were taken"


def test_a_run_with_it_says_so_evaluates_alike_resumes_and_is_not_called_broken(
    home: Path, tiny_model: Path, tiny_pairs: Path, reference: Path
) -> None:
    """The start is not ln 2, and neither the receipt, nor `eval`, nor the advice takes another reference for it."""
    from dpo_tui.train.tools.evaluate_run import evaluate

    config = config_of(
        tiny_model,
        tiny_pairs,
        reference,
        max_steps=6,
        save_steps=2,
        save_total_limit=3,
        eval_split=0.2,
        kl_prompts=4,
        learning_rate=1e-3,
    )
    whole = train(config)
    measured = [line for line in lines(whole.metrics) if "eval_loss" in line]
    assert abs(measured[0]["eval_loss"] - 0.6931) > 0.01
    receipt = read_json(whole.receipt) or {}
    assert receipt["reference"] == {"model": str(reference), "revision": None}
    found = evaluate({"run": str(whole.path), "data": None, "kl_prompts": 4}, lambda kind, message: None)
    for name in ("eval_loss", "eval_rewards/margins", "eval_rewards/chosen", "eval_kl"):
        expected = next(line[name] for line in reversed(lines(whole.metrics)) if name in line)
        assert found["metrics"][name] == pytest.approx(expected, abs=1e-4), name
    assert "wrong-reference" not in {advice.rule for advice in diagnose(whole.path)}
    unnamed = Path(shutil.copytree(whole.path, whole.path.with_name("unnamed")))
    settings = (unnamed / "config.toml").read_text()
    (unnamed / "config.toml").write_text(re.sub(r"(?m)^ref_model = .*$", "", settings))
    assert "wrong-reference" in {advice.rule for advice in diagnose(unnamed)}
    shutil.rmtree(unnamed)

    expected, folder = losses(whole), whole
    for path in (folder.checkpoints / "checkpoint-4", folder.checkpoints / "checkpoint-6", folder.adapter):
        shutil.rmtree(path)
    folder.metrics.unlink()
    train(config, folder)
    assert losses(folder) == pytest.approx({step: expected[step] for step in (3, 4, 5, 6)}, abs=1e-5)


def test_kl_is_measured_to_that_reference_or_not_at_all(
    home: Path, tiny_model: Path, tiny_pairs: Path, reference: Path
) -> None:
    """With an adapter, the policy without it is the start and not the reference."""
    settings = {"eval_split": 0.2, "kl_prompts": 4, "max_steps": 2, "learning_rate": 1e-5}
    kept = train(config_of(tiny_model, tiny_pairs, reference, precompute_ref_log_probs="off", **settings))
    first = next(line["eval_kl"] for line in lines(kept.metrics) if "eval_kl" in line)
    assert first > 0.5, "before the first step KL to the start is 0, to this reference it is not"
    gone = train(config_of(tiny_model, tiny_pairs, reference, precompute_ref_log_probs="on", **settings))
    assert not any("eval_kl" in line for line in lines(gone.metrics))
    assert "KL is not estimated" in gone.events.read_text()


def test_full_fine_tuning_that_scored_its_reference_once_trains_without_the_estimate(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    settings = {"use_lora": False, "precompute_ref_log_probs": "on", "eval_split": 0.2, "kl_prompts": 4, "max_steps": 1}
    folder = train(make_config(tiny_model, tiny_pairs, **settings))
    assert "KL is not estimated" in folder.events.read_text()
