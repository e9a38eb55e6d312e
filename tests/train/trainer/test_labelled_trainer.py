"""KTO against TRL's own trainer, on the shipped sample, and through stop, resume and merge."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.demo import assets
from dpo_tui.errors import TrainingError
from dpo_tui.judging.run_prompts import run_prompts
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.strategies.kto import KTO
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.trained_both_ways import Trained, ours
from tests.support.training import lines, losses, make_config, make_run, train


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled answers of unlike lengths, two of three desirable, some with a prompt in common."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    rows = [
        {
            "prompt": f"how do i reset my password {'please ' * (n % 5)}{n // 3}",
            "completion": f"open the settings page {'and press the button ' * (n % 4)}{n}"
            if n % 3
            else f"thank you {n}",
            "label": bool(n % 3),
        }
        for n in range(61)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kto(model: Path, data: Path, **changes: Any) -> Config:
    values = {"strategy": "kto", "per_device_train_batch_size": 4, "kl_prompts": 0, "sample_prompts": 0}
    return make_config(model, data, **(values | changes))


def plain_trl(config: Config) -> Trained:
    """TRL's KTOTrainer with arguments that are written out here, on the same rows as TRL's columns."""
    from transformers import set_seed
    from trl import KTOConfig, KTOTrainer

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.run_datasets import load_datasets

    rows = load_datasets(config)
    arguments = KTOConfig(
        output_dir=str(make_run(config).checkpoints),
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_eval_batch_size or config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_ratio,
        max_steps=config.max_steps or -1,
        max_length=config.max_seq_length,
        beta=config.beta,
        desirable_weight=config.desirable_weight,
        undesirable_weight=config.undesirable_weight,
        disable_dropout=config.disable_dropout,
        logging_steps=1,
        seed=config.seed,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    set_seed(config.seed)
    return Trained(
        KTOTrainer(
            model=load_model(config, choose_device(config)),
            args=arguments,
            train_dataset=rows.train,
            eval_dataset=rows.held_out,
            processing_class=load_tokenizer(config)[0],
            peft_config=lora_config(config),
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"desirable_weight": 0.6, "beta": 0.4, "gradient_accumulation_steps": 2},
        {"use_lora": False, "use_4bit": False, "learning_rate": 1e-4, "per_device_train_batch_size": 2},
        {"precompute_ref_log_probs": "off"},
    ],
    ids=["adapter", "weights and accumulation", "full", "the reference in each step"],
)
def test_ten_steps_are_those_of_trl(home: Path, tiny_model: Path, answers: Path, changes: dict[str, Any]) -> None:
    config = kto(tiny_model, answers, max_steps=10, **changes)
    plain, found = plain_trl(config), ours(config)
    assert found.trainer.shortcuts.on, "else the sparse head would not be compared"
    assert [line["step"] for line in found.log] == [line["step"] for line in plain.log] == list(range(1, 11))
    for mine, trls in zip(found.log, plain.log, strict=True):
        assert mine["loss"] == pytest.approx(trls["loss"], abs=1e-4)
        assert mine["kl_term"] == pytest.approx(trls["kl"], abs=1e-4)
        assert "kl" not in mine, "which is the name of the estimate from sampled answers"
        for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "entropy", "num_tokens"):
            assert mine.get(name) == pytest.approx(trls.get(name), abs=1e-3, rel=1e-5), name
    assert max(line["kl_term"] for line in found.log) > 0, "else the KL term would not be compared"
    assert torch.allclose(found.weights, plain.weights, atol=1e-5)
    evaluated, by_trl = found.trainer.evaluate(), plain.trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(by_trl["eval_loss"], abs=1e-4)


def test_the_kl_term_is_of_answers_to_other_prompts(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Of pairs in their order TRL would set each answer after its own prompt, with the pair's other answer."""
    config = kto(tiny_model, tiny_pairs, per_device_train_batch_size=2, max_steps=1)
    rows = list(ours(config).trainer.train_dataset)
    assert len(rows) == 72
    for first in range(0, len(rows), 2):
        one, other = rows[first : first + 2]
        assert one["KL_completion_ids"] == other["completion_ids"]
        assert one["prompt_ids"] != other["prompt_ids"]


