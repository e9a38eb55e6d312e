"""The tables of docs/config.md that say how each argument of TRL's and PEFT's classes is set, or why it is not."""

from collections.abc import Iterator, Mapping

from dpo_tui.config.library_fields import LibraryField, peft_fields, trl_fields
from dpo_tui.config.passthrough import refusal
from dpo_tui.config.passthrough_names import PLAIN_INITIALISATIONS, SETTING_FOR
from dpo_tui.config.schema import choices, fields, section_of
from dpo_tui.strategies.registry import STRATEGIES

_CANNOT = "cannot be set: "


def field_tables() -> list[str]:
    """Return the lines of the page's part about the fields of TRL's classes of arguments and of LoraConfig.

    Of the installed libraries: a field that a new version brings is missing in the page until it is made again.
    """
    classes = _classes()
    shared = [name for name in next(iter(classes.values())) if all(name in one for one in classes.values())]
    lines = [
        "## Arguments of TRL and PEFT",
        "",
        "Every field of the classes of arguments, and what sets it: a setting, the table `[trl]` or `[peft]` as it is,",
        "or dpo-tui itself, with the reason. `dpo-tui config show --all FILE` prints what reaches each.",
        "",
        f"### {', '.join(classes)}: the fields of all",
        "",
    ]
    lines += _table((name, _key_outcome("trl", name)) for name in shared)
    for class_name, known in classes.items():
        lines += ["", f"### {class_name} alone", ""]
        lines += _table((name, _key_outcome("trl", name)) for name in known if name not in shared)
    lines += ["", "### LoraConfig", ""]
    return lines + _table((name, _key_outcome("peft", name)) for name in peft_fields() or {})


def _classes() -> dict[str, Mapping[str, LibraryField]]:
    """The classes of arguments of all strategies, each once, with their fields."""
    names = dict.fromkeys(strategy.trl_arguments for strategy in STRATEGIES.values())
    return {name: trl_fields(name) or {} for name in names}


def _table(rows: Iterator[tuple[str, str]]) -> list[str]:
    return ["| field | what sets it |", "|---|---|", *(f"| `{name}` | {fate} |" for name, fate in rows)]


def _key_outcome(table: str, name: str) -> str:
    if (table, name) == ("peft", "init_lora_weights"):
        values = ", ".join(str(value).lower() for value in PLAIN_INITIALISATIONS)
        return f"`[peft]`: {values}; others change the base model's weights, which are the reference too"
    reason = refusal(table, name, None)
    if not reason:
        return f"`[{table}]`"
    if reason.startswith(_CANNOT):
        return f"refused: {reason.removeprefix(_CANNOT)}"
    ours = SETTING_FOR[table].get(name, name)
    more = f"; values that the setting lacks: `[{table}]`" if ours == name and choices(fields()[ours]) else ""
    return f"setting [`{ours}`](#{section_of(ours)}){more}"
