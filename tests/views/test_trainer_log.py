"""Logs of LLaMA-Factory and ms-swift as feeds, alone and beside the Trainer's own files."""

import json
import math
import os
import time
from pathlib import Path

import pytest

from dpo_tui.views.advice_sentence import advice_sentence
from dpo_tui.views.foreign_feed import MUCH_LATER, QUIET, ForeignFeed
from dpo_tui.views.monitor_text import fraction
from dpo_tui.views.open_feed import open_feed
from dpo_tui.views.run_diagnosis import ThrottledDiagnosis
from dpo_tui.views.trainer_log import seconds_of
from tests.support.event_file import scalar_record


def line(step: int, total: int = 200, **more: object) -> str:
    """A line of LLaMA-Factory's log of a DPO run."""
    times = {"percentage": 100 * step / total, "elapsed_time": "0:01:00", "remaining_time": "1 day, 0:02:05"}
    metrics = {"loss": 0.7 - step / 1000, "accuracy": 0.5, "lr": 2e-6, "epoch": step / 50}
    return json.dumps({"current_steps": step, "total_steps": total, **metrics, **times, **more}) + "\n"


def state(*steps: int, total: int = 200, **more: object) -> str:
    """A trainer state whose history has one line for each step."""
    history = [{"step": step, "loss": 0.7 - step / 1000, "rewards/margins": step / 100} for step in steps]
    return json.dumps({"global_step": steps[-1], "max_steps": total, "log_history": history, **more})


def watched(folder: Path, now: float | None = None) -> ForeignFeed:
    feed = open_feed(folder)
    assert isinstance(feed, ForeignFeed)
    feed.poll(now or time.time())
    return feed


def test_llama_factorys_log_is_shown_while_it_grows(tmp_path):
    log = tmp_path / "trainer_log.jsonl"
    log.write_text(line(5) + line(10, throughput=1234.5))
    feed = watched(tmp_path)
    assert set(feed.series) == {"loss", "rewards/accuracies", "learning_rate", "tokens_per_second"}
    assert (feed.about["step"], feed.about["max_steps"], feed.about["epoch"]) == (10, 200, 0.2)
    assert (feed.about["status"], feed.about["eta_seconds"]) == ("running", 86400 + 125)
    assert fraction(feed.about) == 0.05
    with log.open("a") as stream:
        stream.write(line(15))
    assert feed.poll(time.time())
    assert feed.series["loss"].count == 3
    assert feed.about["step"] == 15


