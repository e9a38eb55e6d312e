"""The recipes of Hugging Face's alignment handbook: TRL's arguments, with a mixture of data sets.

Of 2023 and 2024: ``dataset_mixer`` (data set → share of its rows) with ``dataset_splits``; since 2025:
``dataset_mixture`` with a list of ``datasets``, each with id, config, split, columns and weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui.config.dialects.conversion import (
    EXPORT,
    Conversion,
    Convert,
    DataSource,
    number,
    take_sources,
    text_list,
)
from dpo_tui.config.dialects.trl import convert_arguments, source_of, take_test_split, tell_entries

_TYPICAL_KEYS = {"dataset_mixer", "dataset_mixture", "dataset_splits", "dataset_configs"}


def recognises(raw: Mapping[str, Any]) -> bool:
    """Whether a flat file is in this format."""
    return bool(_TYPICAL_KEYS & raw.keys())


def convert(raw: Mapping[str, Any], folder: Path) -> Conversion:
    """Read a recipe."""
    conversion = Conversion()
    convert_arguments(conversion, raw, _CONVERTED, "alignment-handbook")
    return conversion


def _mixer(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping) or not value:
        conversion.leave_undecided(key, value, "expected data sets with the share of each")
        return
    splits, configs = text_list(raw.get("dataset_splits") or []), text_list(raw.get("dataset_configs") or [])
    train = [split for split in splits if "test" not in split and "eval" not in split and "val" not in split]
    sources = [
        DataSource(
            str(place), configs[index] if index < len(configs) else "", train[0] if train else "", _weight(share)
        )
        for index, (place, share) in enumerate(value.items())
    ]
    take_sources(conversion, key, sources, "a weight is the share of a data set's rows" if len(sources) > 1 else "")


def _weight(share: Any) -> float | None:
    found = number(share)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _splits(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    names = text_list(value)
    train = [name for name in names if "test" not in name and "eval" not in name and "val" not in name]
    others = [name for name in names if name not in train]
    if len(train) > 1:
        conversion.leave_undecided(key, names, f"{train[0]} is trained on; a run has one split for training")
    else:
        conversion.drop(key, f"{', '.join(train) or 'none'} is trained on")
        if others:
            take_test_split(conversion, f"{key} to evaluate on", others[0], raw)
        if others[1:]:
            conversion.leave_undecided(f"{key}_others", others[1:], "a run evaluates on one split")


def _configs(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.drop(key, "is told with dataset_mixer")


def _mixture(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    entries = value.get("datasets") if isinstance(value, Mapping) else None
    entries = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    sources = [source_of(entry) for entry in entries]
    if not sources or not all(source.place for source in sources):
        conversion.leave_undecided(key, value, "expected datasets, a list with the id of each")
        return
    take_sources(conversion, key, sources, "a weight is the share of a data set's rows" if len(sources) > 1 else "")
    tell_entries(conversion, f"{key}.datasets", entries)
    for name, item in value.items():
        if name == "seed":
            conversion.drop(f"{key}.{name}", "seed, in [training], is for the order of the rows too")
        elif name == "test_split_size":
            _test_size(conversion, f"{key}.{name}", item)
        elif name != "datasets":
            conversion.leave_undecided(f"{key}.{name}", item, "has no counterpart")


def _test_size(conversion: Conversion, key: str, value: Any) -> None:
    share = number(value)
    if share is None:
        conversion.drop(key, "is empty")
    elif isinstance(share, int | float) and 0 <= share < 1:
        conversion.take(key, "eval_split", share)
    else:
        conversion.leave_undecided(key, value, "a number of rows; eval_split, in [eval], is a part of them")


def _upload(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.drop(key, EXPORT)


def _workers(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    conversion.take(key, "dataset_num_proc", value)


_CONVERTED: dict[str, Convert] = {
    "dataset_mixer": _mixer,
    "dataset_splits": _splits,
    "dataset_configs": _configs,
    "dataset_mixture": _mixture,
    "preprocessing_num_workers": _workers,
    "hub_model_revision": _upload,
    "push_to_hub_revision": _upload,
}
