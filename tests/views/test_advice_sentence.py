"""The sentence about a run: the worst advice, unless the run does not train."""

from pathlib import Path

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.cli.run_summary_text import next_steps
from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.advice_sentence import AdviceSentence, advice_sentence
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.series import Series
from tests.support.app import ended_run


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


@pytest.mark.parametrize("rule", ["learning", "few-held-out", "unclear"])
def test_only_a_healthy_run_is_praised_at_its_end_and_before(rule):
    """What is not shown is said in the words of the advice, not as a success."""
    advice = Advice(rule, "info", "Not shown yet: held-out accuracy 50%.", evidence="loss 0.69 → 0.68")
    running, done = (feed_with(status=status, loss=0.68) for status in ("running", "done"))
    assert advice_sentence(running, [advice]) == AdviceSentence("note", advice.message)
    assert advice_sentence(done, [advice]) == AdviceSentence("note", f"Done. {advice.message}")
    assert advice_sentence(done, [FINE]).tone == "good"


@pytest.mark.parametrize("status", ["failed", "lost", "stopped"])
def test_a_run_without_a_checkpoint_does_not_promise_to_go_on_from_one(status):
    feed = feed_with(status)
    feed.about["resumes_from"] = ""
    assert "There is no checkpoint: r trains from the beginning." in advice_sentence(feed).text
    feed.about["resumes_from"] = "checkpoint-40"
    assert "no checkpoint" not in advice_sentence(feed).text


def test_the_checkpoint_of_an_ended_run_is_looked_up(home):
    folder = ended_run(home, "20261101-101010-aaaa", "short", "failed", reason="out of memory")
    feed = RunFeed(folder)
    feed.poll(1.0)
    assert feed.about["resumes_from"] == ""
    assert "no checkpoint" in advice_sentence(feed).text
    assert "there is no checkpoint" in "\n".join(next_steps(feed.about))
    checkpoint = folder.checkpoints / "checkpoint-40"
    checkpoint.mkdir(parents=True)
    (checkpoint / "complete.json").write_text('{"files": {}}')
    feed = RunFeed(folder)
    feed.poll(1.0)
    assert feed.about["resumes_from"] == "checkpoint-40"
    assert "go on from the last checkpoint" in "\n".join(next_steps(feed.about))