def test_its_path_opens_it_as_its_folder_does(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text(line(5))
    assert watched(tmp_path / "trainer_log.jsonl").series["loss"].count == 1


def test_ms_swifts_log_is_shown_too(tmp_path):
    (tmp_path / "logging.jsonl").write_text(
        '{"loss": 0.6, "token_acc": 0.8, "learning_rate": 1e-5, "memory(GiB)": 7.5, "epoch": 0.4, '
        '"global_step/max_steps": "8/40", "percentage": "20.00%", "elapsed_time": "12s", "remaining_time": "1h 2m 3s"}'
        '\n{"eval_loss": 0.5, "eval_token_acc": 0.75, "global_step/max_steps": "8/40"}\n'
        '{"last_model_checkpoint": "checkpoint-8", "best_metric": 0.5}\n'
    )
    feed = watched(tmp_path)
    assert (feed.about["step"], feed.about["max_steps"]) == (8, 40)
    assert feed.latest == {
        "loss": 0.6,
        "mean_token_accuracy": 0.8,
        "learning_rate": 1e-5,
        "memory(GiB)": 7.5,
        "eval_loss": 0.5,
        "eval_mean_token_accuracy": 0.75,
    }


def test_torn_lines_are_left_out_and_said_and_a_whole_last_line_needs_no_line_feed(tmp_path):
    text = line(5) + line(10)[:30] + "\n" + "[1, 2]\n" + "\x00\x00\n" + line(15) + line(20).rstrip("\n")
    (tmp_path / "trainer_log.jsonl").write_text(text)
    feed = watched(tmp_path)
    assert feed.series["loss"].count == 3
    assert feed.about["step"] == 20
    assert feed.about["notice"] == "trainer_log.jsonl: 3 lines are torn or no JSON, and left out"
    assert [event["message"] for event in feed.events] == [feed.about["notice"]]
    with (tmp_path / "trainer_log.jsonl").open("a") as stream:
        stream.write("\n" + line(25))
    feed.poll(time.time())
    assert feed.series["loss"].count == 4


def test_a_loss_that_is_not_a_number_is_judged(tmp_path):
    text = "".join(line(step, loss=math.nan if step > 20 else 0.6) for step in range(5, 60, 5))
    (tmp_path / "trainer_log.jsonl").write_text(text)
    feed = watched(tmp_path)
    diagnosis = ThrottledDiagnosis(feed)
    diagnosis.update(1.0)
    assert diagnosis.advice[0].rule == "nan"


@pytest.mark.parametrize("values", ['"loss": "high"', '"loss": null', '"loss": true', '"loss": [1]', '"x": {"y": 1}'])
def test_odd_values_do_no_harm(tmp_path, values):
    (tmp_path / "trainer_log.jsonl").write_text(line(5) + '{"current_steps": 10, ' + values + "}\n" + line(15))
    assert watched(tmp_path).latest["loss"] == pytest.approx(0.685)


def test_a_log_without_a_line_yet_waits_for_one_and_names_it(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text("")
    feed = watched(tmp_path)
    text = advice_sentence(feed).text
    assert text.startswith("There is no metric yet in trainer_log.jsonl.")
    assert "worker" not in text
    feed.poll(time.time() + QUIET + 1)
    assert feed.about["status"] == "unknown"
    assert "no metric in trainer_log.jsonl" in advice_sentence(feed).text


def test_a_state_beside_the_log_adds_the_metrics_that_the_log_lacks_and_doubles_none(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text("".join(line(step) for step in range(5, 35, 5)))
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-20" / "trainer_state.json").write_text(state(10, 20))
    feed = watched(tmp_path)
    assert (feed.series["loss"].count, feed.series["rewards/margins"].count) == (6, 2)
    (tmp_path / "checkpoint-30").mkdir()
    (tmp_path / "checkpoint-30" / "trainer_state.json").write_text(state(10, 20, 30))
    feed.poll(time.time())
    assert (feed.series["loss"].count, feed.series["rewards/margins"].count) == (6, 3)
    assert not any(series.rewinds for series in feed.series.values())


def test_event_files_beside_the_log_give_each_metric_once(tmp_path):
    (tmp_path / "runs").mkdir()
    events = [scalar_record(step, tag, 0.5) for step in (5, 10) for tag in ("train/loss", "train/rewards/margins")]
    (tmp_path / "runs" / "events.out.tfevents.1.host").write_bytes(b"".join(events))
    (tmp_path / "trainer_log.jsonl").write_text(line(5) + line(10))
    feed = watched(tmp_path)
    assert {name: series.count for name, series in feed.series.items()} == dict.fromkeys(
        ("loss", "rewards/margins", "rewards/accuracies", "learning_rate"), 2
    )
    assert feed.about["max_steps"] == 200


def test_event_files_of_an_earlier_run_do_not_hide_the_log_of_this_one(tmp_path):
    old = tmp_path / "events.out.tfevents.1.host"
    old.write_bytes(scalar_record(100, "train/loss", 9.0))
    os.utime(old, (time.time() - 2 * MUCH_LATER,) * 2)
    (tmp_path / "trainer_log.jsonl").write_text(line(5) + line(10))
    feed = watched(tmp_path)
    assert feed.series["loss"].count == 2
    assert feed.latest["loss"] == pytest.approx(0.69)


def test_a_log_that_a_new_run_replaced_is_shown_from_its_beginning(tmp_path):
    log = tmp_path / "trainer_log.jsonl"
    log.write_text(line(5) + line(10) + line(15))
    feed = watched(tmp_path)
    log.unlink()
    log.write_text(line(1, total=7))
    feed.poll(time.time())
    assert feed.series["loss"].count == 1
    assert (feed.about["step"], feed.about["max_steps"]) == (1, 7)


def test_a_run_that_was_cut_short_is_not_called_done(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text(line(5) + line(95))
    feed = watched(tmp_path, time.time() + QUIET + 1)
    assert feed.about["status"] == "stalled"
    assert fraction(feed.about) == 95 / 200
    text = advice_sentence(feed).text
    assert "at step 95 of 200" in text
    assert "x stops it" not in text, "nothing here can stop it"


def test_a_run_that_reached_its_last_step_or_logged_its_end_is_done(tmp_path):
    (tmp_path / "trainer_log.jsonl").write_text(line(195) + line(200))
    assert watched(tmp_path, time.time() + QUIET + 1).about["status"] == "done"
    early = tmp_path / "early"
    early.mkdir()
    history = [{"step": 50, "loss": 0.6}, {"step": 50, "train_runtime": 12.5, "train_loss": 0.6}]
    (early / "trainer_state.json").write_text(json.dumps({"max_steps": 200, "log_history": history}))
    assert watched(early).about["status"] == "done", "stopped early by its own callback"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:42:32", 2552), ("2 days, 1:00:01", 176401), ("42m 32s", 2552), ("1d 2h", 93600), ("soon", None), (7, None)],
)
def test_durations_are_read_as_both_tools_write_them(text, seconds):
    assert seconds_of(text) == seconds
