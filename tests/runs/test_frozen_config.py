"""Settings read from a run's config.toml without the config's own classes."""

from pathlib import Path

import pytest

from dpo_tui.advice.evidence import read_evidence
from dpo_tui.runs.frozen_config import read_setting, read_settings

_CONFIG = """\
[model]
model_name = "org/model"  # "the base"
use_4bit = true

[training]
learning_rate = 5e-6
loss_type = ["sigmoid"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(_CONFIG)
    return path


def test_settings_are_found_by_name_in_whatever_table_they_are(config: Path) -> None:
    settings = read_settings(config)
    assert settings == {"model_name": "org/model", "use_4bit": True, "learning_rate": 5e-6, "loss_type": ["sigmoid"]}
    assert {name: read_setting(config, name) for name in settings} == settings
    assert read_evidence(config.parent).settings == settings


def test_a_name_that_only_begins_alike_is_another_setting(config: Path) -> None:
    config.write_text('model_name_or_path = "other"\n' + _CONFIG)
    assert read_setting(config, "model_name") == "org/model"
    assert read_setting(config, "model") is None


@pytest.mark.parametrize("damage", [b"\x00\xff\n", b"[half\n", b"key = \n"])
def test_a_damaged_file_has_no_settings_but_still_the_one_on_a_whole_line(config: Path, damage: bytes) -> None:
    config.write_bytes(config.read_bytes() + damage)
    assert read_settings(config) == {}
    assert read_setting(config, "model_name") == "org/model"
    config.write_bytes(b'model_name = "half')
    assert read_setting(config, "model_name") is None


def test_a_missing_file_has_no_settings(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "config.toml") == {}
    assert read_setting(tmp_path / "config.toml", "model_name") is None


def test_a_setting_that_is_a_table_is_one_setting_and_its_keys_are_none(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[model]\nchat_template_kwargs = {seed = 1}\n[training]\nseed = 7\n[trl]\nseed = 3\n")
    assert read_settings(path) == {"chat_template_kwargs": {"seed": 1}, "seed": 7, "trl.seed": 3}
