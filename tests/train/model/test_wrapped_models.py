"""Language models in a wrapper with a vision tower, and bases stored in 4 bits: trained as by TRL, and merged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import lines, losses, make_config, make_run, train

RATE = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
SHORT = {**RATE, "max_steps": 3, "save_steps": 100, "eval_split": 0.0, "sample_prompts": 1, "kl_prompts": 0}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
VISUAL = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
    "num_position_embeddings": 16,
}
QWEN_TOKENS = {"image_token_id": 10, "video_token_id": 11, "vision_start_token_id": 12, "vision_end_token_id": 13}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
WRAPPERS: dict[str, dict[str, Any]] = {
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral"},
        "vision_config": {**TOWER, "model_type": "pixtral", "patch_size": 14, "head_dim": 16},
        "image_token_index": 10,
        "spatial_merge_size": 1,
    },
    "ministral3": {
        "text_config": {**TEXT, "model_type": "ministral3"},
        "vision_config": {**TOWER, "model_type": "pixtral", "patch_size": 14, "head_dim": 16},
        "image_token_index": 10,
        "spatial_merge_size": 1,
    },
    "qwen3_vl": {
        "text_config": {
            **TEXT,
            "model_type": "qwen3_vl_text",
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        },
        "vision_config": {**VISUAL, "deepstack_visual_indexes": [0]},
        **QWEN_TOKENS,
    },
    "qwen3_5": {
        "text_config": {**TEXT, **LINEAR, "model_type": "qwen3_5_text", "num_hidden_layers": 4},
        "vision_config": VISUAL,
        **QWEN_TOKENS,
    },
    "gemma3": {
        "text_config": {**TEXT, "model_type": "gemma3_text", "sliding_window": 512, "query_pre_attn_scalar": 16},
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "patch_size": 14},
        "mm_tokens_per_image": 4,
        "image_token_index": 10,
        "boi_token_index": 11,
        "eoi_token_index": 12,
    },
}
TYPES = {"ministral3": "mistral3"}


def make_wrapper(folder: Path, tiny_model: Path, kind: str) -> Path:
    import torch
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    settings = json.loads(json.dumps(WRAPPERS[kind]))
    settings["text_config"]["vocab_size"] = len(AutoTokenizer.from_pretrained(tiny_model))
    config = AutoConfig.for_model(TYPES.get(kind, kind), **settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder)
    return folder


def plain_losses(model: Path, pairs: Path) -> list[float]:
    """The losses of TRL itself, on the model that it loads by its path."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.utils import create_model_from_path

    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    turns = [{key: [{"role": role, "content": row[key]}] for key, role in roles.items()} for row in rows]
    arguments = DPOConfig(
        output_dir=str(pairs.parent / "plain"),
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_length=128,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        max_steps=3,
        use_cpu=True,
        bf16=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        seed=42,
    )
    trainer = DPOTrainer(
        # Made before TRL sets the seed, as here: some families draw random numbers while they are made.
        model=create_model_from_path(str(model), dtype="float32"),
        args=arguments,
        train_dataset=Dataset.from_list(turns),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear"),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def result_of(run: Any) -> str:
    return next(event["message"] for event in lines(run.events) if event["message"].startswith("Merged."))


@pytest.mark.parametrize("kind", sorted(WRAPPERS))
def test_a_wrapped_model_trains_as_in_trl_is_merged_evaluated_and_answers(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, kind: str
) -> None:
    from safetensors.torch import load_file

    from dpo_tui.train.model.loaded_run import load_run

    model = make_wrapper(tmp_path / kind, tiny_model, kind)
    run = train(make_config(model, tiny_pairs, seed=42, merge_at_end=True, per_device_train_batch_size=2, **SHORT))
    expected = plain_losses(model, tiny_pairs)
    assert list(losses(run).values()) == pytest.approx(expected, abs=1e-4)
    assert abs(expected[-1] - expected[0]) > 0.005
    # Compared by the product with base + adapter; the files have the names of the base's.
    assert "logits differ by at most" in result_of(run)
    assert load_file(run.merged / "model.safetensors").keys() == load_file(model / "model.safetensors").keys()
    with load_run(run).active_model("tuned") as policy:
        assert policy.base_model.model.config.model_type == TYPES.get(kind, kind)


def test_an_adapter_of_an_earlier_version_is_put_on_the_language_model_alone(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """They were trained on what AutoModelForCausalLM loads of a Qwen 3.5, whose weights have other names."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from dpo_tui.train.model.model_class import model_class

    model = make_wrapper(tmp_path / "qwen3_5", tiny_model, "qwen3_5")
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected = adapted.eval()(tokens).logits
        found = model_class(model, adapter=tmp_path / "adapter").from_pretrained(model, dtype=torch.float32)
        logits = PeftModel.from_pretrained(found, str(tmp_path / "adapter")).eval()(tokens).logits
    torch.testing.assert_close(logits, expected)
    assert model_class(model).__name__ == "Qwen3_5ForConditionalGeneration"


@pytest.mark.parametrize("bf16_merge", [False, True], ids=["fp32", "bf16"])
def test_a_base_that_is_stored_in_4_bits_trains_and_its_merge_is_the_dequantised_base_with_the_adapter(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, bf16_merge: bool
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from dpo_tui.start.model_check import check_model
    from dpo_tui.train.tools.export_run import export

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    base = tmp_path / "nf4"
    AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, quantization_config=settings, device_map={"": "cpu"}
    ).save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, base)
    config = make_config(base, tiny_pairs, **SHORT)
    assert check_model(config.model_copy(update={"merge_at_end": True}), has_gpu=False) == []
    run = train(config, make_run(config))
    request = {"run": str(run.path), "target": str(tmp_path / "out"), "merge": True}
    done = export(request | {"precision": "bf16" if bf16_merge else "fp32"}, lambda *_: None)
    assert "logits differ by at most" in done["check"]
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())

    tokens = torch.arange(100)[None]
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, device_map={"": "cpu"}).dequantize()
        start = whole.eval()(tokens).logits
        expected = PeftModel.from_pretrained(whole, str(run.adapter)).eval()(tokens).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()(tokens).logits
    assert (merged - expected).norm() < (0.1 if bf16_merge else 0.01) * (expected - start).norm()
