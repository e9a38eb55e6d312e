"""Whether a run's data is still what the run began with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dpo_tui.config.schema import Config
from dpo_tui.data.load_pairs import sha256_of
from dpo_tui.data.pairs.pair import RowProblem
from dpo_tui.data.source.from_config import evaluation_source, training_source
from dpo_tui.data.source.locate import locate
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError

_SHOWN = 12
"""Hexadecimal digits of a checksum that are shown."""


class ReadData(Protocol):
    """What is compared of data that was read: rows, unusable rows, and checksums."""

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
    """How data differs from what a run recorded in its receipt.

    Attributes:
        location: of the data that differs.
        before: its checksum and rows then, in words.
        now: the same now.
    """

    location: str
    before: str
    now: str

    @property
    def words(self) -> str:
        """One sentence."""
        return f"{self.location} has changed since the run began: it was {self.before} and is {self.now}"

    def refusal(self, run: str) -> DataError:
        """The error for a resume that nobody has agreed to.

        Args:
            run: id of the run.
        """
        return DataError(
            f"run {run}: {self.words}",
            hint="Put the data back as it was, or start a new run on it. To go on all the same, and have the receipt "
            f"say so: dpo-tui resume {run} --accept-changed-data",
        )


def change_of(receipt: Mapping[str, Any] | None, config: Config, read: ReadData) -> DataChange | None:
    """Compare data as it was read now with a run's receipt.

    Args:
        receipt: the run's ``receipt.json``; None before there is one.
        config: the run's settings.
        read: the data as it is now.

    Returns:
        None when it is the same, or when the receipt does not say.
    """
    data = _data(receipt)
    counts = _count(data, "rows"), _count(data, "unusable")
    now = read.total, len(read.dropped)
    same = data.get("sha256", "") in ("", read.sha256)
    if not same or (None not in counts and counts != now):
        before = _words(str(data.get("sha256") or ""), *counts)
        return DataChange(config.dataset, before, _words(read.sha256, *now))
    recorded = str(data.get("held_out_sha256") or "")
    if recorded and read.held_out_sha256 and recorded != read.held_out_sha256:
        return DataChange(str(config.eval_dataset), _words(recorded), _words(read.held_out_sha256))
    return None


def checksum_change(receipt: Mapping[str, Any] | None, config: Config, read: ReadData) -> DataChange | None:
    """The same by checksums alone, for readers that may lack the tokenizer whose template decides what is usable."""
    data = {**_data(receipt), "rows": None}
    return change_of({"data": data}, config, read)


def quick_change(receipt: Mapping[str, Any] | None, config: Config) -> DataChange | None:
    """The same without parsing a row, and only for local files: a few seconds for gigabytes.

    Raises:
        DataError: a file is not there any more.
    """
    data = _data(receipt)
    sources: list[tuple[Source | None, str]] = [
        (training_source(config), str(data.get("sha256") or "")),
        (evaluation_source(config), str(data.get("held_out_sha256") or "")),
    ]
    for source, recorded in sources:
        if source is None or not recorded or not Path(source.location).is_absolute():
            continue
        now = sha256_of(locate(source))
        if now != recorded:
            counts = (_count(data, "rows"), _count(data, "unusable")) if source.location == config.dataset else ()
            return DataChange(source.location, _words(recorded, *counts), _words(now))
    return None


def _data(receipt: Mapping[str, Any] | None) -> Mapping[str, Any]:
    data = (receipt or {}).get("data")
    return data if isinstance(data, Mapping) else {}


def _count(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) else None


def _words(sha256: str, rows: int | None = None, unusable: int | None = None) -> str:
    known = f"sha256 {sha256[:_SHOWN]}…" if sha256 else "of unknown checksum"
    if rows is None:
        return known
    return f"{known} with {rows - (unusable or 0):,} usable of {rows:,} rows"
