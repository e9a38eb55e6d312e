"""Files given as a config that are no config: pipes, devices, aliases that stand for billions, gigantic tables."""

import os
from pathlib import Path

import pytest

from dpo_tui.config.files import load
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import ConfigError, DataError
from dpo_tui.judging.prompt_file import read_prompts

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("text", [BOMB, "model_name: &a [*a]\n", "a: &a {b: 1}\nc: &c {d: &d [*c, *d]}\n"])
def test_aliases_that_stand_for_too_many_values_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="aliases"):
        load(path)


def test_aliases_that_people_write_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model_name: &name m\ndataset: d.jsonl\nlearning_rate: 1e-5\nref_model: *name\n")
    assert load(path).config.ref_model == "m"


@pytest.mark.parametrize("name", ["config.toml", "config.yaml", "config.json"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="no regular file"):
        load(tmp_path / name)
    with pytest.raises(DataError, match="no regular file"):
        read_prompts(tmp_path / name)
    with pytest.raises(DataError, match="no regular file"):
        load_template(tmp_path, TemplateSettings(file=str(tmp_path / name)))


def test_a_device_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no regular file"):
        load(tmp_path / "config.toml")


def test_a_file_that_is_no_config_by_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "' + "x" * (2 << 20) + '"}')
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load(path)


def test_tables_of_too_many_keys_are_refused(tmp_path: Path) -> None:
    """Each key was counted among all others, and each name looked for: 60,000 of them took minutes."""
    path = tmp_path / "config.json"
    path.write_text("{" + ", ".join(f'"k{n}": 1' for n in range(60_000)) + "}")
    with pytest.raises(ConfigError, match="60,000 settings"):
        load(path)
