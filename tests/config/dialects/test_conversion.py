"""`config convert`: a result in any case, the fate of every key, and nothing that changes the training lost."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.dialects.conversion import Conversion, DataSource, plain, switch, take_sources
from dpo_tui.config.dialects.trl import convert as convert_trl
from dpo_tui.config.files import convert, load
from dpo_tui.config.foreign_files import ConvertedFile
from dpo_tui.config.passthrough import passthrough_problems
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import fields
from dpo_tui.errors import ConfigError


def converted(tmp_path: Path, raw: dict[str, Any], name: str = "foreign.yaml") -> ConvertedFile:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return convert(path)


def fates(result: ConvertedFile) -> dict[str, tuple[str, str]]:
    return {row.key: (row.outcome, row.to or row.why) for row in result.outcomes}


TRL = {"model_name_or_path": "m", "dataset_name": "d"}
LF = {"model_name_or_path": "m", "stage": "dpo", "dataset": "mine"}
AXOLOTL = {"base_model": "m", "rl": "dpo", "datasets": [{"path": "org/pairs"}]}


@pytest.mark.parametrize("name", ["DPOConfig", "KTOConfig", "ModelConfig", "ScriptArguments"])
def test_every_field_of_trl_s_own_classes_has_a_fate(name: str) -> None:
    """At its default, and at a value that is on: a setting, passed on, or dropped with the reason."""
    import trl

    values = {"bool": True, "int": 3, "float": 0.5, "dict": {"a": 1}, "list": ["a"], "str": "text"}
    for one in dataclasses.fields(getattr(trl, name)):
        if one.name in TRL:
            continue
        kind = next((kind for kind in values if kind in str(one.type)), "str")
        for value in (one.default, values[kind]):
            if value is dataclasses.MISSING:
                continue
            shown = str(value.value) if hasattr(value, "value") else value
            row = convert_trl({**TRL, one.name: shown}, Path()).outcomes[2]
            assert row.key.partition(".")[0] == one.name
            assert row.outcome != "undecided" or one.name in {
                "loss_type",
                "load_best_model_at_end",
                "train_sampling_strategy",
            }
            assert row.to.partition(".")[0] in {*fields(), "trl", "peft"} or row.why, (one.name, value)


def test_every_valid_key_of_a_trl_file_loads(tmp_path: Path) -> None:
    raw = TRL | {
        "gradient_checkpointing_kwargs": {"use_reentrant": False}, "log_level": "info", "use_liger_kernel": False,
        "lr_scheduler_kwargs": {}, "hub_strategy": "every_save", "remove_unused_columns": True, "data_seed": "1",
        "fp16": False, "deepspeed": "ds.json", "fsdp": "", "neftune_noise_alpha": "5e0", "save_only_model": False,
        "load_best_model_at_end": False, "metric_for_best_model": "loss", "resume_from_checkpoint": None,
        "pad_token": "<s>", "tf32": True, "model_init_kwargs": {"dtype": "bfloat16", "rope_scaling": {"factor": 2.0}},
        "eval_steps": 0.2, "max_steps": -1, "optim": "rmsprop", "use_peft": "true", "lora_target_parameters": "a,b",
    }  # fmt: skip
    path = tmp_path / "trl.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    config = load(path).config
    assert config.trl["neftune_noise_alpha"] == 5.0 and config.trl["data_seed"] == 1
    assert config.trl["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert (config.trl["optim"], config.trl["pad_token"], config.use_lora) == ("rmsprop", "<s>", True)
    assert config.model_init == {"rope_scaling": {"factor": 2.0}}
    assert config.peft == {"target_parameters": ["a", "b"]}
    assert passthrough_problems(config) == []


@pytest.mark.parametrize(
    ("base", "keys", "expected"),
    [
        (TRL, {"warmup_steps": 150}, (150, 0.1)),
        (TRL, {"warmup_steps": 0.1}, (None, 0.1)),
        (TRL, {"warmup_steps": "0.05"}, (None, 0.05)),
        (TRL, {"warmup_steps": 0, "warmup_ratio": 0.2}, (None, 0.2)),
        (TRL, {"warmup_steps": 20, "warmup_ratio": 0.2}, (20, 0.1)),
        (TRL, {}, (None, 0.0)),
        (LF, {"warmup_steps": 150}, (150, 0.1)),
        (LF, {"warmup_steps": "20"}, (20, 0.1)),
        (AXOLOTL, {"warmup_steps": 10}, (10, 0.1)),
        (AXOLOTL, {}, (None, 0.03)),
        ({"dataset_mixer": {"d": 1.0}, "model_name_or_path": "m"}, {"warmup_steps": 150}, (150, 0.1)),
        ({"model": "m", "rlhf_type": "dpo", "dataset": ["d"]}, {"warmup_steps": 7}, (7, 0.1)),
    ],
)
def test_a_warmup_keeps_its_meaning(
    tmp_path: Path, base: dict[str, Any], keys: dict[str, Any], expected: tuple[int | None, float]
) -> None:
    config = converted(tmp_path, base | keys).config
    assert (config.warmup_steps, config.warmup_ratio) == expected


def test_one_key_that_needs_a_decision_stops_no_other(tmp_path: Path) -> None:
    raw = {
        "strange": 1,
        **LF,
        "pref_loss": "kto_pair",
        "lora_rank": 4,
        "learning_rate": "5e-6",
        "also_strange": {"a": [None]},
    }
    result = converted(tmp_path, raw)
    assert {row.key for row in result.undecided} == {"strange", "pref_loss", "also_strange"}
    assert (result.config.lora_r, result.config.learning_rate) == (4, 5e-6)
    assert "TRL removed it" in fates(result)["pref_loss"][1]
    written = tmp_path / "ours.toml"
    written.write_text(result.to_toml(), encoding="utf-8")
    with pytest.raises(InvalidConfigError) as caught:
        load(written)
    assert {problem.key for problem in caught.value.problems} == {"strange", "pref_loss", "also_strange"}
    decided = written.read_text().partition("[undecided]")[0]
    written.write_text(decided, encoding="utf-8")
    assert load(written).config == result.config


def test_a_foreign_file_does_not_train_while_something_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text(
        yaml.safe_dump(TRL | {"load_best_model_at_end": True, "metric_for_best_model": "f1"}), encoding="utf-8"
    )
    with pytest.raises(InvalidConfigError, match="load_best_model_at_end"):
        load(path)


def test_values_that_are_not_valid_here_are_undecided_and_the_rest_is_kept(tmp_path: Path) -> None:
    raw = TRL | {
        "loss_type": "exo_pair",
        "lora_r": 0,
        "lr_scheduler_type": "cosine_with_min_lr",
        "beta": 0.2,
        "seed": "x",
    }
    result = converted(tmp_path, raw)
    assert {row.key for row in result.undecided} == {"loss_type", "lora_r", "lr_scheduler_type", "seed"}
    assert result.config.beta == 0.2
    assert "greater than 0" in fates(result)["loss_type"][1] and "at least 1" in fates(result)["lora_r"][1]


def test_a_file_without_model_or_data_is_converted_and_the_lack_said(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text("dataset_name: d\nbeta: 0.3\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["config", "convert", str(path)], catch_exceptions=False)
    assert done.exit_code == 0 and "missing   model_name" in done.stderr
    tables = tomllib.loads(done.stdout)
    assert "model_name" not in tables["model"] and tables["dpo"]["beta"] == 0.3


def test_null_means_what_it_means_in_trl(tmp_path: Path) -> None:
    result = converted(tmp_path, TRL | {"max_length": None, "deepspeed": None, "model_revision": None})
    assert fates(result)["max_length"][0] == "undecided" and "no limit" in fates(result)["max_length"][1]
    assert fates(result)["deepspeed"] == ("dropped", "is empty")


@pytest.mark.parametrize(
    ("base", "keys"),
    [
        (TRL, {"rpo_alpha": 0.5}),
        (LF, {"pref_ftx": 0.5}),
        (AXOLOTL, {"rpo_alpha": "0.5"}),
        ({"model": "m", "rlhf_type": "dpo", "dataset": "d"}, {"rpo_alpha": 0.5}),
        (AXOLOTL, {"dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0, 0.5]}),
        (AXOLOTL, {"dpo_loss_weights": [1, 0.5], "dpo_loss_type": "sigmoid, sft"}),
    ],
)
def test_the_loss_on_chosen_answers_is_added_by_name(
    tmp_path: Path, base: dict[str, Any], keys: dict[str, Any]
) -> None:
    result = converted(tmp_path, base | keys)
    assert (result.config.loss_type, result.config.loss_weights) == (["sigmoid", "sft"], [1.0, 0.5])
    assert not result.undecided


@pytest.mark.parametrize("rl", ["grpo"])
def test_what_is_not_dpo_is_named_and_needs_a_decision(tmp_path: Path, rl: str) -> None:
    for raw, key in (
        (AXOLOTL | {"rl": rl}, "rl"),
        (LF | {"stage": rl}, "stage"),
        ({"model": "m", "dataset": ["d"], "rlhf_type": rl}, "rlhf_type"),
        ({"base_model": "m", "task": f"llm-{rl}", "data": {"path": "org/d"}}, "task"),
    ):
        outcome, why = fates(converted(tmp_path, raw))[key]
        assert outcome == "undecided" and "did you mean" not in why


def test_ipo_is_a_loss_of_dpo(tmp_path: Path) -> None:
    for raw in (AXOLOTL | {"rl": "ipo"}, LF | {"pref_loss": "ipo"}, TRL | {"loss_type": "ipo"}):
        result = converted(tmp_path, raw)
        assert (result.config.strategy, result.config.loss_type) == ("dpo", ["ipo"]) and not result.undecided


def write_info(folder: Path, info: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def test_dataset_info_beside_the_file_gives_place_columns_and_rows(tmp_path: Path) -> None:
    columns = {
        "prompt": "question",
        "chosen": "pos_answer",
        "rejected": "rejected",
        "system": "rules",
        "query": "extra",
    }
    entry = {"file_name": "deep/agent.json", "ranking": True, "columns": columns, "num_samples": 50}
    write_info(tmp_path / "data", {"mine": entry})
    result = converted(tmp_path, LF | {"max_samples": 200})
    config = result.config
    assert config.dataset == str(tmp_path / "data" / "deep" / "agent.json")
    assert (config.prompt_field, config.chosen_field, config.rejected_field) == ("question", "pos_answer", None)
    assert (config.system_field, config.max_samples) == ("rules", 50)
    assert [row.key for row in result.undecided] == ["columns.query"]


def test_dataset_info_of_the_hub_gives_subset_and_split(tmp_path: Path) -> None:
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "person"}
    entry = {"hf_hub_url": "org/d", "subset": "en", "split": "train_prefs", "formatting": "sharegpt", "tags": tags}
    write_info(tmp_path / "data", {"mine": {**entry, "columns": {"messages": "talk"}}})
    result = converted(tmp_path, LF)
    assert (result.config.dataset, result.config.dataset_config) == ("org/d", "en")
    assert (result.config.dataset_split, result.config.prompt_field) == ("train_prefs", "talk")
    assert [row.key for row in result.undecided] == ["tags.user_tag"]


def test_several_data_sets_are_all_told(tmp_path: Path) -> None:
    write_info(tmp_path / "data", {"a": {"file_name": "a.json"}, "b": {"file_name": "b.json"}})
    result = converted(tmp_path, LF | {"dataset": "a, b"})
    told = " ".join(f"{row.to} {row.value}" for row in result.outcomes)
    assert "a.json" in told and "b.json" in told


@pytest.mark.parametrize("nested", [True, False])
def test_the_columns_of_axolotl_are_kept(tmp_path: Path, nested: bool) -> None:
    names = {"field_prompt": "ask", "field_chosen": "correct", "field_rejected": "wrong", "field_system": "sys"}
    formats = {
        "prompt_format": "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
        "chosen_format": "{chosen}</s>",
    }
    entry = {"ds_type": "json", "data_files": ["a.jsonl"], "path": "json", "split": "train"}
    entry |= {"type": names | formats} if nested else {"type": "user_defined.default", **names, **formats}
    result = converted(tmp_path, AXOLOTL | {"datasets": [entry]})
    config = result.config
    assert (config.dataset, config.prompt_field, config.chosen_field) == ("a.jsonl", "ask", "correct")
    assert (config.rejected_field, config.system_field) == ("wrong", "sys")
    assert not result.undecided


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt_format", "{prompt}\nThe answer in JSON format is:"),
        ("chosen_format", "Answer: {chosen}"),
        ("roles", {"assistant": ["bot"]}),
        ("message_property_mappings", {"role": "speaker"}),
        ("drop_system_message", True),
    ],
)
def test_a_detail_of_axolotl_that_changes_the_text_is_undecided(tmp_path: Path, key: str, value: Any) -> None:
    entry = {"path": "a.jsonl", "type": "chat_template.default", key: value}
    assert [row.key for row in converted(tmp_path, AXOLOTL | {"datasets": [entry]}).undecided] == [f"datasets[0].{key}"]


def test_named_prompt_strategies_of_axolotl_name_columns(tmp_path: Path) -> None:
    entry = {"path": "org/d", "type": "chatml.argilla", "split": "train"}
    config = converted(tmp_path, AXOLOTL | {"datasets": [entry]}).config
    assert (config.prompt_field, config.chosen_field) == ("instruction", "chosen_response")
    assert config.rejected_field == "rejected_response"


def test_the_old_recipes_of_the_handbook(tmp_path: Path) -> None:
    raw = {"model_name_or_path": "m", "dataset_mixer": {"org/a": 1.0}, "dataset_splits": ["train_prefs", "test_prefs"]}
    raw |= {"preprocessing_num_workers": 4, "optim": "rmsprop", "beta": 0.01, "evaluation_strategy": "steps"}
    result = converted(tmp_path, raw)
    assert result.dialect == "alignment-handbook" and not result.undecided
    assert (result.config.dataset, result.config.dataset_split) == ("org/a", "train_prefs")
    assert (result.config.dataset_num_proc, result.config.trl["optim"]) == (4, "rmsprop")


def test_the_new_recipes_of_the_handbook(tmp_path: Path) -> None:
    mixture = {"datasets": [{"id": "org/a", "config": "pref", "split": "think", "columns": ["chosen"]}], "seed": 1}
    raw = {"model_name_or_path": "m", "dataset_mixture": mixture, "lr_scheduler_type": "cosine_with_min_lr"}
    result = converted(tmp_path, raw | {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "chat_template": "{{ x }}"})
    config = result.config
    assert (config.dataset, config.dataset_config, config.dataset_split) == ("org/a", "pref", "think")
    assert (config.lr_scheduler_type, config.trl["lr_scheduler_kwargs"]) == ("cosine_with_min_lr", {"min_lr_rate": 0.1})
    assert [row.key for row in result.undecided] == ["chat_template"]


def test_a_mixture_is_a_list_of_sources_or_told_source_by_source() -> None:
    conversion = Conversion()
    take_sources(conversion, "mix", [DataSource("a", weight=1.0), DataSource("b", weight=0.5)])
    if "dataset_weights" in fields():
        assert conversion.values == {"dataset": ["a", "b"]}
        assert [(row.key, row.value) for row in conversion.outcomes if row.outcome == "undecided"] == [
            ("mix_weights", [1.0, 0.5])
        ]
    else:
        assert conversion.values == {"dataset": "a"}
        assert [(row.key, row.value) for row in conversion.outcomes if row.outcome == "undecided"] == [
            ("mix_others", ["b, weight 0.5"])
        ]


@pytest.mark.parametrize(
    ("keys", "weights", "undecided"),
    [
        ({"mix_strategy": "interleave_under", "interleave_probs": "0.3,0.7"}, [0.3, 0.7], []),
        ({"mix_strategy": "interleave_under"}, [1.0, 1.0], []),
        ({"interleave_probs": "0.3,0.7"}, None, []),
        (
            {"mix_strategy": "interleave_over", "interleave_probs": "0.3,0.7"},
            None,
            ["mix_strategy", "interleave_probs"],
        ),
        ({"max_samples": 100}, None, ["max_samples"]),
    ],
)
def test_a_mix_of_llama_factory_keeps_its_shares(
    tmp_path: Path, keys: dict[str, Any], weights: list[float] | None, undecided: list[str]
) -> None:
    result = converted(tmp_path, LF | {"dataset": "one,two"} | keys)
    assert (result.config.dataset_weights, result.config.max_samples) == (weights, None)
    assert [row.key for row in result.undecided] == undecided


@pytest.mark.parametrize("first", [True, False], ids=["before the losses", "after the losses"])
@pytest.mark.parametrize(
    ("losses", "weights", "expected"),
    [
        ("ipo", None, (["ipo", "sft"], [1.0, 0.7])),
        (["ipo", "hinge"], [0.5, 0.25], (["ipo", "hinge", "sft"], [0.5, 0.25, 0.7])),
        (["sigmoid", "sft"], [1.0, 0.2], (["sigmoid", "sft"], [1.0, pytest.approx(0.9)])),
    ],
)
def test_the_loss_that_rpo_adds_keeps_the_others_and_their_weights(
    tmp_path: Path, losses: Any, weights: list[float] | None, expected: tuple[list[str], list[float]], first: bool
) -> None:
    named = {"loss_type": losses} | ({"loss_weights": weights} if weights else {})
    added = {"rpo_alpha": 0.7}
    result = converted(tmp_path, TRL | (added | named if first else named | added))
    assert (result.config.loss_type, result.config.loss_weights) == expected
    assert not result.undecided


def test_a_share_of_one_source_and_differing_splits_are_not_lost() -> None:
    conversion = Conversion()
    take_sources(conversion, "mix", [DataSource("a", weight=0.5)])
    assert [row.key for row in conversion.outcomes if row.outcome == "undecided"] == ["mix_weight"]


def test_autotrain(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").touch()
    mapping = {"text_column": "good", "rejected_text_column": "rejected", "prompt_text_column": "ask"}
    raw = {
        "task": "llm-dpo", "base_model": "m", "project_name": "mine", "log": "tensorboard", "backend": "local",
        "data": {"path": "rows/", "train_split": "train", "valid_split": None, "column_mapping": mapping},
        "params": {
            "block_size": 1024, "model_max_length": 2048, "epochs": 2, "batch_size": 3, "lr": "3e-5", "peft": True,
            "quantization": "int4", "target_modules": "all-linear", "scheduler": "linear", "gradient_accumulation": 4,
        },
        "hub": {"username": "me", "token": "secret", "push_to_hub": True},
    }  # fmt: skip
    result = converted(tmp_path, raw)
    config = result.config
    assert result.dialect == "AutoTrain" and not result.undecided and "secret" not in result.to_toml()
    assert config.dataset == str(tmp_path / "rows" / "train.jsonl")
    assert (config.prompt_field, config.chosen_field, config.rejected_field) == ("ask", "good", None)
    assert (config.max_seq_length, config.num_train_epochs, config.learning_rate) == (1024, 2, 3e-5)
    assert (config.use_lora, config.use_4bit, config.per_device_train_batch_size) == (True, True, 3)


def test_h2o_llm_studio(tmp_path: Path) -> None:
    raw = {
        "llm_backbone": "m", "problem_type": "text_dpo_modeling", "experiment_name": "mine", "output_directory": "out/",
        "architecture": {"backbone_dtype": "int4", "gradient_checkpointing": True, "intermediate_dropout": 0.0},
        "augmentation": {"token_mask_probability": 0.1, "skip_parent_probability": 0.0},
        "dataset": {
            "train_dataframe": "pairs.pq", "prompt_column": ["ask"], "answer_column": "chosen", "system_column": "None",
            "rejected_answer_column": "bad", "parent_id_column": "None", "validation_size": 0.05, "data_sample": 1.0,
            "validation_strategy": "automatic", "text_prompt_start": "<|prompt|>",
        },
        "environment": {"gpus": ["0"], "mixed_precision_dtype": "bfloat16", "seed": -1, "number_of_workers": 4},
        "prediction": {"metric": "BLEU", "temperature": 0.0},
        "tokenizer": {"max_length": 768, "padding_quantile": 1.0},
        "training": {
            "batch_size": 2, "beta": 0.2, "epochs": 4, "warmup_epochs": 1.0, "loss_function": "IPOLoss", "lora": True,
            "optimizer": "AdamW", "schedule": "Cosine", "learning_rate": 1e-5, "lora_target_modules": "q_proj,v_proj",
            "differential_learning_rate_layers": [], "use_flash_attention_2": False, "gradient_clip": 0.5,
        },
    }  # fmt: skip
    result = converted(tmp_path, raw, "cfg.yaml")
    config = result.config
    assert result.dialect == "H2O LLM Studio"
    assert [row.key for row in result.undecided] == ["augmentation.token_mask_probability", "environment.seed"]
    assert (config.dataset, config.prompt_field, config.rejected_field) == ("pairs.pq", "ask", "bad")
    assert (config.loss_type, config.beta, config.warmup_ratio, config.use_4bit) == (["ipo"], 0.2, 0.25, True)
    assert (config.max_seq_length, config.eval_split, config.lora_target_modules) == (768, 0.05, ["q_proj", "v_proj"])


def test_an_adapter_of_ms_swift_becomes_the_model(tmp_path: Path) -> None:
    raw = {"rlhf_type": "dpo", "model": "m", "train_type": "lora", "dataset": ["org/d"], "adapters": ["some/adapter"]}
    result = converted(tmp_path, raw, "args.json.yaml")
    assert result.config.model_name == "some/adapter" and not result.undecided


def test_ms_swift(tmp_path: Path) -> None:
    raw = {
        "rlhf_type": "dpo", "model": "m", "model_type": "qwen2", "train_type": "lora", "dataset": ["org/d:en#500"],
        "lora_rank": 4, "target_modules": ["all-linear"], "torch_dtype": "bfloat16", "quant_bits": 4,
        "quant_method": "bnb",
        "attn_impl": "flash_attn", "split_dataset_ratio": 0.01, "max_length": 777, "beta": 0.3, "num_train_epochs": 1,
        "loss_scale": "last_round", "system": None, "adapters": [], "lorap_lr_ratio": None, "use_galore": False,
        "columns": {"better": "response"}, "neftune_noise_alpha": 3, "freeze_parameters_ratio": 0.0,
    }  # fmt: skip
    result = converted(tmp_path, raw, "args.json.yaml")
    config = result.config
    assert result.dialect == "ms-swift" and not result.undecided
    assert (config.dataset, config.dataset_config, config.max_samples) == ("org/d", "en", 500)
    assert (config.use_4bit, config.attn_implementation, config.beta) == (True, "flash_attention_2", 0.3)
    assert (config.chosen_field, config.trl) == ("better", {"neftune_noise_alpha": 3})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": "auto"}, "DeepSpeed (ZeRO stage 3)"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, "DeepSpeed"),
        ({"compute_environment": "LOCAL_MACHINE", "num_processes": 8, "mixed_precision": "bf16"}, "accelerate"),
        ({"distributed_type": "FSDP", "num_processes": 2, "fsdp_config": {}}, "accelerate"),
    ],
)
def test_files_of_launchers_are_recognised_and_told_where_they_belong(
    tmp_path: Path, raw: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        converted(tmp_path, raw)
    assert said in str(caught.value) and caught.value.exit_code == 2
    assert "activation_offloading" in (caught.value.hint or "")


def test_a_file_of_ours_is_not_taken_for_a_foreign_one(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    own = {"model": {"model_name": "m"}, "data": {"dataset": "d"}, "trl": {"data_seed": 1}, "training": {"seed": 3}}
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    result = convert(path)
    assert (result.dialect, result.outcomes, result.config.seed) == ("", (), 3)


def test_switches_and_tables_of_ours_in_a_foreign_file(tmp_path: Path) -> None:
    raw = TRL | {"precompute_ref_log_probs": "true", "bf16": "false", "trl": {"data_seed": 1}, "num_train_epochs": "2"}
    result = converted(tmp_path, raw)
    assert not result.undecided
    assert (result.config.precompute_ref_log_probs, result.config.bf16) == ("on", False)
    assert (result.config.trl, result.config.num_train_epochs) == ({"data_seed": 1}, 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-7", 5e-7), ("8", 8), ("True", True), ("false", False), ("1.", 1.0), ("a", "a"), ("1_0", "1_0"), (None, None)],
)
def test_values_that_yaml_reads_as_text(text: Any, value: Any) -> None:
    assert plain(text) == value and type(plain(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "on"), [("false", False), ("no", False), ("true", True), (1, True), (0, False), ("off", False)]
)
def test_switches_that_a_file_holds_as_text(text: Any, on: bool) -> None:
    assert switch(text) is on


def test_the_split_and_subset_of_llama_factorys_evaluation_set_are_its_own(tmp_path: Path) -> None:
    of_evaluation = {"hf_hub_url": "org/e", "subset": "en", "split": "test_prefs"}
    write_info(tmp_path / "data", {"mine": {"hf_hub_url": "org/d", "split": "train_prefs"}, "held": of_evaluation})
    result = converted(tmp_path, LF | {"eval_dataset": "held"})
    config = result.config
    assert (config.dataset, config.dataset_config, config.dataset_split) == ("org/d", None, "train_prefs")
    evaluation = (config.eval_dataset, config.eval_dataset_config, config.eval_dataset_split)
    assert evaluation == ("org/e", "en", "test_prefs")
    assert not result.undecided


def test_a_split_to_evaluate_on_is_taken_where_the_file_evaluates(tmp_path: Path) -> None:
    of_trl = TRL | {"dataset_test_split": "test"}
    recipe = {
        "model_name_or_path": "m",
        "dataset_mixer": {"org/a": 1.0},
        "dataset_splits": ["train_prefs", "test_prefs"],
    }
    autotrain = {"task": "llm-dpo", "base_model": "m", "data": {"path": "org/d", "valid_split": "validation"}}
    cases = [
        (of_trl, None),
        (of_trl | {"eval_strategy": "no"}, None),
        (of_trl | {"eval_strategy": "steps"}, "test"),
        (recipe, None),
        (recipe | {"do_eval": True}, "test_prefs"),
        (autotrain, "validation"),
    ]
    for raw, split in cases:
        result = converted(tmp_path, raw)
        assert result.config.eval_dataset_split == split
        assert result.config.has_evaluation_data == (split is not None)
        assert not result.undecided


SWIFT: dict[str, Any] = {"model": "m", "dataset": ["d"]}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (LF | {"pref_loss": "simpo", "simpo_gamma": 0.7, "pref_beta": 2.5}, ("simpo", 2.5, 0.7, 0.0)),
        (LF | {"pref_loss": "simpo", "pref_ftx": 0.3, "dpo_label_smoothing": 0.1}, ("simpo", 0.1, 0.5, 0.3)),
        (LF | {"pref_loss": "orpo", "pref_beta": 0.2}, ("orpo", 0.2, None, None)),
        (AXOLOTL | {"rl": "orpo", "orpo_alpha": 0.3, "simpo_gamma": 1}, ("orpo", 0.3, None, None)),
        (AXOLOTL | {"rl": "orpo"}, ("orpo", 0.1, None, None)),
        (AXOLOTL | {"rl": "simpo", "rl_beta": 2, "cpo_alpha": 0.2}, ("simpo", 2.0, 0.5, 0.2)),
        (AXOLOTL | {"rl": "simpo"}, ("simpo", 0.1, 0.5, 1.0)),
        (SWIFT | {"rlhf_type": "orpo"}, ("orpo", 0.1, None, None)),
        (SWIFT | {"rlhf_type": "simpo"}, ("simpo", 2.0, 1.0, 1.0)),
        (SWIFT | {"rlhf_type": "cpo", "cpo_alpha": 0.5}, ("cpo", 0.1, None, 0.5)),
        (TRL | {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0}, ("simpo", 2.0, 0.5, 0.0)),
        (TRL | {"cpo_alpha": 0.5, "loss_type": "hinge"}, ("cpo", 0.1, None, 0.5)),
        (TRL | {"loss_type": "alphapo", "alpha": 0.25, "cpo_alpha": 1.0}, ("simpo", 0.1, 0.5, 0.0)),
    ],
)
def test_a_method_without_a_reference_keeps_its_settings_and_its_tools_defaults(
    tmp_path: Path, raw: dict[str, Any], expected: tuple[str, float, float | None, float | None]
) -> None:
    """Strategy, β, γ and α; nothing needs a decision, and what is not read is named."""
    result = converted(tmp_path, raw)
    config = result.config
    assert (config.strategy, config.beta, config.simpo_gamma, config.cpo_alpha) == expected
    assert not result.undecided
    told = {row.key for row in result.outcomes}
    assert raw.keys() <= told
    if "alpha" in raw:
        assert config.trl == {"alpha": 0.25}


def test_orpo_of_another_tool_is_told_where_trls_differs(tmp_path: Path) -> None:
    told = {row.key: row.why for row in converted(tmp_path, LF | {"pref_loss": "orpo"}).outcomes}
    assert "prompt and chosen answer" in told["pref_loss"]
    added = converted(tmp_path, LF | {"pref_loss": "orpo", "pref_ftx": 0.5})
    assert [row.key for row in added.undecided] == ["pref_ftx"]
