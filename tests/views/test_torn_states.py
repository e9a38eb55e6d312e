"""Trainer states that a full disk or a kill has torn: which file, and what is shown instead."""

import json
import os
import time
from pathlib import Path

import pytest

from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.foreign_feed import QUIET
from dpo_tui.views.open_feed import open_feed
from dpo_tui.views.run_feed import Feed
from tests.support.event_file import scalar_record

WHOLE = json.dumps({"max_steps": 40, "log_history": [{"step": step, "loss": 0.6} for step in (5, 10)]})
TORN = {
    "empty": b"",
    "blank": b"\n",
    "cut": WHOLE.encode()[:40],
    "zeros": b"\x00" * 64,
    "no text": b"\xff\xfe{",
    "cut at NaN": b'{"log_history": [NaN, ',
    "deep": b"[" * 100_000,
}


def checkpoint(folder: Path, step: int, content: bytes | str, age: float = 0.0) -> Path:
    path = folder / f"checkpoint-{step}" / "trainer_state.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def watched(folder: Path) -> Feed:
    feed = open_feed(folder)
    feed.poll(time.time())
    return feed


@pytest.mark.parametrize("content", TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("age", [0.0, 2 * QUIET])
def test_a_lone_torn_state_is_named_and_nothing_is_said_of_a_worker(tmp_path, content, age):
    checkpoint(tmp_path, 10, content, age)
    feed = watched(tmp_path)
    sentence = advice_sentence(feed)
    assert "checkpoint-10/trainer_state.json is torn" in sentence.text
    assert "Nothing else is here to show" in sentence.text
    assert "worker" not in sentence.text
    assert sentence.tone == "bad"
    assert feed.about["status"] == "unknown"
    assert "trainer_state.json is torn" in feed.events[0]["message"]


@pytest.mark.parametrize("age", [0.0, 2 * QUIET])
def test_an_older_whole_state_is_shown_and_named(tmp_path, age):
    checkpoint(tmp_path, 10, WHOLE, age + 600)
    checkpoint(tmp_path, 20, WHOLE[:50], age)
    feed = watched(tmp_path)
    assert feed.series["loss"].count == 2
    text = advice_sentence(feed).text
    assert "checkpoint-20/trainer_state.json is torn" in text
    assert "Shown instead: checkpoint-10/trainer_state.json." in text


def test_a_torn_state_older_than_a_whole_one_is_not_mentioned(tmp_path):
    checkpoint(tmp_path, 10, "{", 600)
    checkpoint(tmp_path, 20, WHOLE)
    feed = watched(tmp_path)
    assert feed.series["loss"].count == 2
    assert not feed.events


def test_of_a_copied_folder_the_highest_checkpoint_counts_as_the_newest(tmp_path):
    at = 1_700_000_040.0
    for step in (20, 9, 10):
        checkpoint(tmp_path, step, json.dumps({"max_steps": 40, "log_history": [{"step": step, "loss": 0.5}]}))
        os.utime(tmp_path / f"checkpoint-{step}" / "trainer_state.json", (at - step / 100, at - step / 100))
    assert watched(tmp_path).series["loss"].last_step == 20


def test_event_files_are_shown_instead_of_a_torn_state(tmp_path):
    checkpoint(tmp_path, 10, "{")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.out.tfevents.1.host").write_bytes(scalar_record(1, "train/loss", 0.5))
    feed = watched(tmp_path)
    assert feed.latest == {"loss": 0.5}
    assert "Shown instead: TensorBoard's event files." in advice_sentence(feed).text


def test_a_state_that_becomes_whole_is_shown_and_one_that_tears_keeps_what_was_read(tmp_path):
    path = checkpoint(tmp_path, 10, "{")
    feed = watched(tmp_path)
    path.write_text(WHOLE)
    feed.poll(time.time())
    assert feed.series["loss"].count == 2
    assert "notice" not in feed.about
    assert not feed.events
    path.write_text(WHOLE[:30])
    feed.poll(time.time())
    assert feed.series["loss"].count == 2
    assert "Shown instead: what was read before." in advice_sentence(feed).text


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_json_that_is_no_state_is_said_to_be_none(tmp_path, content):
    checkpoint(tmp_path, 10, content)
    assert "checkpoint-10/trainer_state.json is no trainer state" in advice_sentence(watched(tmp_path)).text


@pytest.mark.parametrize("history", [5, None, "x", {"a": 1}, [None, 3, {"step": "five", "loss": 1}]])
def test_a_state_without_a_history_gives_no_metric_and_no_error(tmp_path, history):
    checkpoint(tmp_path, 10, json.dumps({"max_steps": 40, "log_history": history}))
    feed = watched(tmp_path)
    assert not feed.series
    assert "There is no metric yet in checkpoint-10/trainer_state.json" in advice_sentence(feed).text


@pytest.mark.parametrize("content", [b"", b"\x00" * 11, b"not an event file at all, but long enough to be one"])
def test_event_files_without_a_scalar_are_named(tmp_path, content):
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    text = advice_sentence(watched(tmp_path)).text
    assert "There is no metric yet in events.out.tfevents.1.host" in text
    assert "worker" not in text


def test_an_event_file_that_ends_within_a_record_is_named_once_nobody_writes_it(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(scalar_record(1, "train/loss", 0.5) + scalar_record(2, "train/loss", 0.5)[:20])
    feed = watched(tmp_path)
    assert not feed.events, "it may be written just now"
    feed.poll(time.time() + QUIET + 1)
    assert "ends within a record (20 bytes)" in feed.events[0]["message"]
