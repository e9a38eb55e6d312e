"""Compare a run's data with its receipt: have its files changed since the run began, or how they are read?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dpo_tui.config.schema import Config
from dpo_tui.data.load_split import split_of
from dpo_tui.data.pairs.pair import RowProblem
from dpo_tui.data.source.evaluation_source import evaluation_source
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import Source, training_source
from dpo_tui.data.stored.reading_cache import sha256_of
from dpo_tui.errors import DataError

_READINGS = ("all", "best-worst")
"""Values of ``ranking_pairs``."""
_DIGITS_SHOWN = 12
"""Hexadecimal digits of a checksum in a message."""


class LoadedData(Protocol):
    """The part of a loaded dataset that is compared: row counts and checksums."""

    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def dropped(self) -> Sequence[RowProblem]: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def held_out_sha256(self) -> str: ...  # noqa: D102
    @property
    def examples(self) -> int: ...  # noqa: D102
    @property
    def reading(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class DataChange:
    """A difference between a run's data and its receipt.

    Attributes:
        location: path or hub id of the data that differs.
        before: checksum and row counts in the receipt, in words.
        now: checksum and row counts now, in words.
        remedy: what reads it as before, where only the reading of the same files has changed; else empty.
    """

    location: str
    before: str
    now: str
    remedy: str = ""

    @property
    def message(self) -> str:
        """One sentence that names the data and both states."""
        what = "has changed since the run began"
        if self.remedy:
            what = "is read otherwise than when the run began, though its files are the same"
        return f"{self.location} {what}: it was {self.before} and is {self.now}"

    def error(self, run: str) -> DataError:
        """The error for a resume without ``--accept-changed-data``.

        Args:
            run: id of the run.
        """
        remedy = self.remedy or "Put the data back as it was, or start a new run on it."
        return DataError(
            f"run {run}: {self.message}",
            hint=f"{remedy} To go on all the same, and have the receipt say so: "
            f"dpo-tui resume {run} --accept-changed-data",
        )


def change_of(receipt: Mapping[str, Any] | None, config: Config, loaded: LoadedData) -> DataChange | None:
    """Compare loaded data with a run's receipt: checksums, row counts, and what was read from the rows.

    Args:
        receipt: the run's ``receipt.json``; None when it has not been written yet.
        config: the run's settings.
        loaded: the data as it is now.

    Returns:
        None when nothing has changed, or when the receipt does not record what the data was.
    """
    data = _data_of(receipt)
    sha256, held_out_sha256 = str(data.get("sha256") or ""), str(data.get("held_out_sha256") or "")
    if sha256 not in ("", loaded.sha256):
        before = _described(sha256, _count(data, "rows"), _count(data, "unusable"))
        return DataChange(config.dataset_text, before, _described(loaded.sha256, *_counts(loaded)))
    if held_out_sha256 and loaded.held_out_sha256 and held_out_sha256 != loaded.held_out_sha256:
        return DataChange(
            config.eval_dataset_text or config.dataset_text,
            _described(held_out_sha256),
            _described(loaded.held_out_sha256),
        )
    return _reading_change(data, config, loaded)


def _reading_change(data: Mapping[str, Any], config: Config, loaded: LoadedData) -> DataChange | None:
    """Compare what was read from files that are the same: numbers of rows and examples, and the digest of the reading.

    Receipts of earlier versions have no digest.
    """
    rows = _count(data, "rows"), _count(data, "unusable")
    examples = _examples(data)
    reading = str(data.get("reading") or "")
    other_rows = None not in rows and rows != _counts(loaded)
    other_number = examples not in (None, loaded.examples)
    other_reading = reading not in ("", loaded.reading)
    if not (other_rows or other_number or other_reading):
        return None
    before = _described(str(data.get("sha256") or ""), *rows)
    now = _described(loaded.sha256, *_counts(loaded))
    if examples is not None and not other_rows:
        before += f" as {examples:,} examples"
        now += f" as {loaded.examples:,} {'examples' if other_number else 'other examples'}"
    remedy = ""
    if data.get("sha256"):
        setting = None if reading == loaded.reading else _restoring_setting(config, data)
        remedy = "Give the model its chat template of then again, or start a new run on the data as it is read now."
        if setting is not None:
            remedy = f'To read it as before, set ranking_pairs = "{setting}" in [data] of the run\'s config.toml.'
        elif reading != loaded.reading:
            remedy = "An earlier version of dpo-tui, or another chat template, read it so: start a new run on it."
    return DataChange(config.dataset_text, before, now, remedy)


def _restoring_setting(config: Config, data: Mapping[str, Any]) -> str | None:
    """The value of ``ranking_pairs`` that reads the data as a receipt says; None where neither does.

    Scored answers were read as all their pairs before there was the setting.
    """
    reading, examples = data.get("reading"), _examples(data)
    for value in _READINGS:
        try:
            found = split_of(config.model_copy(update={"ranking_pairs": value}), download=False)
        except DataError:
            continue
        if value != config.ranking_pairs and (found.reading == reading if reading else found.examples == examples):
            return value
    return None


def checksum_change(receipt: Mapping[str, Any] | None, config: Config, loaded: LoadedData) -> DataChange | None:
    """Compare loaded data with a run's receipt, except for what a chat template leaves out; see :func:`change_of`.

    For a machine that may lack the model's tokenizer, without which the number of usable rows differs.
    """
    data = dict(_data_of(receipt))
    if (_count(data, "rows"), _count(data, "unusable")) != _counts(loaded):
        data |= {"rows": None, "train": None}
    return change_of({"data": data}, config, loaded)


def file_change(receipt: Mapping[str, Any] | None, config: Config) -> DataChange | None:
    """Compare the checksums of local files with a run's receipt, without parsing a row.

    Takes a few seconds for gigabytes; data on the hub is not looked at.

    Raises:
        DataError: a file is missing.
    """
    data = _data_of(receipt)
    recorded_held_out = str(data.get("held_out_sha256") or "")
    sources: list[tuple[Source, str]] = [(training_source(config), str(data.get("sha256") or ""))]
    places = config.eval_datasets or config.datasets
    # Looked for only where it is local: the names of its splits would be asked of the hub.
    if recorded_held_out and _are_local(places) and (separate := evaluation_source(config)) is not None:
        sources.append((separate.source, recorded_held_out))
    for source, recorded in sources:
        if not recorded or not _are_local(source.locations):
            continue
        now = sha256_of(locate(source))
        if now != recorded:
            counts = (_count(data, "rows"), _count(data, "unusable")) if source.name == config.dataset_text else ()
            return DataChange(source.name, _described(recorded, *counts), _described(now))
    return None


def _are_local(locations: Sequence[str]) -> bool:
    return all(Path(one).is_absolute() for one in locations)


def _data_of(receipt: Mapping[str, Any] | None) -> Mapping[str, Any]:
    data = (receipt or {}).get("data")
    return data if isinstance(data, Mapping) else {}


def _count(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) else None


def _counts(loaded: LoadedData) -> tuple[int, int]:
    return loaded.total, len(loaded.dropped)


def _examples(data: Mapping[str, Any]) -> int | None:
    """How many examples were made of a run's data, before TRL left out those that are too long; None if unknown."""
    counts = [_count(data, name) for name in ("train", "held_out", "too_long")]
    return None if None in counts else sum(count or 0 for count in counts)


def _described(sha256: str, rows: int | None = None, unusable: int | None = None) -> str:
    checksum = f"sha256 {sha256[:_DIGITS_SHOWN]}…" if sha256 else "of unknown checksum"
    if rows is None:
        return checksum
    return f"{checksum} with {rows - (unusable or 0):,} usable of {rows:,} rows"
