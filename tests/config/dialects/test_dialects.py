"""Configs of LLaMA-Factory and Axolotl: every key is accounted for, and the run starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import load
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.runs import store

# The keys of LLaMA-Factory's own example for DPO with LoRA, with other values.
LLAMA_FACTORY = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
trust_remote_code: true
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.2
pref_loss: sigmoid
pref_ftx: 0.1
dataset: dpo_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4
output_dir: saves/llama3-8b/lora/dpo
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
val_size: 0.1
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 500
quantization_bit: 4
flash_attn: fa2
"""
# The keys of Axolotl files for DPO as people publish them on their model cards.
AXOLOTL = """
base_model: meta-llama/Meta-Llama-3-8B-Instruct
model_type: AutoModelForCausalLM
tokenizer_type: AutoTokenizer
load_in_8bit: false
load_in_4bit: true
strict: false
save_safetensors: true
rl: dpo
dpo_beta: 0.3
chat_template: chatml
datasets:
  - path: Intel/orca_dpo_pairs
    split: train
    type: chatml.intel
dataset_prepared_path:
val_set_size: 0.05
output_dir: ./out
adapter: qlora
lora_model_dir:
sequence_len: 4096
sample_packing: false
pad_to_sequence_len: false
lora_r: 64
lora_alpha: 32
lora_dropout: 0.05
lora_target_linear: true
lora_fan_in_fan_out:
wandb_project: mine
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 5e-6
train_on_inputs: false
group_by_length: false
bf16: auto
fp16:
tf32: false
gradient_checkpointing: true
early_stopping_patience:
local_rank:
logging_steps: 1
xformers_attention:
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
debug:
deepspeed:
weight_decay: 0.0
fsdp:
special_tokens:
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), [("LLaMA-Factory", LLAMA_FACTORY), ("Axolotl", AXOLOTL)])
def test_every_key_of_a_foreign_file_is_accounted_for(tmp_path: Path, name: str, text: str) -> None:
    """A table with a row for every key, and a reason wherever one is dropped."""
    loaded = load(write(tmp_path / "foreign.yaml", text))
    assert loaded.dialect == name
    outcomes = {row.key: row for row in loaded.key_outcomes}
    assert set(yaml.safe_load(text)) <= set(outcomes)
    assert all(row.why for row in outcomes.values() if row.outcome in {"dropped", "filled in"})


def test_a_file_of_llama_factory_keeps_its_meaning(tmp_path: Path) -> None:
    config = load(write(tmp_path / "lf.yaml", LLAMA_FACTORY)).config
    assert (config.beta, config.lora_r, config.alpha, config.lora_dropout) == (0.2, 8, 16, 0.0)
    assert (config.loss_type, config.loss_weights) == (["sigmoid", "sft"], [1.0, 0.1])
    assert (config.learning_rate, config.max_seq_length, config.eval_split) == (5e-6, 2048, 0.1)
    assert (config.use_4bit, config.attn_implementation) == (True, "flash_attention_2")
    assert config.lora_target_modules == ["all-linear"]


def test_a_file_of_axolotl_keeps_its_meaning(tmp_path: Path) -> None:
    config = load(write(tmp_path / "ax.yaml", AXOLOTL)).config
    assert (config.beta, config.lora_r, config.lora_alpha, config.use_4bit) == (0.3, 64, 32, True)
    assert (config.per_device_train_batch_size, config.num_train_epochs, config.optim) == (2, 1, "adamw_8bit")
    assert (config.learning_rate, config.max_seq_length, config.eval_split) == (5e-6, 4096, 0.05)
    assert (config.dataset, config.dataset_split, config.bf16) == ("Intel/orca_dpo_pairs", "train", True)


def test_a_dataset_name_is_looked_up_where_llama_factory_would(tmp_path: Path) -> None:
    info = {"mine": {"file_name": "mine.json", "ranking": True}, "hub": {"hf_hub_url": "some/pairs"}}
    write(tmp_path / "dataset_info.json", json.dumps(info))
    base = f"model_name_or_path: m\nstage: dpo\ndataset_dir: {tmp_path}\n"
    assert load(write(tmp_path / "a.yaml", f"{base}dataset: mine\n")).config.dataset == str(tmp_path / "mine.json")
    assert load(write(tmp_path / "b.yaml", f"{base}dataset: hub\n")).config.dataset == "some/pairs"
    unknown = load(write(tmp_path / "c.yaml", f"{base}dataset: other\n"))
    assert any("give the file or hub id" in row.why for row in unknown.key_outcomes if row.key == "dataset")


@pytest.mark.parametrize(
    "line", ["finetuning_type: freeze", "pref_loss: kto_pair", "stage: ppo", "adapter_name_or_path: one,two"]
)
def test_what_would_change_the_training_is_refused_and_not_dropped(tmp_path: Path, line: str) -> None:
    key = line.partition(":")[0]
    text = "\n".join(row for row in LLAMA_FACTORY.splitlines() if not row.startswith(f"{key}:"))
    with pytest.raises(InvalidConfigError):
        load(write(tmp_path / "lf.yaml", f"{text}\n{line}\n"))


@pytest.mark.parametrize(
    ("text", "key"), [(LLAMA_FACTORY, "adapter_name_or_path"), (AXOLOTL, "lora_model_dir")], ids=["lf", "axolotl"]
)
@pytest.mark.parametrize("first", [True, False])
def test_an_adapter_to_start_from_becomes_the_model_with_a_remark(
    tmp_path: Path, text: str, key: str, first: bool
) -> None:
    rows = [row for row in text.splitlines() if not row.startswith(f"{key}:")]
    line = f"{key}: some/adapter"
    found = load(write(tmp_path / "c.yaml", "\n".join([line, *rows] if first else [*rows, line]) + "\n"))
    assert found.config.model_name == "some/adapter"
    outcomes = {row.key: row for row in found.key_outcomes}
    assert (outcomes[key].outcome, outcomes[key].to) == ("renamed", "model_name")
    assert "merged into its base first" in outcomes[key].why
    base = outcomes["model_name_or_path" if text is LLAMA_FACTORY else "base_model"]
    assert base.outcome == "dropped" and "base_model_name_or_path" in base.why


@pytest.mark.parametrize("name", ["LLaMA-Factory", "Axolotl"])
def test_a_converted_file_trains(home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, name: str) -> None:
    """And a run that starts."""
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    changed: dict[str, dict[str, Any]] = {
        "LLaMA-Factory": {
            "model_name_or_path": str(tiny_model), "dataset": str(tiny_pairs), "cutoff_len": 128,
            "flash_attn": "sdpa", "quantization_bit": None, "preprocessing_num_workers": 1,
            "dataloader_num_workers": 0,
        },
        "Axolotl": {
            "base_model": str(tiny_model), "datasets": [{"path": "json", "data_files": [str(tiny_pairs)]}],
            "sequence_len": 128, "flash_attention": False, "load_in_4bit": False, "adapter": "lora",
            "optimizer": "adamw_torch",
        },
    }  # fmt: skip
    raw = yaml.safe_load({"LLaMA-Factory": LLAMA_FACTORY, "Axolotl": AXOLOTL}[name]) | changed[name]
    raw |= {"max_steps": 2, "val_size" if name == "LLaMA-Factory" else "val_set_size": 0.0}
    source = write(tmp_path / "foreign.yaml", yaml.safe_dump(raw))
    done = CliRunner().invoke(cli, ["config", "convert", str(source)], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"read as {name}" in done.stderr
    config = load(write(tmp_path / "ours.toml", done.stdout)).config
    folder = store.create(done.stdout, name="converted", devices=[])
    run_training(config, folder, Journal(folder), StopRequests(folder))
    assert any('"loss"' in line for line in folder.metrics.read_text().splitlines())
