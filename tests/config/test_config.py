"""Config files: every accepted kind loads, every problem is named at once."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.config.docs_page import page
from dpo_tui.config.files import from_values, load, parse_assignment, with_changes
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.rules import RULES
from dpo_tui.config.schema import PASSTHROUGH, SECTIONS, Config, bounds, choices, fields, section_of, setting_text
from dpo_tui.config.toml_text import template, to_toml
from dpo_tui.errors import ConfigError
from tests.support.repository import ROOT

BASIC = {
    "strategy": "dpo", "task": "text-generation", "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "dataset": "/path/to/preference-data.jsonl", "provider": "huggingface", "num_train_epochs": 3,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "learning_rate": 5e-7, "lora_r": 16,
    "lora_alpha": 32, "use_4bit": True, "bf16": True,
}  # fmt: skip
ADVANCED = BASIC | {
    "provider": "unsloth", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "lora_r": 64,
    "lora_alpha": 128, "max_seq_length": 2048, "warmup_ratio": 0.1, "eval_split": 0.1,
}  # fmt: skip
NEEDED = {"model_name": "m", "dataset": "d"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path) -> dict[str, str]:
    with pytest.raises(InvalidConfigError) as caught:
        load(path)
    return {problem.key: problem.describe(path.name) for problem in caught.value.problems}


@pytest.mark.parametrize("values", [BASIC, ADVANCED], ids=["basic", "advanced"])
def test_the_two_json_files_load_unchanged(tmp_path: Path, values: dict[str, Any]) -> None:
    """Every name is accepted as it is, and every value arrives."""
    loaded = load(write(tmp_path / "config.json", json.dumps(values)))
    assert {name: getattr(loaded.config, name) for name in values} == values
    assert all(loaded.origin(name) == "file" for name in values)
    assert loaded.origin("seed") == "default"


def test_defaults_are_the_documented_ones() -> None:
    config = from_values(NEEDED)
    assert (config.num_train_epochs, config.learning_rate, config.lora_dropout) == (3, 5e-7, 0.05)
    assert (config.warmup_ratio, config.eval_split, config.effective_batch) == (0.1, 0.1, 8)
    assert config.alpha == 2 * config.lora_r


def test_toml_loads_with_tables_and_without(tmp_path: Path) -> None:
    tables = write(tmp_path / "a.toml", '[model]\nmodel_name = "m"\n[data]\ndataset = "d"\n[dpo]\nbeta = 0.5\n')
    flat = write(tmp_path / "b.toml", 'model_name = "m"\ndataset = "d"\nbeta = 0.5\n')
    assert load(tables).config == load(flat).config


def test_every_problem_is_named_at_once_with_line_value_and_bound(tmp_path: Path) -> None:
    text = '[model]\nmodel_name = "m"\nlora_r = 5\n[dpo]\nbeta = 0\nlearnin_rate = 3\nloss_type = "simpo"\n'
    found = problems_of(write(tmp_path / "c.toml", text))
    assert found["beta"] == "c.toml:5: beta = 0: must be greater than 0 and at most 1,000"
    assert "c.toml:6: learnin_rate = 3: no such setting; did you mean learning_rate" in found["learnin_rate"]
    assert "belongs in [lora]" in found["lora_r"]
    assert "must be one of sigmoid" in found["loss_type"]
    assert "is required" in found["dataset"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lora_r", True, "not true/false"),
        ("use_4bit", "maybe", "true or false"),
        ("lora_r", 1.5, "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", float("nan"), "number"),
        ("eval_split", 1.0, "less than 1"),
        ("max_seq_length", 2_000_000, "at most 1,048,576"),
        ("gpus", "most", "auto takes the GPU"),
        ("max_length", 512, "did you mean max_seq_length"),
    ],
)
def test_a_wrong_value_is_explained(key: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidConfigError, match=said):
        from_values(NEEDED | {key: value})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.toml", None, "no such file"),
        ("empty.toml", "", "is empty"),
        ("broken.toml", "beta = = 1", "not valid TOML"),
        ("broken.json", '{"beta": 1,}', "not valid JSON"),
        ("deep.toml", "a = " + "[" * 100_000, "not valid TOML"),
        ("deep.json", "[" * 100_000, "not valid JSON"),
        ("list.json", "[1]", "found a list"),
        ("broken.yaml", "a: [", "not valid YAML"),
        ("twice.yaml", "model_name: m\ndataset: d\nbeta: 0.1\nbeta: 0.2\n", "beta occurs twice"),
        ("twice.yaml", "base_model: m\nrl: dpo\ndatasets:\n  - path: a\n    path: b\n", "path occurs twice"),
        ("twice.json", '{"model_name": "m", "dataset": "d", "beta": 0.1, "beta": 0.2}', "beta occurs twice"),
        ("config.ini", "a=1", "unknown kind"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(ConfigError, match=said) as caught:
        load(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", 'beta: 0.1\nmodel_name: "m\n', ":3, column 1: not valid YAML: while scanning a quoted scalar"),
        ("a.yaml", "model_name: m\n\tdataset: d\n", ":2, column 1: not valid YAML: while scanning"),
        ("a.yaml", "model_name: m\n  dataset: d\n", ":2, column 10: not valid YAML: mapping values are not allowed"),
        ("a.yaml", "beta: 0.1\nname: [*y]\n", ":2, column 8: not valid YAML: found undefined alias 'y'"),
        ("a.yaml", "beta: 0.1\nname: a\x01b\n", ":2, column 8: not valid YAML: the character U+0001"),
        ("a.yaml", "name: !!python/object:os.system x\n", ":1, column 7: not valid YAML: could not determine"),
        ("a.json", '{"beta": 0.1,\n "name": }', ":2, column 10: not valid JSON: Expecting value"),
    ],
)
def test_a_mistake_of_writing_is_named_with_file_line_and_column(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.message.startswith(f"{path}{said}")
    assert "unicode string" not in caught.value.message


def test_a_binary_file_is_not_a_config(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_yaml_of_trl_dpo_keeps_its_meaning(tmp_path: Path) -> None:
    """PyYAML reads 5e-7 as text; TRL's own defaults stay where the file is silent."""
    text = (
        "model_name_or_path: m\ndataset_name: d\nlearning_rate: 5e-7\nuse_peft: true\nload_in_4bit: true\n"
        "max_length: 512\nwarmup_steps: 0.05\noutput_dir: out\nreport_to: none\n"
    )
    loaded = load(write(tmp_path / "trl.yaml", text))
    config = loaded.config
    assert loaded.dialect == "trl dpo"
    assert (config.learning_rate, config.max_seq_length, config.warmup_ratio) == (5e-7, 512, 0.05)
    assert (config.use_lora, config.use_4bit, config.report_to) == (True, True, [])
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (8, 1)
    outcomes = {row.key: row for row in loaded.key_outcomes}
    assert outcomes["output_dir"].outcome == "dropped" and outcomes["output_dir"].why
    assert outcomes["max_length"].to == "max_seq_length"
    assert outcomes["per_device_train_batch_size"].outcome == "filled in"


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("one_weight_per_loss", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}),
        ("divergence_needs_a_difference_loss", {"f_divergence_type": "js_divergence", "loss_type": ["apo_zero"]}),
        ("weighting_needs_pairs_in_order", {"use_weighting": True, "loss_type": ["aot"]}),
        ("exo_needs_smoothing", {"loss_type": ["exo_pair"]}),
        ("smoothing_needs_a_loss_that_has_it", {"label_smoothing": 0.1}),
        ("moving_reference_needs_a_reference", {"sync_ref_model": True}),
        ("adapter_not_on_the_head", {"lora_target_modules": ["q_proj", "lm_head"]}),
        ("four_bit_needs_an_adapter", {"use_4bit": True, "use_lora": False}),
        ("the_newest_run_goes_by_last", {"name": "last"}),
        ("schedule_has_its_arguments", {"lr_scheduler_type": "cosine_with_min_lr"}),
        ("one_warmup", {"warmup_steps": 10, "warmup_ratio": 0.2}),
    ],
)
def test_settings_that_do_not_go_together_are_refused(rule: str, values: dict[str, Any]) -> None:
    assert rule in {check.__name__ for check in RULES}
    with pytest.raises(InvalidConfigError) as caught:
        from_values(NEEDED | values)
    assert caught.value.problems[0].key in values or caught.value.problems[0].key == "label_smoothing"