def test_the_loss_begins_where_the_description_says(home: Path, tiny_model: Path, answers: Path) -> None:
    for changes in ({}, {"desirable_weight": 3.0, "undesirable_weight": 3.0}):
        log = ours(kto(tiny_model, answers, max_steps=1, **changes)).log
        assert log[0]["loss"] == pytest.approx(KTO.start_loss(changes), abs=1e-6)
    assert KTO.start_loss({"desirable_weight": 2.0}) is None, "it depends on the labels of the micro-batch"


@pytest.mark.slow
def test_it_learns_the_shipped_sample(home: Path) -> None:
    """Pairs as labelled answers: on prompts that were held out the good ones are preferred, where chance gives 0."""
    settings = {"learning_rate": 1e-3, "beta": 0.5, "lora_r": 16, "max_seq_length": 160, "max_samples": 300}
    batch = {"per_device_train_batch_size": 16, "gradient_checkpointing": False, "max_steps": 20, "eval_steps": 20}
    folder = train(kto(assets.model_dir(), assets.pairs_file(), **settings, **batch))
    before, after = [line for line in lines(folder.metrics) if "eval_loss" in line]
    assert (before["eval_loss"], before["eval_rewards/margins"]) == (pytest.approx(0.5), pytest.approx(0.0))
    assert after["eval_loss"] < 0.48
    assert after["eval_rewards/margins"] > 0.15


class _StopAfter(StopRequests):
    """A request to stop that appears after a number of steps."""

    def __init__(self, folder: Any, step: int) -> None:
        super().__init__(folder)
        self.folder_of_run, self.step = folder, step

    def stop_wanted(self) -> bool:
        found = losses(self.folder_of_run) if self.folder_of_run.metrics.exists() else {}
        return max(found, default=0) >= self.step


def test_a_stopped_run_resumes_to_the_same_losses(home: Path, tiny_model: Path, answers: Path) -> None:
    config = kto(tiny_model, answers, max_steps=20, eval_steps=10)
    whole = losses(train(config))
    folder = make_run(config)
    with pytest.raises(StopRequested):
        train(config, folder, _StopAfter(folder, 5))
    stopped = losses(folder)
    assert 5 <= max(stopped) < 20
    train(config, folder)
    resumed = losses(folder)
    assert set(resumed) == set(whole) == set(range(1, 21)), "more than one epoch of 14 steps"
    assert max(abs(resumed[step] - whole[step]) for step in whole) <= 1e-4


def test_the_result_is_merged_and_described(home: Path, tiny_model: Path, answers: Path) -> None:
    config = kto(tiny_model, answers, max_steps=3, learning_rate=1e-2, merge_at_end=True, undesirable_weight=2.0)
    from dpo_tui.train.tools.evaluate_run import evaluate

    folder = train(config)
    assert (folder.merged / "model.safetensors").exists()
    card = folder.model_card.read_text()
    assert "trained with Kahneman-Tversky Optimization" in card
    assert "β 0.1 · loss kto · weights 1 : 2" in card
    receipt = read_json(folder.receipt) or {}
    assert receipt["shortcuts"]["share_prefix"] == {"on": False, "why": "an example has one answer"}
    head = receipt["shortcuts"]["labelled_head"]
    assert head["on"] and head["positions"] < head["positions_plain"]
    assert any(note.startswith("labels: ") for note in receipt["data"]["notes"])
    assert run_prompts(folder, 2).held_out, "what judge and chat take"
    measured = evaluate({"run": str(folder.path), "data": None, "kl_prompts": 2}, lambda *_: None)
    assert (measured["examples"], measured["accuracy_stderr"]) == ("labelled answers", None)
    assert measured["metrics"].keys() >= {"eval_loss", "eval_kl", "eval_kl_term"}
    last = [line for line in lines(folder.metrics) if "eval_loss" in line][-1]
    assert measured["metrics"]["eval_loss"] == pytest.approx(last["eval_loss"], abs=1e-4)


