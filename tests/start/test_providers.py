"""A provider is described in one place: its interpreter and what it needs are asked of the registry."""

from pathlib import Path

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.rules import IGNORED_BY_PROVIDER
from dpo_tui.config.schema import Config, choices, fields
from dpo_tui.errors import ConfigError
from dpo_tui.runs.state import read_state
from dpo_tui.start.prepare import create_run, prepare
from dpo_tui.start.providers.registry import PROVIDERS, provider_of
from tests.support.training import loaded


class OtherStack:
    """A provider with an environment of its own, which may be incomplete."""

    def __init__(self, missing: str = "") -> None:
        self.missing = missing

    def interpreter(self) -> Path | None:
        return Path("/opt/other/bin/python")

    def check(self, *, has_gpu: bool) -> None:
        if self.missing:
            raise ConfigError(self.missing, hint="install it")


def config(**values: object) -> Config:
    return from_values({"model_name": "m", "dataset": "d", **values})


def test_every_provider_that_a_config_may_name_is_in_the_registry() -> None:
    assert set(choices(fields()["provider"])) == set(PROVIDERS)
    assert set(IGNORED_BY_PROVIDER) <= set(PROVIDERS)


def test_the_default_provider_trains_anywhere_under_our_own_interpreter() -> None:
    provider = provider_of(config())
    provider.check(has_gpu=False)
    assert provider.interpreter() is None


def test_a_run_gets_the_interpreter_of_its_provider(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROVIDERS, "huggingface", OtherStack())
    state = read_state(create_run(prepare(loaded(tmp_path, tiny_model, tiny_pairs))))
    assert state is not None
    assert state.python == "/opt/other/bin/python"


def test_a_provider_that_lacks_something_starts_nothing(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROVIDERS, "huggingface", OtherStack("its kernels are missing"))
    with pytest.raises(ConfigError, match="its kernels are missing"):
        prepare(loaded(tmp_path, tiny_model, tiny_pairs))
    assert not (home / "runs").exists()