def test_of_quantised_weights_only_nf4_is_divided() -> None:
    divided = {"gpus": "none", "ranks": 2, "distributed": "fsdp2"}
    with pytest.raises(InvalidConfigError) as caught:
        from_values(NEEDED | divided | {"model_init": {"quantization_config": {"load_in_8bit": True}}})
    assert [problem.key for problem in caught.value.problems] == ["model_init.quantization_config"]
    assert from_values(NEEDED | divided | {"use_4bit": True}).is_sharded


def test_a_schedule_with_its_arguments_is_accepted() -> None:
    kwargs = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
    assert from_values(NEEDED | {"lr_scheduler_type": "cosine_with_min_lr", "trl": kwargs}).trl == kwargs


def test_the_rules_refuse_what_trl_refuses_and_nothing_that_it_takes() -> None:
    """The loss names are TRL's own, so that none of ours fails at the first step."""
    import inspect

    from trl import DPOTrainer

    source = inspect.getsource(DPOTrainer)
    for loss in choices(fields()["loss_type"]):
        assert f'"{loss}"' in source, loss


def test_an_assignment_reads_toml_or_text() -> None:
    assert parse_assignment("learning_rate=1e-6") == ("learning_rate", 1e-6)
    assert parse_assignment("dpo.beta = 0.5") == ("beta", 0.5)
    assert parse_assignment("model_name=org/model") == ("model_name", "org/model")
    with pytest.raises(InvalidConfigError, match="did you mean beta"):
        parse_assignment("betta=1")
    for table in ("data", "nosuch", "dpo.data"):
        with pytest.raises(InvalidConfigError, match=r"belongs in \[dpo\]: --set beta=1"):
            parse_assignment(f"{table}.beta=1")
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_assignment("beta")


