"""What a file of another tool leaves out has the default of that tool's own code; docs/log.md names the versions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dpo_tui.config.files import convert
from dpo_tui.config.foreign_files import ConvertedFile

LF = {"model_name_or_path": "m", "stage": "dpo", "dataset": "mine"}
AXOLOTL = {"base_model": "m", "rl": "dpo", "datasets": [{"path": "org/pairs"}]}
SWIFT = {"model": "m", "rlhf_type": "dpo", "dataset": ["org/pairs"]}
AUTOTRAIN: dict[str, Any] = {"task": "llm-dpo", "base_model": "m", "project_name": "n", "data": {"path": "org/pairs"}}
H2O: dict[str, Any] = {
    "llm_backbone": "m", "problem_type": "text_dpo_modeling", "dataset": {"train_dataframe": "pairs.csv"}
}  # fmt: skip
TRL = {"model_name_or_path": "m", "dataset_name": "org/pairs"}


def autotrain(**params: Any) -> dict[str, Any]:
    return AUTOTRAIN | {"params": params}


def converted(tmp_path: Path, raw: dict[str, Any]) -> ConvertedFile:
    path = tmp_path / "foreign.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return convert(path)


def told(result: ConvertedFile, key: str) -> str:
    return next(f"{row.outcome}: {row.why}" for row in result.outcomes if row.key == key)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (SWIFT, {"adam_beta2": 0.95, "warmup_ratio": 0.0, "learning_rate": 1e-4, "gradient_accumulation_steps": 16}),
        (SWIFT | {"tuner_type": "full"}, {"learning_rate": 1e-5, "use_lora": False}),
        (SWIFT | {"per_device_train_batch_size": 6}, {"gradient_accumulation_steps": 3}),
        (SWIFT | {"per_device_train_batch_size": 32}, {"gradient_accumulation_steps": 1}),
        (SWIFT | {"learning_rate": 2e-6, "adam_beta2": 0.99}, {"learning_rate": 2e-6, "adam_beta2": 0.99}),
        (autotrain(peft=True), {"use_4bit": True, "max_seq_length": 1024}),
        (autotrain(peft=True, quantization=None), {"use_4bit": False}),
        (autotrain(), {"use_4bit": False, "use_lora": False}),
        (autotrain(block_size=4096, model_max_length=2048), {"max_seq_length": 2048}),
        (autotrain(block_size=512, model_max_length=2048), {"max_seq_length": 512}),
        (autotrain(model_max_length=4096), {"max_seq_length": 1024}),
        (autotrain(model_ref="org/other"), {"ref_model": "org/other"}),
        (autotrain(model_ref="org/other", peft=True), {"ref_model": None}),
        (H2O, {"beta": 0.2, "max_grad_norm": 10.0, "lora_alpha": 16, "use_4bit": True}),
        (H2O | {"architecture": {"backbone_dtype": "bfloat16"}}, {"use_4bit": False}),
        (H2O | {"problem_type": "text_causal_language_modeling"}, {"max_grad_norm": 1e9, "beta": None}),
        (AXOLOTL, {"warmup_ratio": 0.03, "warmup_steps": None}),
        (AXOLOTL | {"max_steps": 3000}, {"warmup_ratio": 0.03, "warmup_steps": None}),
        (AXOLOTL | {"max_steps": 4000}, {"warmup_ratio": None, "warmup_steps": 100}),
        (AXOLOTL | {"max_steps": 4000, "warmup_ratio": 0.1}, {"warmup_ratio": 0.1, "warmup_steps": None}),
        (AXOLOTL | {"fp16": True}, {"fp16": True, "bf16": False}),
        (AXOLOTL | {"fp16": False, "bf16": "auto"}, {"fp16": False, "bf16": True}),
        (LF | {"fp16": True}, {"fp16": True, "bf16": False}),
        (SWIFT | {"fp16": True, "bf16": False}, {"fp16": True, "bf16": False}),
        (TRL | {"fp16": True}, {"fp16": True, "bf16": False}),
        (autotrain(mixed_precision="fp16"), {"fp16": True, "bf16": False}),
        (H2O | {"environment": {"mixed_precision_dtype": "float16"}}, {"fp16": True, "bf16": False}),
        (AXOLOTL | {"rl_beta": 0.2, "trl": {"beta": 0.3}}, {"beta": 0.3}),
        (AXOLOTL | {"rl_beta": 0.2, "orpo_alpha": 0.4}, {"beta": 0.2}),
        (AXOLOTL | {"orpo_alpha": 0.4}, {"beta": 0.4}),
        (AXOLOTL | {"trl": {"beta": 0.3}, "orpo_alpha": 0.4}, {"beta": 0.3}),
        ({"model_name_or_path": "m", "dataset": "d", "cutoff_len": 512}, {"strategy": "sft"}),
        (LF, {"strategy": "dpo", "learning_rate": 5e-5, "max_seq_length": 2048, "lora_r": 8, "lora_dropout": 0.0}),
        (TRL | {"eval_strategy": "epoch"}, {"eval_strategy": "epoch", "eval_dataset_split": "test", "eval_split": 0.0}),
        (TRL | {"eval_strategy": "steps"}, {"eval_dataset_split": "test"}),
        (TRL | {"eval_strategy": "no"}, {"eval_dataset_split": None}),
        (TRL, {"eval_dataset_split": None, "eval_split": 0.0}),
        (TRL | {"eval_strategy": "epoch", "dataset_test_split": "dev"}, {"eval_dataset_split": "dev"}),
    ],
)  # fmt: skip
def test_what_a_file_leaves_out_has_the_tools_default(
    tmp_path: Path, raw: dict[str, Any], expected: dict[str, Any]
) -> None:
    result = converted(tmp_path, raw)
    assert result.config is not None, result.undecided
    default = type(result.config).model_fields
    for name, value in expected.items():
        assert getattr(result.config, name) == (default[name].default if value is None else value), name


def test_the_most_steps_of_axolotls_warmup_are_told_where_the_steps_are_not_known(tmp_path: Path) -> None:
    said = told(converted(tmp_path, AXOLOTL), "warmup_ratio")
    assert "100 steps at most: of more than 3,333 steps set warmup_steps = 100" in said
    assert "at most" not in told(converted(tmp_path, AXOLOTL | {"max_steps": 3000}), "warmup_ratio")


def test_what_happens_to_long_rows_by_default_is_told(tmp_path: Path) -> None:
    assert "default, 'drop': here an answer that is too long is cut" in told(
        converted(tmp_path, AXOLOTL), "excess_length_strategy"
    )
    drops = converted(tmp_path, AXOLOTL | {"excess_length_strategy": "truncate"})
    assert not drops.undecided and told(drops, "excess_length_strategy").startswith("dropped: here an answer")
    assert "the model's own limit; max_seq_length is 1024" in told(converted(tmp_path, SWIFT), "max_length")


def test_an_evaluation_of_a_local_file_says_that_nothing_is_held_out(tmp_path: Path) -> None:
    """A file has no splits; TRL would not read it by this name."""
    (tmp_path / "pairs.jsonl").write_text("{}")
    raw = TRL | {"dataset_name": str(tmp_path / "pairs.jsonl"), "eval_strategy": "epoch"}
    result = converted(tmp_path, raw)
    assert "nothing is held out" in told(result, "eval_strategy")
