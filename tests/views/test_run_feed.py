"""A run folder as a feed: read in chunks, only what is new, and no value lost."""

import time

from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.run_feed import RunFeed
from tests.support.fake_run import begin, progress, write_history


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
    assert feed.has_news(now - 3600), "whether it lives is asked at once after the clock was set back"
    assert feed.read(now - 3600).about is not None
    feed.poll(now)
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