def test_changes_make_a_copy_and_remember_where_they_came_from(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.toml", 'model_name = "m"\ndataset = "d"\n'), {"beta": 0.5})
    changed = with_changes(loaded, {"lora_r": 64}, "profile")
    assert (loaded.config.lora_r, changed.config.lora_r) == (16, 64)
    assert (changed.origin("beta"), changed.origin("lora_r")) == ("command line", "profile")


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        ("warmup_steps = 150", {}, (150, 0.1)),
        ("warmup_steps = 0", {}, (0, 0.1)),
        ("warmup_ratio = 0.2", {"warmup_steps": 150}, (150, 0.1)),
        ("warmup_steps = 150", {"warmup_ratio": 0.2}, (None, 0.2)),
        ("", {}, (None, 0.1)),
    ],
)
def test_a_warmup_is_a_ratio_or_a_number_of_steps(
    tmp_path: Path, file: str, changes: dict[str, Any], expected: tuple[int | None, float]
) -> None:
    loaded = load(write(tmp_path / "a.toml", f'model_name = "m"\ndataset = "d"\n{file}\n'), changes)
    assert (loaded.config.warmup_steps, loaded.config.warmup_ratio) == expected
    frozen = write(tmp_path / "config.toml", to_toml(loaded.config))
    assert load(frozen).config == loaded.config


def test_both_forms_of_the_warmup_are_refused_and_a_later_one_replaces_the_other(tmp_path: Path) -> None:
    both = write(tmp_path / "a.toml", 'model_name = "m"\ndataset = "d"\nwarmup_ratio = 0.1\nwarmup_steps = 5\n')
    assert "warmup_ratio is set too" in problems_of(both)["warmup_steps"]
    share = write(tmp_path / "b.toml", 'model_name = "m"\ndataset = "d"\nwarmup_steps = 0.1\n')
    assert "whole number" in problems_of(share)["warmup_steps"]
    steps = load(write(tmp_path / "c.toml", 'model_name = "m"\ndataset = "d"\nwarmup_steps = 5\n'))
    assert with_changes(steps, {"warmup_ratio": 0.2}, "profile").config.warmup_steps is None
    assert with_changes(steps, {"beta": 0.2}, "profile").config.warmup_steps == 5


def test_the_template_loads_and_explains_every_setting() -> None:
    text = template()
    values = {name: value for table in tomllib.loads(text).values() for name, value in table.items()}
    assert from_values(values) == from_values({**values})
    for name in fields():
        assert f"\n{name} = " in text or f"\n# {name} =" in text or (name in PASSTHROUGH and f"\n[{name}]\n" in text)


config_values = st.fixed_dictionaries(
    {"model_name": st.text(min_size=1), "dataset": st.text(min_size=1)},
    optional={
        "beta": st.floats(min_value=1e-6, max_value=1000, allow_nan=False),
        "learning_rate": st.floats(min_value=1e-12, max_value=1, allow_nan=False),
        "lora_r": st.integers(1, 1024),
        "name": st.text(min_size=1, max_size=64),
        "use_4bit": st.booleans(),
        "loss_weights": st.lists(st.floats(0, 10), min_size=1, max_size=1),
    },
)


@settings(deadline=None)
@given(values=config_values)
def test_a_config_survives_being_written_and_read(values: dict[str, Any]) -> None:
    config = from_values(values)
    tables = tomllib.loads(to_toml(config, comments=True))
    assert from_values({name: value for table in tables.values() for name, value in table.items()}) == config


def test_every_setting_has_words_and_a_place() -> None:
    assert set(fields()) == set(Config.model_fields)
    for name, info in fields().items():
        said = setting_text(info)
        assert section_of(name) in SECTIONS
        assert said.title and said.help.endswith((".", ")")), name
        assert all(isinstance(limit, int | float) for limit in bounds(info).values())


def test_the_settings_page_is_current() -> None:
    assert ROOT.joinpath("docs/config.md").read_text(encoding="utf-8") == page()
