"""The worker trains for real, on the CPU, with a model of two layers."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.advice.diagnose import diagnose
from dpo_tui.errors import DataError, TrainingError
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.training import lines, losses, make_config, make_run, train

# What trl 1.16 logs at every step of DPO.
TRL_KEYS = {
    "loss", "grad_norm", "learning_rate", "entropy", "num_tokens", "logits/chosen", "logits/rejected",
    "mean_token_accuracy", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
    "logps/chosen", "logps/rejected",
}  # fmt: skip


def test_a_run_leaves_everything_the_contract_names(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Phases in order, every TRL metric and its eval twin, adapter, receipt, card, samples."""
    folder = train(make_config(tiny_model, tiny_pairs))

    phases = [event["phase"] for event in lines(folder.events) if event["kind"] == "phase"]
    steps = [phase for phase in phases if phase in {"load-model", "add-adapters", "load-pairs", "train", "save"}]
    assert list(dict.fromkeys(steps)) == ["load-model", "add-adapters", "load-pairs", "train", "save"]

    metrics = lines(folder.metrics)
    assert {line["step"] for line in metrics if "loss" in line} == {1, 2, 3, 4, 5, 6}
    assert set(next(line for line in metrics if "loss" in line)) >= TRL_KEYS | {"step_seconds", "tokens_per_second"}
    evaluations = [line for line in metrics if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [0, 2, 4, 6]
    assert {f"eval_{key}" for key in TRL_KEYS - {"loss", "grad_norm", "learning_rate"}} <= set(evaluations[0])
    assert evaluations[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]

    receipt = json.loads(folder.receipt.read_text())
    assert receipt["data"]["rows"] == 40
    assert receipt["data"]["train"] + receipt["data"]["held_out"] == 40
    assert receipt["results"]["steps"] == 6
    assert {sample["when"] for sample in lines(folder.samples)} >= {"before", "reference", "after"}
    assert f"for `{tiny_model.name}`, trained with Direct Preference Optimization" in folder.model_card.read_text()
    assert json.loads(folder.progress.read_text())["phase"] == "done"
    assert not list(folder.adapter.glob("*.bin")), "an adapter must load without unpickling anything"


@pytest.mark.slow
def test_the_adapter_loads_with_peft_in_a_fresh_process(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = train(make_config(tiny_model, tiny_pairs, max_steps=1, eval_split=0.0, sample_prompts=0))
    script = (
        "import sys; from peft import PeftModel; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "base = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "model = PeftModel.from_pretrained(base, sys.argv[2]); AutoTokenizer.from_pretrained(sys.argv[2])\n"
        "print(sum(p.numel() for n, p in model.named_parameters() if 'lora_' in n))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_model), str(folder.adapter)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) > 0


def test_four_bit_trains_an_adapter_over_nf4_weights(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Real bitsandbytes NF4, on the CPU."""
    folder = train(make_config(tiny_model, tiny_pairs, use_4bit=True, max_steps=2, eval_split=0.0, sample_prompts=0))
    assert losses(folder)[1] == pytest.approx(math.log(2), abs=1e-3)
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_attention_without_a_gradient_here_ends_the_run_in_words(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """Torch says so in the first step, after minutes of loading."""
    with pytest.raises(TrainingError, match=r"flex_attention.*GPUs only"):
        train(make_config(tiny_model, tiny_pairs, attn_implementation="flex_attention"))


@pytest.mark.parametrize("settings", [{}, {"kl_prompts": 0}, {"kl_prompts": 0, "eval_split": 0.0}])
def test_a_base_model_that_computes_no_numbers_ends_the_run_in_words_before_anything_is_saved(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """At the evaluation before step 1, or else at step 1, whose loss is of the base model as well."""
    from safetensors.torch import load_file, save_file

    damaged = Path(shutil.copytree(tiny_model, tmp_path / "damaged"))
    weights = load_file(damaged / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][3, 5] = math.nan
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    config = make_config(damaged, tiny_pairs, **settings)
    folder = make_run(config)
    with pytest.raises(TrainingError, match="The base model computes no numbers on these rows"):
        train(config, folder)
    assert max(line["step"] for line in lines(folder.metrics)) <= 1
    assert not folder.adapter.exists()
    advice = diagnose(folder.path)[0]
    assert (advice.rule, dict(advice.remedy)) == ("nan", {}) and "before the first update" in advice.message


def test_full_fine_tuning_saves_a_whole_model(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = train(make_config(tiny_model, tiny_pairs, use_lora=False, max_steps=2, eval_split=0.0, sample_prompts=0))
    assert (folder.merged / "model.safetensors").is_file()
    assert not folder.adapter.exists()


def test_stage_one_trains_on_demonstrations(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Strategy sft, same folder, same metrics file."""
    rows = [
        {"messages": [{"role": "user", "content": f"help {n}"}, {"role": "assistant", "content": "thank you"}]}
        for n in range(20)
    ]
    data = tmp_path / "demonstrations.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(make_config(tiny_model, data, strategy="sft", max_steps=4))
    found = losses(folder)
    assert found[4] < found[1]
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_the_loss_is_the_formula(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """−log σ(margin), where the margin is β times the difference of the log-ratios to the frozen base."""
    config = make_config(
        tiny_model, tiny_pairs, per_device_train_batch_size=1, beta=0.3, max_steps=4, eval_split=0.0, sample_prompts=0
    )
    for line in lines(train(config).metrics):
        if "loss" in line:
            margin = line["rewards/chosen"] - line["rewards/rejected"]
            assert line["rewards/margins"] == pytest.approx(margin, abs=1e-6)
            assert line["loss"] == pytest.approx(math.log1p(math.exp(-margin)), abs=1e-6)


def test_a_stopped_run_resumes_to_the_same_losses(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Optimizer, schedule, random numbers and data order all come back: ≤ 1e-4 apart at every remaining step."""
    config = make_config(tiny_model, tiny_pairs, gradient_accumulation_steps=2, max_steps=8, save_steps=100)
    whole = losses(train(config))

    folder = make_run(config)
    with pytest.raises(StopRequested):
        train(config, folder, _StopAtStep3(folder))
    assert newest_complete(folder.checkpoints)[0] == folder.checkpoints / "checkpoint-3"
    train(config, folder)

    resumed = losses(folder)
    assert set(resumed) == set(whole) == set(range(1, 9))
    assert max(abs(resumed[step] - whole[step]) for step in whole) <= 1e-4
    assert [line["step"] for line in lines(folder.metrics) if "eval_loss" in line].count(0) == 1


class _StopAtStep3(StopRequests):
    """Someone asks for a stop while the third step runs."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self.metrics = folder.metrics

    def stop_wanted(self) -> bool:
        return self.metrics.exists() and lines(self.metrics)[-1]["step"] == 2


def test_a_stop_before_the_first_step_leaves_nothing_to_save(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs)
    folder = make_run(config)
    (folder.control / "stop").touch()
    with pytest.raises(StopRequested):
        train(config, folder)
    assert newest_complete(folder.checkpoints) == (None, [])


def test_a_torn_checkpoint_is_skipped_and_named(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs, eval_split=0.0, sample_prompts=0)
    folder = train(config)
    newest = folder.checkpoints / "checkpoint-6"
    (newest / "optimizer.pt").write_bytes(b"half a file")
    assert newest_complete(folder.checkpoints) == (folder.checkpoints / "checkpoint-4", [newest])

    train(config, folder)
    messages = [event["message"] for event in lines(folder.events)]
    assert "checkpoint-6 is incomplete and is not used" in messages
    assert "Resuming from step 4" in messages


def test_a_checkpoint_on_request_does_not_stop_the_run(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs, save_steps=100, max_steps=3, eval_split=0.0, sample_prompts=0)
    folder = make_run(config)
    (folder.control / "checkpoint").touch()
    train(config, folder)
    saved = [event["step"] for event in lines(folder.events) if event["kind"] == "checkpoint"]
    assert saved == [1, 3]


def test_only_as_many_checkpoints_stay_as_asked_for(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = make_config(tiny_model, tiny_pairs, save_steps=1, save_total_limit=2, eval_split=0.0, sample_prompts=0)
    folder = train(config)
    assert {path.name for path in folder.checkpoints.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-6"}


def test_pairs_that_trl_drops_are_counted(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"help {n}", "chosen": "thank you", "rejected": "late"} for n in range(8)]
    rows += [{"prompt": "help " * 200, "chosen": "thank you", "rejected": "late"}]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(make_config(tiny_model, data, eval_split=0.0, sample_prompts=0, max_steps=1, max_seq_length=64))
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["data"]["train"], receipt["data"]["too_long"]) == (8, 1)
    assert any("1 pairs dropped" in event["message"] for event in lines(folder.events))


def test_answers_that_are_cut_are_counted_and_named(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The collator of TRL cuts them without a word, in every batch anew."""
    long, short = " word" * 90, "Yes."
    rows = [
        {"prompt": f"q{number}", "chosen": short + (long if number < 3 else ""), "rejected": f"No {number}."}
        for number in range(8)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(make_config(tiny_model, data, eval_split=0.0, sample_prompts=0, max_steps=1, max_seq_length=64))
    used = json.loads(folder.receipt.read_text())["data"]
    assert (used["train"], used["answers_cut"], used["chosen_longer"]) == (8, 3, 3)
    (event,) = [event for event in lines(folder.events) if event.get("rule") == "answers-cut"]
    assert (event["kind"], event["rows"], event["of"]) == ("warning", 3, 8)


def test_a_tokenizer_without_a_template_gets_chatml_and_the_run_says_so(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    folder = train(make_config(bare, tiny_pairs, max_steps=1, eval_split=0.0))
    assert any("ChatML" in event["message"] for event in lines(folder.events))
    assert "<|im_start|>" in (folder.adapter / "chat_template.jinja").read_text()


def test_data_that_cannot_be_used_ends_before_the_model_is_loaded(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"question": "?"}\n')
    config = make_config(tiny_model, data)
    folder = make_run(config)
    with pytest.raises(DataError):
        train(config, folder)
    assert not folder.metrics.exists()
