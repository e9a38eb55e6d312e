"""What [trl], [peft] and [model_init] hold reaches the libraries, with shortcuts that stay exact, and the receipt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.demo.assets import model_dir
from dpo_tui.errors import TrainingError
from tests.support.trained_both_ways import ours, plain_trl
from tests.support.training import finished_run, lines, make_config, make_run

ROPE = {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}


def test_a_run_with_arguments_passed_on_trains_as_plain_trl_does(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    config = make_config(
        tiny_model, tiny_pairs, max_steps=4, learning_rate=1e-3, lora_target_modules=["q_proj", "v_proj"],
        lr_scheduler_type="cosine_with_min_lr", trl={"lr_scheduler_kwargs": {"min_lr_rate": 0.5}, "data_seed": 7},
        peft={"layers_to_transform": [0], "rank_pattern": {"q_proj": 3}}, model_init=ROPE,
    )  # fmt: skip
    plain, own = plain_trl(config), ours(config)
    assert [line["loss"] for line in own.log] == pytest.approx([line["loss"] for line in plain.log], abs=1e-5)
    assert own.trainer.args.data_seed == 7
    assert own.log[-1]["learning_rate"] >= 5e-4
    names = {name for name, weight in own.trainer.model.named_parameters() if weight.requires_grad}
    assert names and all(".layers.0." in name for name in names)
    assert {weight.shape[0] for name, weight in own.trainer.model.named_parameters() if "q_proj.lora_A" in name} == {3}
    assert own.trainer.model.config.rope_parameters["factor"] == 2.0


def test_noise_in_every_forward_leaves_no_shortcut_that_would_change_it(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    """NEFTune's noise depends on the length of a row, and TRL's reference has it too."""
    noisy = ours(make_config(tiny_model, tiny_pairs, max_steps=1, trl={"neftune_noise_alpha": 5}))
    report = noisy.trainer.shortcuts.report()
    assert (report["reference_once"]["on"], report["share_prefix"]["on"]) == (False, False)
    assert "neftune_noise_alpha" in report["reference_once"]["why"]
    assert abs(noisy.log[0]["loss"] - 0.6931) > 1e-3
    quiet = ours(make_config(tiny_model, tiny_pairs, max_steps=1)).trainer.shortcuts.report()
    assert quiet["share_prefix"]["on"]


def test_the_reference_of_full_fine_tuning_is_loaded_with_the_same_arguments(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    config = make_config(
        tiny_model, tiny_pairs, max_steps=1, use_lora=False, precompute_ref_log_probs="off",
        model_init=ROPE,
    )  # fmt: skip
    trained = ours(config)
    assert trained.trainer.ref_model.config.rope_parameters["factor"] == 2.0
    assert trained.log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_a_merged_model_has_the_values_that_its_adapter_was_trained_with(
    home: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = finished_run(tiny_model, tiny_pairs, merge_at_end=True, model_init=ROPE)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, **ROPE)
    whole = PeftModel.from_pretrained(base, folder.adapter).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder.merged, dtype=torch.float32).eval()
    ids = torch.arange(1, 60)[None]
    with torch.no_grad():
        assert torch.allclose(whole(ids).logits, merged(ids).logits, atol=1e-3)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    with torch.no_grad(), whole.disable_adapter():
        assert not torch.allclose(plain(ids).logits, whole(ids).logits, atol=1e-3)


def test_warmup_steps_reach_the_schedule_as_a_number(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    trained = ours(make_config(tiny_model, tiny_pairs, max_steps=6, warmup_steps=4, learning_rate=1e-3))
    rates = [line["learning_rate"] for line in trained.log]
    assert rates[:5] == pytest.approx([0.0, 2.5e-4, 5e-4, 7.5e-4, 1e-3])


def test_the_receipt_lists_what_was_passed_on(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    config = make_config(
        tiny_model, tiny_pairs, max_steps=1, trl={"data_seed": 7}, peft={"exclude_modules": ["up_proj"]}
    )
    folder = make_run(config)
    run_training(config, folder, Journal(folder), StopRequests(folder))
    receipt = json.loads(folder.receipt.read_text())
    assert receipt["passed_on"] == {"trl": {"data_seed": 7}, "peft": {"exclude_modules": ["up_proj"]}}
    assert "`[trl]` `{data_seed = 7}`" in folder.model_card.read_text()


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"trl": {"gone_from_trl": 1}}, "[trl] gone_from_trl: DPOConfig of TRL"),
        ({"trl": {"optim": "no_such_optimizer"}}, "TRL refuses them"),
        ({"peft": {"gone_from_peft": 1}}, "[peft] gone_from_peft: PEFT"),
        ({"model_init": {"no_such_keyword": 1}}, "[model_init] no_such_keyword"),
    ],
)
def test_a_worker_says_which_table_a_library_refuses(
    home: Path, tiny_model: Path, tiny_pairs: Path, tables: dict[str, Any], said: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        ours(make_config(tiny_model, tiny_pairs, max_steps=1, **tables))
    assert said in str(caught.value)


def test_tf32_changes_nothing_on_a_cpu(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    assert ours(make_config(tiny_model, tiny_pairs, max_steps=1, trl={"tf32": True})).log


def test_a_model_without_gradient_checkpointing_trains_without_it_and_says_so(
    home: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    from transformers import CTRLConfig, CTRLLMHeadModel

    model = tmp_path / "ctrl"
    options = {"n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 2, "dff": 64}
    CTRLLMHeadModel(CTRLConfig(vocab_size=1536, eos_token_id=1, **options)).save_pretrained(model)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(model_dir() / file, model)
    config = make_config(model, tiny_pairs, max_steps=2, gradient_checkpointing=True, save_steps=2, kl_prompts=0)
    folder = finished_run(model, tiny_pairs, gradient_checkpointing=True, kl_prompts=0)
    said = [line["message"] for line in lines(folder.events) if line["kind"] == "warning"]
    assert "gradient_checkpointing is off: CTRLLMHeadModel has none, so a step needs more memory" in said
    assert ours(config).trainer.args.gradient_checkpointing is False
