"""The tables [trl], [peft] and [model_init]: checked against the installed libraries, and kept as they are."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import from_values, load, parse_assignment, with_changes
from dpo_tui.config.library_fields import LibraryField, peft_fields, trl_fields, unsloth_keywords
from dpo_tui.config.library_values import schedules
from dpo_tui.config.passthrough import passthrough_problems, require_passthrough
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.strategies.registry import STRATEGIES

NEEDED = 'model_name = "m"\ndataset = "d"\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def config(**tables: dict[str, Any]) -> Config:
    return from_values({"model_name": "m", "dataset": "d", **tables})


def problem_of(**tables: dict[str, Any]) -> str:
    (problem,) = passthrough_problems(config(**tables))
    return problem.message


def test_the_fields_read_from_source_are_those_of_the_installed_classes() -> None:
    from peft import LoraConfig
    from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

    for installed in (DPOConfig, SFTConfig, ModelConfig, ScriptArguments):
        assert set(trl_fields(installed.__name__) or {}) == {one.name for one in dataclasses.fields(installed)}
    assert set(peft_fields() or {}) == {one.name for one in dataclasses.fields(LoraConfig)}


def test_a_default_read_from_source_is_the_class_s_default() -> None:
    from trl import DPOConfig

    defaults = {one.name: one.default for one in dataclasses.fields(DPOConfig)}
    literals = {
        name: one.default
        for name, one in (trl_fields("DPOConfig") or {}).items()
        if isinstance(one.default, int | float | str | None)
    }
    assert len(literals) > 100
    assert {name: defaults[name] for name in literals} == literals


def test_the_keywords_of_a_function_are_found_in_classes_and_behind_conditions(tmp_path: Path) -> None:
    (tmp_path / "unsloth" / "models").mkdir(parents=True)
    write(tmp_path / "unsloth" / "__init__.py", "")
    source = "try:\n    class A:\n        def load(cls, one, *, two=0):\n            kwargs.pop('three', None)\n"
    source += (
        "except ImportError:\n    def load(four):\n        def load(inside): pass\nif True:\n    def load(five): pass\n"
    )
    write(tmp_path / "unsloth" / "models" / "a.py", source)
    assert unsloth_keywords("load", tmp_path) == frozenset({"one", "two", "three", "four", "five"})


def test_no_torch_is_imported_to_check_a_config(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", NEEDED + "[trl]\nneftune_noise_alpha = 5\n[model_init]\nuse_safetensors = true\n")
    code = (
        "import sys; from dpo_tui.config.files import load; from dpo_tui.config.passthrough import require_passthrough;"
        "require_passthrough(load(sys.argv[1])); "
        "print([name for name in ('torch', 'trl', 'peft', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_strategy_names_the_class_of_its_trainer_s_arguments() -> None:
    for strategy in STRATEGIES.values():
        assert trl_fields(strategy.trl_arguments), strategy.name
    assert "completion_only_loss" in (trl_fields(STRATEGIES["sft"].trl_arguments) or {})
    assert "completion_only_loss" not in (trl_fields(STRATEGIES["dpo"].trl_arguments) or {})


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"trl": {"neftune_noise_alfa": 5}}, "did you mean neftune_noise_alpha?"),
        ({"trl": {"no_such_argument": 5}}, "no such argument"),
        ({"trl": {"learning_rate": 1e-6}}, "has a setting: learning_rate, in [training]"),
        ({"trl": {"max_length": 512}}, "has a setting: max_seq_length, in [data]"),
        ({"trl": {"optim": "sgd"}}, "has a setting: optim"),
        ({"trl": {"output_dir": "out"}}, "a run has a folder of its own"),
        ({"trl": {"push_to_hub": True}}, "dpo-tui export"),
        ({"trl": {"hub_token": "secret"}}, "HF_TOKEN"),
        ({"trl": {"report_to": ["wandb"]}}, "has a setting: report_to, in [run]"),
        ({"trl": {"resume_from_checkpoint": "x"}}, "dpo-tui resume"),
        ({"trl": {"trust_remote_code": True}}, "never run"),
        ({"trl": {"remove_unused_columns": False}}, "columns"),
        ({"trl": {"neftune_noise_alpha": "five"}}, "must be a number"),
        ({"trl": {"dataloader_drop_last": "yes"}}, "must be true or false"),
        ({"trl": {"data_seed": 1.5}}, "must be a whole number"),
        ({"trl": {"model_init_kwargs": {}}}, "[model_init]"),
        ({"peft": {"r": 8}}, "has a setting: lora_r, in [lora]"),
        ({"peft": {"layers_to_transfrom": [1]}}, "did you mean layers_to_transform?"),
        ({"peft": {"init_lora_weights": "pissa"}}, "changes the base model's weights"),
        ({"peft": {"eva_config": {"rho": 2}}}, "belongs to an init_lora_weights"),
        ({"peft": {"kasa_config": {"rho": 2}}}, "KasaConfig, an object"),
        ({"peft": {"use_qalora": True}}, "acts on GPTQ layers alone"),
        ({"peft": {"velora_config": {}}}, "tensors beside A and B"),
        ({"peft": {"alora_invocation_tokens": [5]}}, "behind certain tokens alone"),
        ({"peft": {"task_type": "SEQ_CLS"}}, "causal language modelling"),
        ({"model_init": {"device_map": "auto"}}, "[compute] gpus"),
        ({"model_init": {"torch_dtype": "float16"}}, "has a setting: bf16"),
        ({"model_init": {"trust_remote_code": True}}, "never run"),
        ({"model_init": {"load_in_4bit": True}}, "has a setting: use_4bit"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_in_words(tables: dict[str, Any], said: str) -> None:
    assert said in problem_of(**tables)


@pytest.mark.parametrize(
    "tables",
    [
        {"trl": {"neftune_noise_alpha": 5, "data_seed": 3, "lr_scheduler_kwargs": {}}},
        {"trl": {"neftune_noise_alpha": 5.5, "gradient_checkpointing_kwargs": {"use_reentrant": False}}},
        {"trl": {"optim": "rmsprop", "optim_args": "alpha=0.9", "lr_scheduler_type": "reduce_lr_on_plateau"}},
        {"trl": {"pad_to_multiple_of": 8}},
        {"trl": {"pad_to_multiple_of": "auto"}},
        {"peft": {"exclude_modules": ["lm_head"], "rank_pattern": {"q_proj": 4}}},
        {"peft": {"exclude_modules": "lm_head", "alpha_pattern": {}, "init_lora_weights": "gaussian"}},
        {"peft": {"init_lora_weights": True, "bias": "lora_only"}},
        # Nothing of the model is on this machine: whether its config has such a value cannot be known.
        {"model_init": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "anything": 1}},
    ],
)
def test_what_can_be_right_is_not_refused(tables: dict[str, Any]) -> None:
    assert passthrough_problems(config(**tables)) == []


MIN_LR = {"lr_scheduler_type": "cosine_with_min_lr"}


@pytest.mark.parametrize(
    ("settings", "trl", "said"),
    [
        ({}, {"optim": "adamw_trch_xla"}, "did you mean adamw_torch_xla?"),
        ({}, {"debug": 3}, "must be a list or text"),
        ({}, {"optim": "galore_adamw"}, "needs the package galore_torch"),
        ({}, {"lr_scheduler_type": "cosine_with_restart"}, "did you mean cosine_with_restarts?"),
        ({}, {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}, "the schedule linear takes none"),
        ({}, {"lr_scheduler_kwargs": '{"power": 2}'}, "the schedule linear takes none"),
        ({"lr_scheduler_type": "constant"}, {"lr_scheduler_kwargs": {"power": 2}}, "does nothing with"),
        ({"lr_scheduler_type": "polynomial"}, {"lr_scheduler_kwargs": {"pow": 2}}, "polynomial takes lr_end, power"),
        (MIN_LR, {"lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}}, "takes one"),
        ({}, {"log_level": "loud"}, "must be one of passive, detail, debug"),
        ({}, {"debug": "underflow"}, "must be one of underflow_overflow"),
        ({}, {"f_divergence_type": "kl"}, "must be one of reverse_kl, forward_kl, js_divergence"),
        ({}, {"truncation_mode": "keep_middle"}, "must be one of keep_end, keep_start"),
        ({}, {"dataloader_multiprocessing_context": "thread"}, "must be one of fork, spawn, forkserver"),
        ({}, {"accelerator_config": {"split_batch": True}}, "has split_batch; it may have split_batches"),
        ({"strategy": "sft"}, {"packing_strategy": "best"}, "must be one of bfd, bfd_split, wrapped"),
        ({}, {"eval_accumulation_steps": 0}, "must be at least 1"),
        ({}, {"pad_to_multiple_of": 0}, "must be at least 1"),
        ({"dataloader_num_workers": 1}, {"dataloader_prefetch_factor": 0}, "must be at least 1"),
        ({}, {"dataloader_prefetch_factor": 2}, "needs dataloader_num_workers above 0"),
        ({}, {"dataloader_persistent_workers": True}, "needs dataloader_num_workers above 0"),
        ({}, {"accelerator_config": "abc"}, "must be a table"),
        ({}, {"lr_scheduler_kwargs": "abc"}, "must be a table"),
        ({}, {"gradient_checkpointing_kwargs": "abc"}, "must be a table"),
        ({}, {"gradient_checkpointing_kwargs": {"reentrant": False}}, "has reentrant, and checkpointing takes"),
        (
            {"gradient_checkpointing": False},
            {"activation_checkpointing_kwargs": {"use_reentrant": False}},
            "does nothing with gradient_checkpointing = false",
        ),
        (
            {},
            {
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
                "activation_checkpointing_kwargs": {"use_reentrant": False},
            },
            "is set too and wins; keep one",
        ),
        ({}, {"ddp_timeout": -1}, "must be at least 1"),
        ({}, {"include_num_input_tokens_seen": "some"}, "must be one of all, non_padding, no"),
        ({}, {"include_for_metrics": [1]}, "must list texts"),
        ({}, {"neftune_noise_alpha": -1}, "must be above 0"),
        ({}, {"pad_to_multiple_of": "eight"}, 'must be a whole number, "auto" or "none"'),
        ({}, {"torch_compile_mode": "fastest"}, "must be one of default, reduce-overhead"),
        ({}, {"torch_compile_backend": "gcc"}, "must be one of eager, aot_eager, inductor"),
        ({}, {"bf16_full_eval": True}, "would round the weights themselves, which are saved"),
        ({}, {"length_column_name": "length"}, "lengths are counted"),
    ],
)
def test_a_value_that_a_library_would_refuse_once_it_uses_it_is_refused_before(
    settings: dict[str, Any], trl: dict[str, Any], said: str
) -> None:
    (problem,) = passthrough_problems(from_values({"model_name": "m", "dataset": "d", **settings, "trl": trl}))
    assert said in problem.message


@pytest.mark.parametrize(
    ("peft", "said"),
    [
        ({"bias": True}, "must be one of none, all, lora_only"),
        ({"bias": {"a": 1}}, "must be one of none, all, lora_only"),
        ({"exclude_modules": [1]}, "must list texts"),
        ({"target_parameters": [True]}, "must list texts"),
        ({"trainable_token_indices": "abc"}, "must list token ids"),
        ({"trainable_token_indices": {"embed_tokens": [2.5]}}, "must list token ids"),
        ({"rank_pattern": {"q_proj": "eight"}}, "must have whole numbers above 0"),
        ({"alpha_pattern": {"q_proj": True}}, "must have numbers"),
    ],
)
def test_a_value_that_peft_would_stumble_over_when_it_makes_the_adapter_is_refused_before(
    peft: dict[str, Any], said: str
) -> None:
    (problem,) = passthrough_problems(from_values({"model_name": "m", "dataset": "d", "peft": peft}))
    assert said in problem.message


def test_a_value_of_the_adapter_that_peft_would_refuse_is_refused_before() -> None:
    assert "must be one of none, all, lora_only" in problem_of(peft={"bias": "some"})


@pytest.mark.parametrize(
    ("settings", "trl"),
    [
        (MIN_LR, {"lr_scheduler_kwargs": {"min_lr_rate": 0.1, "num_cycles": 0.5}}),
        ({"lr_scheduler_type": "polynomial"}, {"lr_scheduler_kwargs": '{"power": 2.0}'}),
        ({}, {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"factor": 0.5, "patience": 2}}),
        ({}, {"optim": "adamw_torch_xla", "debug": "underflow_overflow", "log_level": "info"}),
        ({}, {"optim": "ademamix_8bit", "ddp_backend": "gloo", "debug": ["tpu_metrics_debug"]}),
        ({}, {"accelerator_config": {"split_batches": True}, "torch_compile_mode": "max-autotune"}),
        ({"dataloader_num_workers": 1}, {"dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True}),
        ({}, {"gradient_checkpointing_kwargs": {"use_reentrant": False}, "pad_to_multiple_of": "auto"}),
        ({}, {"activation_checkpointing_kwargs": '{"use_reentrant": false}', "pad_to_multiple_of": 8}),
        ({}, {"include_num_input_tokens_seen": True, "torch_compile_backend": "inductor", "ddp_timeout": 60}),
    ],
)
def test_a_value_that_a_library_takes_is_not_refused(settings: dict[str, Any], trl: dict[str, Any]) -> None:
    assert passthrough_problems(from_values({"model_name": "m", "dataset": "d", **settings, "trl": trl})) == []


def test_the_values_read_from_source_are_those_of_the_installed_classes() -> None:
    import inspect

    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.training_args import OptimizerNames
    from transformers.utils.logging import get_log_levels_dict

    allowed = {name: problem_of(trl={name: "?"}).partition("one of ")[2] for name in ("optim", "log_level")}
    assert allowed["optim"].startswith(", ".join([one.value for one in OptimizerNames][:12]))
    assert allowed["log_level"].split(", ") == ["passive", *get_log_levels_dict()]
    found = schedules()
    assert set(found) == {one.value for one in TYPE_TO_SCHEDULER_FUNCTION}
    for one, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        known = found[one.value].arguments
        assert known is None or set(known) <= set(inspect.signature(function).parameters), one


def test_values_of_the_model_s_config_are_known_where_it_is_here(tmp_path: Path) -> None:
    write(tmp_path / "config.json", json.dumps({"model_type": "llama", "hidden_size": 8, "own_value": 1}))

    def problems(**values: Any) -> list[str]:
        found = from_values({"model_name": str(tmp_path), "dataset": "d", "model_init": values})
        return [problem.message for problem in passthrough_problems(found)]

    assert problems(rope_scaling={"factor": 2.0}, attention_dropout=0.1, own_value=2, use_safetensors=True) == []
    assert "did you mean attention_dropout?" in problems(attention_dropuot=0.1)[0]


def test_an_argument_of_the_adapter_that_goes_with_another_setting_in_no_way_is_refused() -> None:
    values = {"model_name": "m", "dataset": "d", "peft": {"lora_bias": True}}
    assert passthrough_problems(from_values(values)) == []
    assert "cannot be merged" in passthrough_problems(from_values(values | {"merge_at_end": True}))[0].message
    layers = values | {"peft": {"layers_to_transform": [0]}}
    assert "such as" in passthrough_problems(from_values(layers))[0].message
    assert passthrough_problems(from_values(layers | {"lora_target_modules": ["q_proj"]})) == []
    assert "no adapter" in passthrough_problems(from_values(values | {"use_lora": False}))[0].message


def test_the_fields_are_those_of_the_strategy_and_of_no_other_provider() -> None:
    values: dict[str, Any] = {"model_name": "m", "dataset": "d", "trl": {"eval_packing": True}}
    assert "no such argument" in passthrough_problems(from_values(values))[0].message
    assert passthrough_problems(from_values(values | {"strategy": "sft"})) == []
    assert passthrough_problems(from_values(values | {"provider": "unsloth"})) == []


def test_a_check_names_the_line_and_a_command_line_its_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", NEEDED + "[trl]\nnefttune = 5\n")
    with pytest.raises(InvalidConfigError, match=r"a\.toml:4: trl\.nefttune = 5") as caught:
        CliRunner().invoke(cli, ["config", "check", str(path)], catch_exceptions=False)
    assert caught.value.exit_code == 2
    good = write(tmp_path / "b.toml", NEEDED)
    with pytest.raises(InvalidConfigError, match=r"--set: trl\.output_dir"):
        require_passthrough(load(good, dict([parse_assignment("trl.output_dir=out")])))


def test_the_command_line_sets_single_arguments(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", NEEDED + "[trl]\ndata_seed = 1\n")
    assignments = ["trl.neftune_noise_alpha=5", "trl.lr_scheduler_kwargs.min_lr_rate=0.1", "peft.bias=all"]
    loaded = load(path, dict(parse_assignment(one) for one in assignments))
    kwargs = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
    assert loaded.config.trl == {"data_seed": 1, "neftune_noise_alpha": 5, **kwargs}
    assert loaded.config.peft == {"bias": "all"}
    assert loaded.origin("trl.data_seed") == "file"
    assert loaded.origin("trl.neftune_noise_alpha") == "command line"
    assert with_changes(loaded, {"trl.data_seed": 2}, "profile").config.trl["data_seed"] == 2


@pytest.mark.parametrize("suffix", [".toml", ".json", ".yaml"])
def test_every_kind_of_file_has_the_tables(tmp_path: Path, suffix: str) -> None:
    import yaml

    trl = {"neftune_noise_alpha": 5, "lr_scheduler_kwargs": {"a b": [1, {"c": True}]}, "data_seed": None}
    written = {
        ".toml": NEEDED + '[trl]\nneftune_noise_alpha = 5\nlr_scheduler_kwargs = {"a b" = [1, {c = true}]}\n',
        ".json": json.dumps({"model_name": "m", "dataset": "d", "trl": trl}),
        ".yaml": yaml.safe_dump({"model_name": "m", "dataset": "d", "trl": trl}),
    }
    found = load(write(tmp_path / f"a{suffix}", written[suffix])).config
    assert found.trl == {"neftune_noise_alpha": 5, "lr_scheduler_kwargs": {"a b": [1, {"c": True}]}}


def test_a_frozen_config_keeps_the_tables_whatever_the_libraries_are_then(tmp_path: Path) -> None:
    """A later dpo-tui may have a setting for an argument, and a later TRL not have it: old runs open all the same."""
    made = config(trl={"learning_rate": 1.0, "gone": "x\ty"}, model_init={"rope_scaling": {"factor": 2.0}}, peft={})
    frozen = write(tmp_path / "config.toml", to_toml(made))
    assert load(frozen).config == made
    assert read_settings(frozen)["trl.gone"] == "x\ty"
    assert read_settings(frozen)["learning_rate"] == made.learning_rate
    assert "[peft]" not in frozen.read_text()


def test_show_prints_each_argument_with_its_origin(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.toml", NEEDED + '[trl]\nlr_scheduler_kwargs = {min_lr_rate = 0.1}\n[peft]\nbias = "all"\n'
    )
    lines = CliRunner().invoke(cli, ["config", "show", str(path)]).output.splitlines()
    shown = [line.split() for line in lines[lines.index("[trl]") :]]
    assert ["lr_scheduler_kwargs", "{min_lr_rate", "=", "0.1}", "file"] in shown
    assert ["bias", '"all"', "file"] in shown


def test_the_fields_of_unsloth_are_those_of_its_own_environment(home: Path) -> None:
    """Its TRL is another version, and has the base class in its own transformers."""
    site = home / "environments" / "unsloth" / "lib" / "python3.12" / "site-packages"
    for name, source in {
        "transformers/__init__.py": "",
        "transformers/training_args.py": "class TrainingArguments:\n    old_one: int = 1\n",
        "trl/__init__.py": "",
        "trl/dpo_config.py": "from transformers import TrainingArguments\n"
        "class DPOConfig(TrainingArguments):\n    of_1_14: bool = False\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(source)

    def told(**trl: Any) -> list[str]:
        values = {"model_name": "m", "dataset": "d", "provider": "unsloth", "trl": trl}
        return [problem.message for problem in passthrough_problems(from_values(values))]

    assert told(of_1_14=True, old_one=2, unsloth_num_chunks=4) == []
    assert "no such argument" in told(of_1_15=True)[0]
    assert "no such argument" in told(pad_to_multiple_of=8)[0]
    assert told(old_one="x") == ["must be a whole number"]


def test_peft_and_model_init_with_unsloth_are_checked_against_its_environment_too(home: Path, tmp_path: Path) -> None:
    """Unsloth's functions have arguments of their own, and pass on the others."""
    model = tmp_path / "model"
    model.mkdir()
    write(model / "config.json", json.dumps({"model_type": "llama"}))
    site = home / "environments" / "unsloth" / "lib" / "python3.12" / "site-packages"
    for name, source in {
        "transformers/__init__.py": "",
        "transformers/modeling_utils.py": "def from_pretrained(cls, name, device_map=None, variant=None): pass\n",
        "transformers/models/auto/auto_factory.py": "",
        "transformers/configuration_utils.py": "class PreTrainedConfig:\n    tie_word_embeddings: bool = True\n",
        "transformers/models/llama/configuration_llama.py": "class LlamaConfig:\n    attention_dropout: float = 0.0\n",
        "peft/__init__.py": "",
        "peft/lora_config.py": "class LoraConfig:\n    bias: Literal['none', 'all'] = 'none'\n    of_0_15: int = 1\n",
        "unsloth/__init__.py": "",
        "unsloth/models/llama.py": "def get_peft_model(model, qat_scheme=None, **kwargs): pass\n"
        "def from_pretrained(name, rope_scaling=None, **kwargs): pass\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(source)

    def told(**tables: Any) -> list[str]:
        values = {"model_name": str(model), "dataset": "d", "provider": "unsloth", **tables}
        return [problem.message for problem in passthrough_problems(from_values(values))]

    assert told(peft={"bias": "all", "of_0_15": 2, "qat_scheme": "int4"}) == []
    assert "no such argument" in told(peft={"ensure_weight_tying": True})[0]
    assert "must be one of none, all" in told(peft={"bias": "lora_only"})[0]
    assert told(model_init={"attention_dropout": 0.1, "variant": "fp16", "rope_scaling": {"factor": 2.0}}) == []
    assert "no such argument" in told(model_init={"attn_dropout": 0.1})[0]


def test_what_no_file_of_ours_can_hold_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="only text, numbers"):
        config(trl={"a": {"b": [object()]}})
    with pytest.raises(InvalidConfigError, match="finite"):
        config(trl={"a": float("inf")})
    for wrong in ([1], True, "x"):
        with pytest.raises(InvalidConfigError, match="a table of arguments"):
            from_values({"model_name": "m", "dataset": "d", "trl": wrong})


def test_unknown_sources_refuse_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_tui.config.passthrough.trl_fields", lambda name: None)
    assert passthrough_problems(config(trl={"anything": 1})) == []
    monkeypatch.setattr(
        "dpo_tui.config.passthrough.trl_fields", lambda name: {"anything": LibraryField("Union[Odd, Other]")}
    )
    assert passthrough_problems(config(trl={"anything": 1})) == []


def test_the_app_reads_and_writes_a_table_as_text() -> None:
    from dpo_tui.views.run_plan import RunPlan, parse, setting_text, with_values

    plan = with_values(RunPlan(), {"trl": parse("trl", 'neftune_noise_alpha = 5, optim = "rmsprop"')})
    assert plan.config.trl == {"neftune_noise_alpha": 5, "optim": "rmsprop"}
    assert setting_text(plan.config.trl) == 'neftune_noise_alpha = 5, optim = "rmsprop"'
    assert with_values(plan, {"trl": parse("trl", "neftune = ")}).problem("trl")