def kept(trained: Trained) -> dict[str, bool]:
    report = trained.trainer.shortcuts.report()["reference_once"]
    assert report["on"]
    found: dict[str, bool] = report["kept_from_before"]
    return found


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full"])
def test_reference_scores_of_both_answers_are_kept_for_the_next_run(
    home: Path, tiny_model: Path, answers: Path, full: bool
) -> None:
    """The KL term's mismatched answers are made within a micro-batch: another one has scores of its own."""
    whole = {"use_lora": False, "use_4bit": False, "learning_rate": 1e-4} if full else {}
    during = ours(kto(tiny_model, answers, max_steps=4, precompute_ref_log_probs="off", **whole))
    once = {"precompute_ref_log_probs": "on", "max_steps": 4} | whole
    first, second = ours(kto(tiny_model, answers, **once)), ours(kto(tiny_model, answers, **once))
    assert (kept(first), kept(second)) == ({"train": False, "eval": False}, {"train": True, "eval": True})
    for line, scored, recalled in zip(during.log, first.log, second.log, strict=True):
        for name in ("loss", "kl_term", "rewards/margins"):
            assert scored.get(name) == pytest.approx(line.get(name), abs=1e-5)
            assert recalled.get(name) == scored.get(name)
    assert max(line["kl_term"] for line in first.log) > 0, "else the scores of the mismatched answers are not compared"
    if not full:
        assert kept(ours(kto(tiny_model, answers, **once, per_device_train_batch_size=2))) == dict.fromkeys(
            ("train", "eval"), False
        )
        assert kept(ours(kto(tiny_model, answers, **once, beta=0.3))) == {"train": True, "eval": True}


def test_the_reference_is_scored_once_by_itself_where_that_is_less_work(
    home: Path, tiny_model: Path, answers: Path
) -> None:
    folder = train(kto(tiny_model, answers, num_train_epochs=3, max_steps=30, eval_steps=10))
    once = (read_json(folder.receipt) or {})["shortcuts"]["reference_once"]
    assert once["on"] and "labelled answers scored instead of" in once["why"]
    assert once["kept_from_before"] == {"train": False, "eval": False}


def test_a_reference_that_draws_in_training_is_scored_in_the_steps(
    home: Path, tiny_model: Path, answers: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.5}))
    settings = {"num_train_epochs": 3, "disable_dropout": False, "lora_dropout": 0.0, "max_steps": 30}
    folder = train(kto(model, answers, **settings))
    once = (read_json(folder.receipt) or {})["shortcuts"]["reference_once"]
    assert not once["on"] and "the reference draws random numbers in training" in once["why"]


def test_one_answer_left_over_in_the_last_micro_batch_is_said(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "five.jsonl"
    rows = [{"prompt": f"order {n}", "completion": f"refund {n}", "label": n % 2 == 0} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(kto(tiny_model, path, max_steps=1, eval_split=0.0))
    notes = [line["message"] for line in lines(folder.events)]
    assert any("last micro-batch of the 5 training answers has one answer" in note for note in notes)


def test_labels_survive_the_way_to_trl(home: Path, tiny_model: Path, answers: Path) -> None:
    from dpo_tui.data.load_split import split_labelled
    from dpo_tui.train.trainer.run_datasets import load_datasets

    config = kto(tiny_model, answers)
    dataset = load_datasets(config).train
    rows = {(row["completion"][0]["content"], row["label"]) for row in dataset}
    wanted: list[LabelledAnswer] = split_labelled(config, download=False).train
    assert rows == {(row.completion[0]["content"], row.desirable) for row in wanted}
    assert {label for _, label in rows} == {True, False}


def test_a_trl_without_the_trainer_is_named(
    home: Path, tiny_model: Path, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.trainer import trainer_registry

    monkeypatch.delitem(trainer_registry.TRAINERS, "kto")
    with pytest.raises(TrainingError, match="has no trainer for strategy = kto") as refused:
        ours(kto(tiny_model, answers))
    assert "trl>=1.16" in (refused.value.hint or "")


def test_answers_are_tokenised_once_for_a_micro_batch_and_a_length(
    home: Path, tiny_model: Path, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The KL term's mismatched answers are made within a micro-batch: another one has other rows."""
    monkeypatch.setattr(token_cache, "FEWEST", 20)

    def train_with(**changes: Any) -> tuple[list[Any], bool]:
        folder = train(kto(tiny_model, answers, max_steps=3, eval_split=0.0, **changes))
        said = [event["message"] for event in lines(folder.events)]
        return losses(folder), any("61 answers are tokenised already, by an earlier run (train)" in one for one in said)

    (first, found_before), (second, found) = train_with(), train_with()
    assert (found_before, found) == (False, True)
    assert first == second
    assert not train_with(per_device_train_batch_size=2)[1]
    assert not train_with(max_seq_length=96)[1]
    monkeypatch.setattr(token_cache, "FEWEST", 1000)
    assert train_with() == (first, False), "the same as without the cache"
