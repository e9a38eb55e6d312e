"""Whatever is wrong with a document is one kind of error."""

from pathlib import Path

import pytest

import dpo_tui
from dpo_tui.text.plain_documents import parse_json, parse_toml, parse_yaml

PACKAGE = Path(dpo_tui.__file__).parent


@pytest.mark.parametrize(
    "text",
    [
        "a = ",
        "a = " + "[" * 2000,
        "a = " + "[" * 65 + "]" * 65,
        "a = " + "9" * 5000,
        "a = 0x" + "f" * 4000,
        "a = 18446744073709551616",
        "a = 2001-13-01",
    ],
    ids=lambda text: text[:12],
)
def test_toml_that_cannot_be_used_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_toml(text)


def test_toml_within_the_limits_is_parsed() -> None:
    deep = "[" * 63 + "]" * 63
    assert parse_toml(f"a = 18446744073709551615\nb = {deep}\n")["a"] == 2**64 - 1


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5000], ids=lambda text: text[:12])
def test_json_that_cannot_be_used_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 2001-13-01",
        "a: !!bool x",
        "a: !!int ''",
        "a: !!timestamp x",
        "a: !!float x",
        "a: " + "9" * 5000,
        "a: " + "[" * 300,
        "a: &a [*a]",
        "a: !!python/name:os.system ''",
    ],
    ids=lambda text: text[:12],
)
def test_yaml_that_cannot_be_used_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_yaml(text)


def test_aliases_of_one_value_are_no_depth() -> None:
    assert parse_yaml("a: &a [1]\nb: [*a, *a]") == {"a": [1], "b": [[1], [1]]}


def test_no_other_module_parses_toml_by_itself() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if b"import tomllib" in path.read_bytes()
    }
    assert users == {"text/plain_documents.py"}
