"""What is said about a run, and reading it while it grows."""

import json
import os
import struct
import time
from pathlib import Path

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.foreign_feed import QUIET, ForeignFeed
from dpo_tui.views.monitor_text import fraction, header, samples_text
from dpo_tui.views.open_feed import open_feed
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.series import Series
from tests.support.event_file import scalar_record
from tests.support.fake_run import begin, progress, write_history


def feed_with(status: str = "running", **latest: float) -> RunFeed:
    feed = RunFeed(RunFolder(Path("/nonexistent/20261101-101010-aaaa")))
    feed.about = {"status": status, "reason": ""}
    for name, value in latest.items():
        metric = {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}.get(name, name)
        feed.latest[metric] = value
        feed.series[metric] = Series(metric)
    return feed


FINE = Advice("healthy", "info", "Healthy: accuracy 71%.", evidence="accuracy 71%")
KL = Advice("kl", "warning", "KL is above 10.", {"beta": 0.2, "eval_dataset": None})
BROKEN = Advice("nan", "error", "The loss is not a number since step 3.")


@pytest.mark.parametrize(
    ("feed", "found", "tone", "words"),
    [
        (feed_with(loss=0.5), [FINE], "good", "Healthy: accuracy 71%."),
        (feed_with(loss=0.5), [KL, BROKEN], "warn", "KL is above 10."),
        (feed_with(loss=0.5), [BROKEN], "bad", "not a number since step 3"),
        (feed_with("done", accuracy=0.96), [FINE], "good", "Done. Accuracy 71%."),
        (feed_with("done", accuracy=0.96), [KL], "warn", "KL is above 10."),
        (feed_with("done", accuracy=0.96), [], "good", "Done. Accuracy 0.96."),
        (feed_with(loss=0.7, accuracy=0.4), [], "note", "Accuracy 0.4"),
        (feed_with(), [], "note", "The worker is starting"),
        (feed_with("queued"), [KL], "note", "Waiting"),
        (feed_with("lost"), [KL], "bad", "r goes on from the last checkpoint"),
        (feed_with("stopped"), [KL], "note", "r resumes it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_headline_is_the_worst_advice_unless_the_run_does_not_run(feed, found, tone, words):
    """One source of truth, `advice.diagnose`."""
    advice = advice_sentence(feed, found)
    assert advice.tone == tone
    assert words in advice.text


def test_a_remedy_is_named_by_the_settings_that_it_changes():
    assert advice_sentence(feed_with(loss=0.5), [KL]).remedy == "beta 0.2, no eval_dataset"
    assert advice_sentence(feed_with("lost"), [KL]).remedy == ""


def test_advice_that_the_run_was_given_outranks_good_numbers():
    feed = feed_with(loss=0.5, accuracy=0.9)
    feed.about["advice"] = {"kind": "advice", "severity": "warning", "message": "Both rewards fall."}
    assert advice_sentence(feed).text.startswith("Both rewards fall.")


def test_a_worker_that_does_not_train_yet_shows_its_phase_and_that_phases_progress():
    feed = feed_with()
    feed.about |= {"phase": "load-model", "done": 1, "total": 4, "step": 0, "max_steps": 100}
    feed.events = [{"kind": "phase", "message": "Loading the model"}]
    assert any("loading the model" in text for part in header(feed) for text, _ in part)
    assert fraction(feed.about) == 0.25


def words_of(feed: RunFeed) -> str:
    return " | ".join("".join(text for text, _ in part) for part in header(feed))


def test_the_header_says_pace_batch_and_memory(tmp_path):
    """Status, step, epoch, ETA, tokens/s, effective batch, VRAM peak."""
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    state = begin(folder, "helpful-8b")
    write_history(folder, 1, 30, 100)
    progress(folder, 30, 100)
    feed = RunFeed(folder)
    feed.poll(time.time())
    feed.about |= {"status": "running", "eta_seconds": 4350.0}
    words = words_of(feed)
    for part in ("helpful-8b", "training", "step 30/100", "ETA 1 h 12 min", "epoch 0.9", "k tok/s", "peak 9.1 GB"):
        assert part in words
    feed.about["eta_seconds"] = 2182.0
    assert "ETA 36 min |" in words_of(feed), "seconds of a guess are noise"
    assert "batch 2 × 4 = 8" in words, "as config.toml says"
    feed.about |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert "batch 1 × 8 = 8" in words_of(feed), "as out-of-memory retries left it"
    assert state.per_device_train_batch_size is None


def test_a_long_history_is_read_in_pieces_and_equals_what_was_written(tmp_path):
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    begin(folder, "x")
    write_history(folder, 1, 4000, 4000)
    feed = RunFeed(folder)
    polls = 0
    while feed.catching_up:
        feed.poll(time.time())
        polls += 1
    assert polls > 1
    assert not feed.catching_up
    assert len(feed.series["loss"]) == 4000
    assert feed.series["loss"].last_step == 4000


def test_nothing_new_costs_no_reading(tmp_path):
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    begin(folder, "x")
    write_history(folder, 1, 3, 3)
    feed = RunFeed(folder)
    now = time.time()
    feed.poll(now)
    assert not feed.has_news(now + 0.1)
    progress(folder, 3, 3)
    assert feed.has_news(now + 0.1)


def test_null_and_nan_are_gaps_and_text_is_no_metric(tmp_path):
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    begin(folder, "x")
    folder.metrics.write_text(
        '{"step": 1, "loss": null}\n{"step": 2, "loss": NaN, "note": "x"}\n{"step": 3, "loss": 1}\n'
    )
    feed = RunFeed(folder)
    feed.poll(time.time())
    assert set(feed.series) == {"loss"}
    assert feed.series["loss"].unusable == 2


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


def varint(value: int) -> bytes:
    """An integer as protocol buffers write it."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def test_answers_stand_by_prompt_the_first_before_the_latest(tmp_path):
    path = tmp_path / "samples.jsonl"
    chat = [{"role": "user", "content": "Hi?"}]
    rows = [
        {"step": step, "prompt": chat, "answer": answer} for step, answer in ((0, "No."), (5, "Maybe."), (9, "Yes!"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = [words for words, _ in samples_text(path)]
    assert text[0] == "Hi?"
    assert "No." in text and "Yes!" in text and "Maybe." not in text
