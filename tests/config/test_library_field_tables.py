"""docs/config.md has every field of the installed classes of arguments, each with what sets it."""

import dataclasses
import re
from pathlib import Path

import pytest

from dpo_tui.config import library_field_tables
from dpo_tui.config.library_field_tables import field_tables
from dpo_tui.config.library_fields import LibraryField, trl_fields

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def described(text: str) -> dict[str, dict[str, str]]:
    """What the page says of each field, by the headings of its tables."""
    found: dict[str, dict[str, str]] = {}
    for part in text.split("\n### ")[1:]:
        heading = part.splitlines()[0]
        found[heading] = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", part, re.MULTILINE))
    return found


def test_every_field_of_the_installed_classes_is_in_the_page_with_what_sets_it() -> None:
    """A new TRL or PEFT that brings a field ends here, until the page is made again and read."""
    from peft import LoraConfig
    from trl import DPOConfig, KTOConfig, SFTConfig
    from trl.experimental.cpo import CPOConfig
    from trl.experimental.orpo import ORPOConfig

    page = described(PAGE.read_text(encoding="utf-8"))
    shared = next(rows for heading, rows in page.items() if heading.endswith("the fields of all"))
    for one in (DPOConfig, SFTConfig, KTOConfig, ORPOConfig, CPOConfig):
        rows = shared | page[f"{one.__name__} alone"]
        assert {field.name for field in dataclasses.fields(one) if field.init} <= rows.keys(), one
    assert {field.name for field in dataclasses.fields(LoraConfig)} <= page["LoraConfig"].keys()
    fates = [fate for rows in page.values() for fate in rows.values()]
    assert all(re.match(r"`\[\w+\]`|setting \[`|refused: .{10}", fate) for fate in fates)
    assert shared["learning_rate"] == "setting [`learning_rate`](#training)"
    assert shared["output_dir"].startswith("refused: a run has a folder of its own")
    assert shared["neftune_noise_alpha"] == "`[trl]`"
    assert page["LoraConfig"]["r"] == "setting [`lora_r`](#lora)"


def test_a_field_that_a_new_trl_brings_is_missing_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(class_name: str) -> dict[str, LibraryField]:
        return {**(trl_fields(class_name) or {}), "brand_new": LibraryField("int")}

    monkeypatch.setattr(library_field_tables, "trl_fields", newer)
    assert "| `brand_new` | `[trl]` |" in field_tables()
    assert "brand_new" not in PAGE.read_text(encoding="utf-8")
