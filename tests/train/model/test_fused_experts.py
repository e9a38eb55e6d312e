"""Mixture-of-experts models with fused experts, on which PEFT makes adapters without dropout only."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from dpo_tui.config.files import from_values
from dpo_tui.runs import exit_codes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.failures import Failure, describe_failure
from tests.support.training import lines, losses, make_config, make_run, train

EXPERTS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16},
}
USAGE_ERROR = 2


@pytest.fixture(params=sorted(EXPERTS))
def moe_model(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """A random model of two layers with the tokenizer of the tiny model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
    heads = {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(AutoTokenizer.from_pretrained(tiny_model)),
    }
    config = AutoConfig.for_model(request.param, **sizes, **heads, **EXPERTS[request.param])
    folder = tmp_path / str(request.param)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder)
    return folder


def failure_of(model: Path, data: Path, **changes: object) -> tuple[Failure, RunFolder]:
    config = make_config(model, data, max_steps=1, eval_split=0.0, sample_prompts=0, **changes)
    folder = make_run(config)
    with pytest.raises(ValueError) as caught:
        train(config, folder)
    return describe_failure(caught.value), folder


def test_they_train_with_the_default_settings(home: Path, moe_model: Path, tiny_pairs: Path) -> None:
    folder = train(make_config(moe_model, tiny_pairs, max_steps=2, lr_scheduler_type="constant", warmup_ratio=0.0))
    assert set(losses(folder)) == {1, 2}
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    moved = [name for name, weight in weights.items() if "lora_B" in name and weight.abs().max() > 0]
    assert any("experts" in name for name in moved) and any("q_proj" in name for name in moved)
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["lora_dropout"] == 0
    notes = [event["message"] for event in lines(folder.events) if event["kind"] == "note"]
    assert sum("lora_dropout = 0.05 has no effect" in note for note in notes) == 1


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [({"disable_dropout": False}, "lora_dropout = 0"), ({"use_dora": True}, "use_dora = false")],
    ids=["dropout", "DoRA"],
)
def test_what_peft_cannot_do_on_them_is_refused_before_the_first_step(
    home: Path, moe_model: Path, tiny_pairs: Path, changes: dict[str, bool], remedy: str
) -> None:
    failure, folder = failure_of(moe_model, tiny_pairs, **changes)
    assert "experts of this model are fused" in failure.message and remedy.partition(" ")[0] in failure.message
    assert remedy in failure.hint
    assert failure.exit_code == USAGE_ERROR and exit_codes.FAILED != USAGE_ERROR
    assert not folder.metrics.exists()


def test_stage_one_on_them_is_refused_with_dropout_and_trains_without(
    home: Path, moe_model: Path, tmp_path: Path
) -> None:
    """TRL switches no dropout off in supervised fine-tuning."""
    turns = [{"role": "user", "content": "help"}, {"role": "assistant", "content": "thank you"}]
    data = tmp_path / "demonstrations.jsonl"
    data.write_text((json.dumps({"messages": turns}) + "\n") * 8)
    failure, _ = failure_of(moe_model, data, strategy="sft")
    assert "lora_dropout = 0" in failure.hint
    config = make_config(
        moe_model, data, strategy="sft", lora_dropout=0.0, max_steps=1, eval_split=0.0, sample_prompts=0
    )
    assert set(losses(train(config))) == {1}


def test_the_adapters_dropout_is_the_setting_only_where_trl_leaves_it_on() -> None:
    def rate(**changes: object) -> float:
        return from_values({"model_name": "m", "dataset": "d", "lora_dropout": 0.1, **changes}).adapter_dropout

    assert rate() == 0
    assert rate(disable_dropout=False) == 0.1
    assert rate(strategy="sft") == rate(strategy="sft", disable_dropout=True) == 0.1
