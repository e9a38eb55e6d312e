"""LLaMA-Factory's dataset_info.json: where a data set's rows are, and which of their columns are what."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import (
    Conversion,
    DataSource,
    KeyOutcome,
    beside,
    number,
    take_sources,
    text_list,
)
from dpo_tui.text.plain_documents import parse_json

_INFO = "dataset_info.json"
# What the columns are called where an entry does not say (LLaMA-Factory 0.9, data/parser.py); those that a shape of
# rows is recognised by.
_USUAL_COLUMNS = {
    "prompt": {"instruction", "prompt"},
    "query": {"input"},
    "response": {"output"},
    "messages": {"conversations", "messages"},
    "chosen": {"chosen"},
    "rejected": {"rejected"},
    "system": {"system"},
    "tools": {"tools"},
    "kto_tag": {"kto_tag", "label"},
}
_FIELD_FOR = {
    "kto_tag": "label_field",
    "prompt": "prompt_field",
    "messages": "prompt_field",
    "chosen": "chosen_field",
    "rejected": "rejected_field",
    "system": "system_field",
}
# Keys and roles of messages that are recognised: ShareGPT's and OpenAI's.
_USUAL_TAGS = {
    "role_tag": {"from", "role"},
    "content_tag": {"value", "content"},
    "user_tag": {"human", "user"},
    "assistant_tag": {"gpt", "assistant"},
    "observation_tag": {"observation", "tool"},
    "function_tag": {"function_call"},
    "system_tag": {"system"},
}
_MEDIA = {"images", "videos", "audios"}
_RECOGNISED = "the shape of the rows is recognised by itself"


@dataclass(frozen=True)
class _Entry:
    """One data set by its name in a config file.

    Attributes:
        name: in the config file.
        info: its entry; empty where dataset_info.json, or the name in it, was not found.
        folder: that dataset_info.json was read from.
    """

    name: str
    info: Mapping[str, Any]
    folder: Path

    @property
    def source(self) -> DataSource:
        """Where its rows are."""
        split, subset = str(self.info.get("split") or ""), str(self.info.get("subset") or "")
        for key in ("hf_hub_url", "file_name"):
            if self.info.get(key):
                local = key == "file_name"
                place = str(self.folder / str(self.info[key])) if local else str(self.info[key])
                return DataSource(place, "" if local else subset, "" if local else split)
        return DataSource(self.name)


def convert_datasets(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any], folder: Path) -> None:
    """Take the data sets that a file names, with what dataset_info.json says of them.

    Args:
        conversion: receives the outcomes.
        key: ``dataset`` or ``eval_dataset``.
        value: one name or several, with commas or as a list.
        raw: the whole file, for ``dataset_dir``.
        folder: of the file.
    """
    place = beside(folder, str(raw.get("dataset_dir") or "data"))
    entries = [_entry(name, place, folder) for name in text_list(value)]
    why = "; ".join(dict.fromkeys(_found(entry) for entry in entries))
    if key == "dataset":
        take_sources(conversion, key, [entry.source for entry in entries], why)
        _columns(conversion, entries)
        _others(conversion, entries[0])
        _samples(conversion, entries)
        return
    places = [entry.source.place for entry in entries]
    conversion.take(key, "eval_dataset", places if len(places) > 1 else places[0], why)
    parts = {(entry.source.subset, entry.source.split) for entry in entries}
    if len(parts) > 1:
        named = [part for entry in entries for part in (entry.source.subset, entry.source.split) if part]
        conversion.leave_undecided(f"{key}_splits", named, "several evaluation sets are read with one split and subset")
        return
    source = entries[0].source
    for name, part in (("eval_dataset_config", source.subset), ("eval_dataset_split", source.split)):
        if part:
            conversion.take(f"{key}_{name.rpartition('_')[2]}", name, part)


def take_sample_limit(conversion: Conversion, key: str, value: Any) -> None:
    """Take the most rows that are used; the smaller one where a file and its dataset_info.json both limit them."""
    limit = number(value)
    if limit is None:
        conversion.drop(key, "is empty")
        return
    earlier = conversion.values.get("max_samples")
    smaller = min(limit, earlier) if isinstance(limit, int | float) and isinstance(earlier, int) else limit
    whole = int(smaller) if isinstance(smaller, float) and smaller.is_integer() else smaller
    conversion.take(key, "max_samples", whole)


def _entry(name: str, place: Path, folder: Path) -> _Entry:
    for candidate in dict.fromkeys((place, folder)):
        try:
            info = parse_json((candidate / _INFO).read_text(encoding="utf-8-sig"))[name]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(info, Mapping):
            return _Entry(name, info, candidate)
    return _Entry(name, {}, place)


def _found(entry: _Entry) -> str:
    if entry.source.place != entry.name:
        return f"{entry.name} of {entry.folder / _INFO}"
    known = [key for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name") if entry.info.get(key)]
    if known:
        return f"{entry.name} has {known[0]} alone, which is not read: give a file or a hub id instead"
    return f"if it is a name from {_INFO} (none found in {entry.folder}/), give the file or hub id instead"


def _columns(conversion: Conversion, entries: list[_Entry]) -> None:
    """Take the columns of the first data set; others need the same ones."""
    first = entries[0]
    columns = first.info.get("columns")
    for role, name in columns.items() if isinstance(columns, Mapping) else ():
        shown = f"{_INFO}: columns.{role}"
        field = _FIELD_FOR.get(role)
        if name in _USUAL_COLUMNS.get(role, ()):
            conversion.drop(shown, f"`{name}` is recognised by itself")
        elif field is not None:
            conversion.take(shown, field, name)
        elif role in _MEDIA:
            conversion.leave_undecided(f"columns.{role}", name, "models are trained on text")
        elif name:
            conversion.leave_undecided(
                f"columns.{role}", name, "no setting names this column: rename it, or join it with the prompt's"
            )
    different = [one.name for one in entries[1:] if one.info.get("columns") != columns and one.info.get("columns")]
    if different:
        why = f"its columns are not those of {first.name}; a config names the columns of all data"
        conversion.leave_undecided("columns", different, why)


def _others(conversion: Conversion, entry: _Entry) -> None:
    for name, value in entry.info.items():
        shown = f"{_INFO}: {name}"
        if name in {"file_name", "hf_hub_url", "subset", "split", "columns", "num_samples"}:
            local = entry.info.get("file_name") and not entry.info.get("hf_hub_url")
            if name in {"subset", "split"} and value and local:
                conversion.drop(shown, "is for data of the hub")
            elif name == "file_name" and entry.info.get("hf_hub_url"):
                conversion.drop(shown, "hf_hub_url comes first")
        elif name == "tags" and isinstance(value, Mapping):
            _tags(conversion, value)
        elif name == "ranking":
            _ranking(conversion, shown, value)
        elif name == "formatting":
            conversion.drop(shown, _RECOGNISED)
        elif name == "folder" and value:
            conversion.leave_undecided("folder", value, "of a hub dataset: give its files, or a subset, instead")
        else:
            conversion.drop(shown, "says where the rows are for other hubs" if value else "is empty")


def _ranking(conversion: Conversion, shown: str, value: Any) -> None:
    if value:
        conversion.drop(shown, "rows with a better and a worse answer are read as pairs")
    else:
        conversion.drop(shown, "the strategy says whether rows are pairs")


def _tags(conversion: Conversion, tags: Mapping[str, Any]) -> None:
    for name, value in tags.items():
        if value in _USUAL_TAGS.get(name, ()):
            conversion.drop(f"{_INFO}: tags.{name}", f"`{value}` is recognised by itself")
        else:
            conversion.leave_undecided(
                f"tags.{name}", value, "messages have role and content, or from and value: rename it in the data"
            )


def _samples(conversion: Conversion, entries: list[_Entry]) -> None:
    limits = [entry.info.get("num_samples") for entry in entries]
    if len(entries) == 1 and limits[0]:
        take_sample_limit(conversion, f"{_INFO}: num_samples", limits[0])
        row = conversion.outcomes[-1]
        why = "the first so many rows; LLaMA-Factory draws them at random"
        conversion.outcomes[-1] = KeyOutcome(row.key, row.outcome, row.to, why, row.value)
    elif any(limits):
        conversion.leave_undecided("num_samples", [limit or 0 for limit in limits], "max_samples is for all data sets")
