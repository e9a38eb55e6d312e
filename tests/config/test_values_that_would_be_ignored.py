"""Values that a library would ignore or refuse minutes later: named before the start, with exit 2 and without a run."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import from_values, load
from dpo_tui.config.passthrough import passthrough_problems, require_passthrough
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import store

NEEDED = 'model_name = "m"\ndataset = "d"\n'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('optim = "sgd"\n[trl]\noptim_args = "momentun=0.9"', "has momentun, and optim = sgd reads"),
        ('optim = "sgd"\n[trl]\noptim_args = "momentun=0.9"', "did you mean momentum?"),
        ('[trl]\noptim_args = "beta3=0.9"', "does nothing with optim = adamw_torch"),
        ('optim = "sgd"\n[trl]\noptim_args = "momentum"', "must be NAME=VALUE"),
        ('[model_init]\nattn_implementation = "nonsense"', "must be one of eager, flash_attention_2"),
        ('optim = "sgd"\n[trl]\noptim = "rmsprop"', "optim is set in [training] too; keep one"),
        ('attn_implementation = "sdpa"\n[model_init]\nattn_implementation = "paged|eager"', "is set in [model] too"),
        ("learning_rate = []", "learning_rate"),
        ("lora_target_modules = 5", "lora_target_modules"),
        ('[trl]\ndata_seed = "one"', "must be a whole number"),
        ("ref_model = 5", "ref_model"),
    ],
)
def test_it_is_named_by_train_and_config_check_alike(home: Path, tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(NEEDED + lines + "\n")
    messages = []
    for command in (["config", "check"], ["train"]):
        done = CliRunner().invoke(cli, [*command, str(path)])
        assert isinstance(done.exception, DpoTuiError) and done.exception.exit_code == 2
        messages.append(done.exception.message)
    assert said in messages[0] and messages[0] == messages[1]
    assert store.all_runs() == []


@pytest.mark.parametrize(
    "values",
    [
        {"optim": "sgd", "trl": {"optim_args": "momentum=0.9, nesterov=true"}},
        {"trl": {"optim": "rmsprop", "optim_args": "alpha=0.9,centered=true"}},
        {"trl": {"optim": "rmsprop_bnb_8bit", "optim_args": "alpha=0.9,anything=1"}},
        {"model_init": {"attn_implementation": "paged|eager"}},
        {"model_init": {"attn_implementation": "kernels-community/flash-attn2"}},
        {"model_init": {"attn_implementation": "flash_attention_4"}},
    ],
    ids=str,
)
def test_what_a_library_takes_is_not_refused(values: dict[str, object]) -> None:
    assert passthrough_problems(from_values({"model_name": "m", "dataset": "d", **values})) == []


def test_a_config_with_every_default_written_out_has_no_second_source(tmp_path: Path) -> None:
    """Such as that of a run, which people copy."""
    path = tmp_path / "run.toml"
    config = from_values({"model_name": "m", "dataset": "d", "trl": {"optim": "rmsprop"}})
    path.write_text(to_toml(config), encoding="utf-8")
    require_passthrough(load(path))
