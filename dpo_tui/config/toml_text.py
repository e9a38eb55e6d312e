"""Write a config as TOML: one table a section, comments from the schema."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import tomli_w
from pydantic.fields import FieldInfo

from dpo_tui.config.schema import PASSTHROUGH, SECTIONS, Config, bounds, choices, setting_text
from dpo_tui.strategies.registry import DEFAULT, STRATEGIES

_WIDTH = 100


def to_toml(config: Config, *, comments: bool = False, omit: frozenset[str] = frozenset()) -> str:
    """Return the file's text.

    Args:
        config: the settings; one without a value is left out, or shown as a comment when there are comments.
        comments: explain every setting above its line.
        omit: settings that are left out in any case.
    """
    if config.warmup_steps is not None:
        omit |= {"warmup_ratio"}  # a file that has both is refused
    blocks = []
    for table, section in SECTIONS.items():
        if table in PASSTHROUGH:
            blocks += _passthrough_block(table, section.model_fields[table], getattr(config, table), comments)
            continue
        lines = [f"[{table}]"]
        for name, info in section.model_fields.items():
            value = None if name in omit else getattr(config, name)
            if comments:
                lines += ["", *(f"# {line}" for line in textwrap.wrap(_comment(info), _WIDTH))]
            if value is not None:
                lines.append(_line(name, value))
            elif comments:
                lines.append(f"# {name} =")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def template(values: Mapping[str, Any] | None = None, heading: str = "") -> str:
    """Return a config to start from, with every setting explained and its default filled in.

    Args:
        values: settings that differ from the defaults.
        heading: a sentence about them.
    """
    given = {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "dataset": "pairs.jsonl", **(values or {})}
    config = Config(**{**STRATEGIES[given.get("strategy", DEFAULT)].defaults, **given})
    lines = ["dpo-tui: `dpo-tui train FILE` starts a run from this file.", *([heading] if heading else [])]
    comment = "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, _WIDTH))
    return f"{comment}\n\n{to_toml(config, comments=True)}"


def limits(info: FieldInfo) -> str:
    """Return a setting's choices or bounds in words, empty where it is free."""
    if allowed := choices(info):
        return f"one of {', '.join(allowed)}"
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return ", ".join(f"{signs[sign]} {limit:,.10g}" for sign, limit in bounds(info).items())


def inline(value: Any) -> str:
    """Return a value as TOML on one line; unlike a library's writer, a mapping too."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key_text(name)} = {inline(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    # JSON writes control characters as TOML does, with one exception.
    return (
        json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else _scalar(value)
    )


def _scalar(value: Any) -> str:
    return tomli_w.dumps({"v": value}).strip().removeprefix("v = ")


def key_text(name: str) -> str:
    """Return a key as TOML writes it, in quotes where it needs them."""
    return _scalar({name: 0}).removeprefix("[v]\n").removesuffix(" = 0")


def _passthrough_block(table: str, info: FieldInfo, values: Mapping[str, Any], comments: bool) -> list[str]:
    """The block of a table that is passed on to a library; none where it is empty and nothing is explained."""
    lines = [f"[{table}]"]
    if comments:
        lines += ["", *(f"# {line}" for line in textwrap.wrap(_comment(info), _WIDTH))]
    lines += [f"{key_text(name)} = {inline(value)}" for name, value in values.items()]
    return ["\n".join(lines)] if values or comments else []


def _comment(info: FieldInfo) -> str:
    text = setting_text(info)
    extra = "; ".join(part for part in (f"in {text.unit}" if text.unit else "", limits(info)) if part)
    return f"{text.help} ({extra})" if extra else text.help


def _line(name: str, value: Any) -> str:
    if isinstance(value, dict):
        # tomli_w would begin a table, which would take the settings after it.
        return f"{name} = {inline(value)}"
    return tomli_w.dumps({name: list(value) if isinstance(value, tuple) else value}).strip()
