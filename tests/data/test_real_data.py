"""Both real files get the right verdict. They are not shipped: DPO_TUI_REAL_DATA names their folder."""

import os
from pathlib import Path

import pytest

from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source

REAL = os.environ.get("DPO_TUI_REAL_DATA")
pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(not REAL, reason="DPO_TUI_REAL_DATA names no folder with the real preference files"),
]


def report_on(name: str) -> Report:
    return scan(ScanRequest(Source(str(Path(REAL or "") / name)), workers=1), lambda _event: None)


def rows(report: Report, check: str) -> list[int]:
    return next((problem.rows for problem in report.problems if problem.check == check), [])


def test_hh_harmless_is_recognised_and_its_empty_answers_are_found() -> None:
    report = report_on("hh-harmless-test.jsonl.gz")
    assert report.format == "transcripts with an implicit prompt"
    assert (report.rows, report.usable) == (2312, 2308)
    assert rows(report, "empty-answer") == [87, 517, 926, 1104]
    assert report.verdict.startswith("Good: 2,308 pairs can be trained on.")


def test_the_english_demo_is_recognised_and_called_small() -> None:
    report = report_on("dpo-en-demo.json")
    assert report.format == "ShareGPT ranking"
    assert (report.rows, report.usable) == (299, 299)
    assert report.verdict == "Usable with care: 299 pairs can be trained on. First look at: few-pairs."


@pytest.mark.parametrize("name", ["hh-harmless-test.jsonl.gz", "dpo-en-demo.json"])
def test_at_most_three_percent_of_real_pairs_are_called_too_much_alike(name: str) -> None:
    report = report_on(name)
    flagged = {*rows(report, "too-similar"), *rows(report, "no-clear-winner")}
    assert len(flagged) <= 0.03 * report.usable


def test_prompts_and_answers_of_hh_are_cut_at_the_last_shared_turn() -> None:
    pairs = load_pairs(Source(str(Path(REAL or "") / "hh-harmless-test.jsonl.gz"))).pairs
    assert all(pair.prompt[0]["role"] == "user" for pair in pairs)
    assert all(pair.chosen[0]["role"] == pair.rejected[0]["role"] == "assistant" for pair in pairs)
    markers = ("\n\nHuman:", "\n\nAssistant:")
    texts = [message["content"] for pair in pairs for message in (*pair.prompt, *pair.chosen, *pair.rejected)]
    assert not [text for text in texts if any(marker in text for marker in markers)]
