"""The report says what the files say: every figure can be computed again, and text of models can do nothing in it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dpo_tui.improve.improvement_plan import read_plan
from dpo_tui.improve.improvement_state import read_improvement_state
from dpo_tui.improve.report.report_figures import report_figures
from dpo_tui.improve.report.report_html import report_html
from dpo_tui.improve.report.report_markdown import report_markdown
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from tests.support.improvements import Staged, lines, program, staged

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staged:
    second = program(tmp_path, "one['answer'].count('word')", name="second.py").to_document()
    stage = staged(tmp_path, monkeypatch, rounds=2, answers=3, second_judge=second)
    assert stage.drive().status == "done"
    return stage


def test_every_figure_can_be_computed_again_from_the_files(finished: Staged) -> None:
    folder = finished.folder
    figures = json.loads(folder.report_figures.read_text())
    again = report_figures(folder, read_plan(folder), read_improvement_state(folder))
    assert json.loads(json.dumps(again)) == figures
    assert report_markdown(figures) == folder.report.read_text()
    # And a few of them by hand.
    verdicts = lines(folder.round(2).verdicts(figures["rounds"][1]["run"]))
    won = sum(one["role"] == "judge" and one["against"] == "start" and one["winner"] == "tuned" for one in verdicts)
    assert figures["rounds"][1]["wins"]["judge"]["start"]["tuned"] == won == 10
    assert figures["rounds"][1]["wins"]["second"]["start"]["base"] == 10
    answers = [len(line["text"].split()) for line in lines(folder.start_answers)]
    assert figures["start"]["words"] == pytest.approx(sum(answers) / len(answers))
    files = [
        folder.start_answers,
        *folder.path.glob("rounds/*/answers.jsonl"),
        *folder.path.glob("rounds/*/held-out/*.answers.jsonl"),
    ]
    assert figures["cost"]["sampled_tokens"] == sum(line["tokens"] for path in files for line in lines(path))
    assert figures["rounds"][0]["kl"] == 1.0 and figures["rounds"][0]["curves"]["loss"] == [[0, 0.7], [10, 0.6]]


def test_it_tells_whether_the_model_is_better_with_the_interval_and_who_judged(finished: Staged) -> None:
    text = finished.folder.report.read_text()
    assert "It is done: all 2 rounds are done." in text
    assert "it wins 10 of 10 (100%, 95 % interval 72% to 100%; 0 ties, 0 the same): it is better." in text
    assert "The second judge" in text and "it wins 0 of 10 (0%" in text and "it is worse" in text
    assert "10 held-out prompts, of which 0 are among those trained on" in text
    assert "Energy: not measured, no GPU told its power." in text


def test_the_html_is_the_same_text_and_loads_and_runs_nothing(finished: Staged) -> None:
    page = finished.folder.report_html.read_text()
    found = _Page()
    found.feed(page)
    assert found.tags.isdisjoint({"script", "img", "link", "iframe", "object", "form", "a"})
    assert "default-src 'none'" in page
    assert found.tags >= {"svg", "table", "h1", "pre"}
    assert "it is better" in found.text and "Win rate over the start model" in found.text


def test_answers_of_a_model_can_do_nothing_in_the_report(finished: Staged) -> None:
    hostile = "```\n# Verdict\n<script>alert(1)</script> | \x1b[31m\u202e [x](javascript:alert(1))"
    figures = read_json(finished.folder.report_figures) or {}
    figures["samples"][0] |= {"before": hostile, "after": "````\n" + hostile}
    figures["plan"]["name"] = "<b>|x ![y](https://example.org/z.png) `q"
    text = report_markdown(figures)
    assert text.startswith("# &lt;b>\\|x !\\[y](https://example.org/z.png) 'q: what 2 rounds")
    assert "\x1b" not in text and "\u202e" not in text
    fences = re.findall(r"^(`{3,})$", text, re.MULTILINE)
    # Each block opens and closes with a fence that its text has not.
    assert "`````" in fences and fences.count("`````") == 2
    page = _Page()
    page.feed(report_html(text, figures))
    assert page.tags.isdisjoint({"script", "b", "a"})
    assert "<script>alert(1)</script>" in page.text  # as text


def test_the_command_can_be_pasted_and_tells_no_argument_of_a_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = program(tmp_path, "one['answer'].count('help')")
    command = f"{judge.target} --key sk-secret"
    argv = ["dpo-tui", "improve", "my config.toml", "--judge-command", command, f"--second-judge-command={command}"]
    second = JudgeChoice("program", command).to_document()
    stage = staged(tmp_path, monkeypatch, judge=JudgeChoice("program", command), second_judge=second, argv=argv)
    stage.drive()
    for path in (stage.folder.report, stage.folder.report_html, stage.folder.report_figures):
        assert "sk-secret" not in path.read_text()
    text = stage.folder.report.read_text()
    assert f"dpo-tui improve 'my config.toml' --judge-command '{judge.target} …'" in text
    assert f"judged by program {judge.target} …;" in text


def test_an_improvement_that_ends_without_a_round_says_why_and_offers_no_resume_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged(tmp_path, monkeypatch, judge=program(tmp_path, "1"))
    stage.drive()
    text = stage.folder.report.read_text()
    assert re.search(r"\| 1 \(not complete\) +\| 48 .*12 with no answer better than another", text)
    assert "dpo-tui resume" not in text and "a judge that tells them apart" in text
    stage = staged(tmp_path, monkeypatch, rounds=1)
    stage.folder.control.joinpath("stop").touch()
    stage.drive()
    text = stage.folder.report.read_text()
    assert f"`dpo-tui resume {stage.folder.id}` goes on where it was." in text
    assert "It is stopped: stopped as asked." in text and "No round is complete" in text


def test_a_combination_of_a_sweep_that_failed_is_named(finished: Staged) -> None:
    figures = read_json(finished.folder.report_figures) or {}
    result = read_json(finished.folder.round(2).result) or {}
    write_json_atomic(finished.folder.round(2).result, result | {"without_result": {"beta=5": "loss is NaN | <b>"}})
    again = report_figures(finished.folder, read_plan(finished.folder), read_improvement_state(finished.folder))
    said = "Round 2: `beta=5` has no result, and was compared with nothing: loss is NaN \\| &lt;b>"
    assert said in report_markdown(again) and said not in report_markdown(figures)


class _Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data
