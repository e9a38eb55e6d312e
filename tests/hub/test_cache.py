"""The hub client's cache is found and read by its own rules, without importing it."""

import os
from pathlib import Path

import pytest

from dpo_tui.hub.cache import cached_config, hub_cache, local_model_folder
from dpo_tui.hub.client_errors import first_line, http_status, is_unreachable

VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two snapshots of org/model; ``main`` is the older one."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--model"
    for age, commit in enumerate(("newer", "older")):
        config = repository / "snapshots" / commit / "config.json"
        config.parent.mkdir(parents=True)
        config.write_text("{}")
        os.utime(config, (1_000_000 - age, 1_000_000 - age))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("older\n")
    return tmp_path


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_cache_is_where_the_hub_client_says(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four variables, each goes before those after it."""
    for later in VARIABLES[VARIABLES.index(variable) :]:
        monkeypatch.setenv(later, str(tmp_path / later))
    for earlier in VARIABLES[: VARIABLES.index(variable)]:
        monkeypatch.delenv(earlier, raising=False)
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}.get(variable, "")
    assert hub_cache() == tmp_path / variable / below


def test_a_revision_is_found_by_branch_and_by_commit(cache: Path) -> None:
    snapshots = cache / "models--org--model" / "snapshots"
    assert cached_config("org/model") == snapshots / "older" / "config.json", "what main points to"
    assert cached_config("org/model", "newer") == snapshots / "newer" / "config.json"
    assert cached_config("org/model", "absent") is None
    assert local_model_folder("org/model") == snapshots / "older"


def test_without_main_the_latest_download_is_taken(cache: Path) -> None:
    (cache / "models--org--model" / "refs" / "main").unlink()
    assert local_model_folder("org/model") == cache / "models--org--model" / "snapshots" / "newer"


@pytest.mark.parametrize("name", ["org/other", "../model", "a\0b"])
def test_a_model_that_is_not_in_the_cache_has_no_folder(cache: Path, name: str) -> None:
    assert cached_config(name) is None


class Answered(OSError):
    """An error with an answer of the hub, as requests' HTTPError, which is an OSError."""

    class response:
        status_code = 503


def test_an_error_with_an_answer_is_not_an_unreachable_hub() -> None:
    assert is_unreachable(ConnectionError("no route"))
    assert not is_unreachable(Answered("busy"))
    assert not is_unreachable(ValueError("bad id"))
    assert (http_status(Answered()), http_status(ValueError())) == (503, None)


def test_an_errors_first_line_never_has_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert first_line(ValueError("\n  hf_secret is not valid\nmore")) == "… is not valid"
    assert first_line(ValueError()) == "ValueError"
