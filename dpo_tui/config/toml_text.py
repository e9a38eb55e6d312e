"""Write a config as TOML: one table a section, comments from the schema."""

import textwrap
from typing import Any

import tomli_w
from pydantic.fields import FieldInfo

from dpo_tui.config.schema import SECTIONS, Config, bounds, choices, setting_text

_WIDTH = 100


def to_toml(config: Config, *, comments: bool = False) -> str:
    """Return the file's text.

    Args:
        config: the settings; one without a value is left out, or shown as a comment when there are comments.
        comments: explain every setting above its line.
    """
    blocks = []
    for table, section in SECTIONS.items():
        lines = [f"[{table}]"]
        for name, info in section.model_fields.items():
            value = getattr(config, name)
            if comments:
                lines += ["", *(f"# {line}" for line in textwrap.wrap(_comment(info), _WIDTH))]
            if value is not None:
                lines.append(_line(name, value))
            elif comments:
                lines.append(f"# {name} =")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def template() -> str:
    """Return a config to start from, with every setting explained and its default filled in."""
    config = Config(model_name="meta-llama/Llama-3.1-8B-Instruct", dataset="pairs.jsonl")
    return "# dpo-tui: `dpo-tui train FILE` starts a run from this file.\n\n" + to_toml(config, comments=True)


def limits(info: FieldInfo) -> str:
    """Return a setting's choices or bounds in words, empty where it is free."""
    if allowed := choices(info):
        return f"one of {', '.join(allowed)}"
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return ", ".join(f"{signs[sign]} {limit:,.10g}" for sign, limit in bounds(info).items())


def _comment(info: FieldInfo) -> str:
    text = setting_text(info)
    extra = "; ".join(part for part in (f"in {text.unit}" if text.unit else "", limits(info)) if part)
    return f"{text.help} ({extra})" if extra else text.help


def inline_table(value: Any) -> str:
    """Return a value as TOML on one line; line breaks are allowed in an array there, but not in an inline table."""
    if isinstance(value, dict):
        items = [f"{_assignment(name)} = {inline_table(item)}" for name, item in value.items()]
        return "{ " + ", ".join(items) + " }" if items else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline_table, value))}]"
    return tomli_w.dumps({"_": value}).removeprefix("_ = ").strip()


def _line(name: str, value: Any) -> str:
    if isinstance(value, dict):
        # tomli_w would begin a table, which would take the settings after it.
        return f"{name} = {inline_table(value)}"
    return tomli_w.dumps({name: list(value) if isinstance(value, tuple) else value}).strip()


def _assignment(name: str) -> str:
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
