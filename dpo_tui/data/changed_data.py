"""Compare a run's data with the checksums and row counts in its receipt: has it changed since the run began?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dpo_tui.config.schema import Config
from dpo_tui.data.load_rows import sha256_of
from dpo_tui.data.pairs.pair import RowProblem
from dpo_tui.data.source.evaluation_source import evaluation_source
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import Source, training_source
from dpo_tui.errors import DataError

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


@dataclass(frozen=True)
class DataChange:
    """A difference between a run's data and its receipt.

    Attributes:
        location: path or hub id of the data that differs.
        before: checksum and row counts in the receipt, in words.
        now: checksum and row counts now, in words.
    """

    location: str
    before: str
    now: str

    @property
    def message(self) -> str:
        """One sentence that names the data and both states."""
        return f"{self.location} has changed since the run began: it was {self.before} and is {self.now}"

    def error(self, run: str) -> DataError:
        """The error for a resume without ``--accept-changed-data``.

        Args:
            run: id of the run.
        """
        return DataError(
            f"run {run}: {self.message}",
            hint="Put the data back as it was, or start a new run on it. To go on all the same, and have the receipt "
            f"say so: dpo-tui resume {run} --accept-changed-data",
        )


def change_of(receipt: Mapping[str, Any] | None, config: Config, loaded: LoadedData) -> DataChange | None:
    """Compare loaded data with a run's receipt: checksums and row counts.

    Args:
        receipt: the run's ``receipt.json``; None when it has not been written yet.
        config: the run's settings.
        loaded: the data as it is now.

    Returns:
        None when nothing has changed, or when the receipt does not record what the data was.
    """
    data = _data_of(receipt)
    recorded_counts = _count(data, "rows"), _count(data, "unusable")
    counts = loaded.total, len(loaded.dropped)
    same_bytes = data.get("sha256", "") in ("", loaded.sha256)
    # The same bytes can give other rows: the model's chat template decides which pairs are usable.
    if not same_bytes or (None not in recorded_counts and recorded_counts != counts):
        before = _described(str(data.get("sha256") or ""), *recorded_counts)
        return DataChange(config.dataset_text, before, _described(loaded.sha256, *counts))
    recorded = str(data.get("held_out_sha256") or "")
    if recorded and loaded.held_out_sha256 and recorded != loaded.held_out_sha256:
        return DataChange(
            config.eval_dataset or config.dataset_text, _described(recorded), _described(loaded.held_out_sha256)
        )
    return None


def checksum_change(receipt: Mapping[str, Any] | None, config: Config, loaded: LoadedData) -> DataChange | None:
    """Compare loaded data with a run's receipt by checksums alone; see :func:`change_of`.

    For a machine that may lack the model's tokenizer, without which the number of usable rows differs.
    """
    data = {**_data_of(receipt), "rows": None}
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
    places = (config.eval_dataset,) if config.eval_dataset else config.datasets
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


def _described(sha256: str, rows: int | None = None, unusable: int | None = None) -> str:
    checksum = f"sha256 {sha256[:_DIGITS_SHOWN]}…" if sha256 else "of unknown checksum"
    if rows is None:
        return checksum
    return f"{checksum} with {rows - (unusable or 0):,} usable of {rows:,} rows"
