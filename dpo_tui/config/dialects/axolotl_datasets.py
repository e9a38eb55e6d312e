"""The data sets of an Axolotl file: their files, the columns of a prompt strategy, and formats written as text."""

import re
from collections.abc import Mapping
from typing import Any

from dpo_tui.config.dialects.conversion import Conversion, DataSource, take_sources, text_list

_LOADERS = {"json", "csv", "parquet", "arrow", "text"}
# The columns that a named prompt strategy reads (axolotl/prompt_strategies/dpo), where other names are usual.
_STRATEGY_COLUMNS: dict[str, dict[str, str]] = {
    "argilla": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    "intel": {"prompt": "question", "system": "system"},
    "icr": {"prompt": "input"},
    "prompt_pairs": {},
    "ultra": {},
    "argilla_chat": {},
    "default": {},
    "chat": {},
}
_FIELD_FOR = {
    "field_prompt": "prompt_field",
    "field_messages": "prompt_field",
    "field_chosen": "chosen_field",
    "field_rejected": "rejected_field",
    "field_system": "system_field",
}
# What the columns are called where rows are recognised by themselves.
_USUAL = {
    "field_prompt": {"prompt"},
    "field_messages": {"messages", "prompt"},
    "field_chosen": {"chosen"},
    "field_rejected": {"rejected"},
    "field_system": {"system"},
}
_FORMATS = {"prompt_format": "prompt", "chosen_format": "chosen", "rejected_format": "rejected"}
_USUAL_PROPERTIES = {"role": {"role", "from"}, "content": {"content", "value"}}
_USUAL_ROLES = {
    "system": {"system"},
    "user": {"user", "human"},
    "assistant": {"assistant", "gpt", "model"},
    "tool": {"tool", "observation"},
}
_PLACE = {"path", "split", "name", "data_files", "ds_type"}
_CHAT_TAGS = re.compile(
    r"<\|[^|>]*\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|^\s*(?:system|user|assistant|human|model)\s*$",
    re.MULTILINE | re.IGNORECASE,
)


def convert_datasets(conversion: Conversion, key: str, value: Any) -> None:
    """Take the data sets of a file, with the columns of the first.

    Args:
        conversion: receives the outcomes.
        key: ``datasets`` or ``test_datasets``.
        value: the list of entries.
    """
    entries = [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
    if not entries or any(not (entry.get("path") or entry.get("data_files")) for entry in entries):
        conversion.leave_undecided(key, value, "expected a list of entries with a path")
        return
    sources = [source for entry in entries for source in _sources(entry)]
    if key == "datasets":
        take_sources(conversion, key, sources)
    else:
        places = [source.place for source in sources]
        conversion.take(key, "eval_dataset", places if len(places) > 1 else places[0])
        if len(sources) > 1:
            others = [source.place for source in sources[1:]]
            conversion.leave_undecided(f"{key}_others", others, "a run evaluates on one data set: join the files")
    for index, entry in enumerate(entries):
        _columns(conversion, f"{key}[{index}]", entry, first=key == "datasets" and index == 0)


def _sources(entry: Mapping[str, Any]) -> list[DataSource]:
    """The sources of one entry: its files, or its path with subset and split."""
    files = text_list(entry["data_files"]) if entry.get("data_files") else []
    path = str(entry.get("path") or "")
    # A generic loader's name (`path: json`) stands for its data_files.
    if files and (entry.get("ds_type") or path in _LOADERS or not path):
        return [DataSource(file) for file in files]
    local = bool(re.search(r"\.(jsonl?|csv|tsv|parquet|arrow)(\.\w+)?$", path)) or path.startswith((".", "/", "~"))
    return [DataSource(path, str(entry.get("name") or ""), "" if local else str(entry.get("split") or ""))]


def _columns(conversion: Conversion, shown: str, entry: Mapping[str, Any], *, first: bool) -> None:
    """Take the columns of an entry; those of later entries are compared with the settings of the first."""
    kind = entry.get("type")
    nested = kind if isinstance(kind, Mapping) else {}
    given = {**{name: value for name, value in entry.items() if name not in {"type", *_PLACE}}, **nested}
    columns = {name: str(given[name]) for name in _FIELD_FOR if given.get(name)}
    if isinstance(kind, str):
        columns = {f"field_{name}": column for name, column in _named(kind).items()} | columns
        _kind(conversion, f"{shown}.type", kind)
    for name, column in columns.items():
        _column(conversion, f"{shown}.{'type.' if name in nested else ''}{name}", name, column, first=first)
    for name, value in given.items():
        if name not in _FIELD_FOR:
            _detail(conversion, f"{shown}.{'type.' if name in nested else ''}{name}", name, value)


def _named(kind: str) -> dict[str, str]:
    return _STRATEGY_COLUMNS.get(kind.rpartition(".")[2], {})


def _kind(conversion: Conversion, shown: str, kind: str) -> None:
    if kind.rpartition(".")[2] in _STRATEGY_COLUMNS or kind in {"chat_template", "user_defined", "passthrough"}:
        conversion.drop(shown, "the chat template writes the turns; the columns are told below, or recognised")
    elif kind in {"alpaca", "sharegpt", "completion", "input_output", "chat"}:
        conversion.drop(shown, "the shape of the rows is recognised by itself")
    else:
        conversion.leave_undecided(shown, kind, "a prompt strategy that is not known here: name the columns in [data]")


def _column(conversion: Conversion, shown: str, name: str, column: str, *, first: bool) -> None:
    ours = _FIELD_FOR[name]
    if first and column not in _USUAL[name]:
        conversion.take(shown, ours, column)
    elif first or column == conversion.values.get(ours, name.removeprefix("field_")):
        conversion.drop(shown, f"`{column}` is recognised by itself" if first else "as in the first data set")
    else:
        conversion.leave_undecided(shown, column, f"{ours} is one for all data: rename this column")


def _detail(conversion: Conversion, shown: str, name: str, value: Any) -> None:
    if value in (None, "", False) or value in ([], {}):
        conversion.drop(shown, "is empty" if value is not False else "is off")
    elif name in _FORMATS:
        _format(conversion, shown, _FORMATS[name], str(value))
    elif (name == "message_property_mappings" and _usual(value, _USUAL_PROPERTIES)) or (
        name == "roles" and _usual(value, _USUAL_ROLES)
    ):
        conversion.drop(shown, "are recognised by themselves")
    elif name in {"chat_template", "roles_to_train", "train_on_eos", "train_on_eot"}:
        conversion.drop(shown, "the tokenizer's own chat template is used, and only the answers are scored")
    else:
        conversion.leave_undecided(shown, value, "of one data set, and without a counterpart: change the data instead")


def _format(conversion: Conversion, shown: str, column: str, text: str) -> None:
    """Tell a format that only writes the turns, as a chat template does, from one that adds words of its own."""
    words = _CHAT_TAGS.sub("", text.replace("\\n", "\n"))
    words = " ".join(_CHAT_TAGS.sub("", words).split())
    if words in {f"{{{column}}}", f"{{system}} {{{column}}}"}:
        conversion.drop(shown, "the tokenizer's chat template writes the turns")
    else:
        conversion.leave_undecided(
            shown, text, f"adds text to the {column}, beside the turns: write it into the data, or leave it out"
        )


def _usual(value: Any, usual: Mapping[str, set[str]]) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(set(text_list(names)) <= usual.get(str(name), set()) for name, names in value.items())
