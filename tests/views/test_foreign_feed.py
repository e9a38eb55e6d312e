"""Folders of other trainers as feeds: trainer states, and TensorBoard event files as they grow."""

import os
import struct
import time
from pathlib import Path

import pytest

from dpo_tui.views.foreign_feed import QUIET, ForeignFeed
from dpo_tui.views.open_feed import open_feed
from tests.support.event_file import scalar_record


def foreign(folder: Path, *records: bytes) -> ForeignFeed:
    """A feed of an event file with some records."""
    folder.mkdir()
    (folder / "events.out.tfevents.1.host").write_bytes(b"".join(records))
    feed = open_feed(folder)
    assert isinstance(feed, ForeignFeed)
    return feed


def catch_up(feed: ForeignFeed) -> None:
    while feed.catching_up:
        feed.poll(time.time())


def event_of(data: bytes) -> bytes:
    """A TFRecord, as TensorBoard's own writer lays it out (checksums left zero)."""
    return struct.pack("<Q", len(data)) + bytes(4) + data + bytes(4)


def varint(value: int) -> bytes:
    """An integer as protocol buffers write it."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def test_a_folder_that_nobody_writes_to_any_more_is_done_until_somebody_does(tmp_path):
    feed = foreign(tmp_path / "out", scalar_record(1, "train/loss", 0.5))
    written = (tmp_path / "out" / "events.out.tfevents.1.host").stat().st_mtime
    feed.poll(written + 1)
    assert feed.about["status"] == "running"
    feed.poll(written + QUIET - 1)
    assert feed.about["status"] == "running"
    assert feed.poll(written + QUIET + 1), "that it is done is news"
    assert feed.about["status"] == "done"
    os.utime(tmp_path / "out" / "events.out.tfevents.1.host", (written + 1000, written + 1000))
    feed.poll(written + 1001)
    assert feed.about["status"] == "running"


@pytest.mark.parametrize("megabytes", [5, 70])
def test_scalars_after_an_image_that_is_longer_than_a_chunk_are_read(tmp_path, megabytes):
    """Images, graphs and histograms of other trainers: long ones are read, very long ones skipped."""
    image = b"\x5a" + varint(megabytes << 20) + bytes(megabytes << 20)
    later = b"".join(scalar_record(step, "train/loss", 0.5) for step in range(2, 50))
    feed = foreign(tmp_path / "out", scalar_record(1, "train/loss", 0.5), event_of(image), later)
    catch_up(feed)
    assert feed.series["loss"].count == 49
    assert feed.series["loss"].rewinds == 0


def test_a_long_record_waits_for_its_end_and_its_scalars_count(tmp_path):
    scalar = scalar_record(2, "train/loss", 0.25)[12:-4]
    long = event_of(scalar + b"\x5a" + varint(5 << 20) + bytes(5 << 20))
    feed = foreign(tmp_path / "out", scalar_record(1, "train/loss", 0.5), long[:-1])
    catch_up(feed)
    assert feed.latest == {"loss": 0.5}
    with (tmp_path / "out" / "events.out.tfevents.1.host").open("ab") as stream:
        stream.write(long[-1:] + scalar_record(3, "eval/loss", 0.75))
    feed.poll(time.time())
    catch_up(feed)
    assert feed.latest == {"loss": 0.25, "eval_loss": 0.75}


def test_watch_reads_a_trainer_state_of_another_trainer(tmp_path):
    """`watch` also reads foreign folders."""
    folder = tmp_path / "out" / "checkpoint-20"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(
        '{"max_steps": 40, "epoch": 1.5, "log_history": [{"step": 10, "loss": 0.6}, {"step": 20, "loss": NaN}]}'
    )
    feed = open_feed(tmp_path / "out")
    feed.poll(time.time())
    assert feed.about["max_steps"] == 40
    assert len(feed.series["loss"]) == 2


def test_watch_reads_tensorboard_event_files_as_they_grow(tmp_path):
    """TensorBoard event files, a half-written record included."""
    log = tmp_path / "out" / "runs" / "x" / "events.out.tfevents.1.host"
    log.parent.mkdir(parents=True)
    whole = scalar_record(1, "train/loss", 0.5) + scalar_record(2, "eval/loss", 0.75)
    log.write_bytes(whole + scalar_record(3, "train/loss", 0.25)[:20])
    feed = open_feed(tmp_path / "out")
    feed.poll(time.time())
    assert feed.latest == {"loss": 0.5, "eval_loss": 0.75}
    log.write_bytes(whole + scalar_record(3, "train/loss", 0.25))
    feed.poll(time.time())
    assert feed.latest["loss"] == 0.25
