"""What is said about a run, and reading it while it grows."""

import json
import time
from pathlib import Path

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.live.feed import RunFeed, read_through
from dpo_tui.live.headline import headline
from dpo_tui.live.words import fraction, header, samples_text
from dpo_tui.runs.folder import RunFolder
from dpo_tui.widgets.series import Series
from tests.fake_run import begin, progress, write_history


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
    advice = headline(feed, found)
    assert advice.tone == tone
    assert words in advice.text


def test_a_remedy_is_named_by_the_settings_that_it_changes():
    assert headline(feed_with(loss=0.5), [KL]).remedy == "beta 0.2, no eval_dataset"
    assert headline(feed_with("lost"), [KL]).remedy == ""


def test_advice_that_the_run_was_given_outranks_good_numbers():
    feed = feed_with(loss=0.5, accuracy=0.9)
    feed.about["advice"] = {"kind": "advice", "severity": "warning", "message": "Both rewards fall."}
    assert headline(feed).text.startswith("Both rewards fall.")


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
    yields = list(read_through((feed,), pause=0.0))
    assert len(yields) > 1
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
