"""The judge screen: blind, kept at once, by keyboard."""

import json
from pathlib import Path

import pytest
from textual.widgets import Input

from dpo_tui.app import DpoTui
from dpo_tui.config.files import from_values
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.source.source import Source
from dpo_tui.judging.judging_session import Session
from dpo_tui.judging.win_rate import WinRate
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.judge_screen import JudgeScreen
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.views.judging_text import meaning, verdicts_needed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.answer_pair_view import AnswerPairView, BlindAnswers
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.run_table import RunTable
from tests.support.answered_run import answered_run
from tests.support.app import SIZES, SIZES_AND_THEMES
from tests.support.app import screen_text, until

HOSTILE = "[bold]hi[/bold] \x1b[31mred\x1b]0;title\x07 \x9b2J end"


@pytest.fixture(autouse=True)
def _here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)


def app(theme: str = "dark") -> DpoTui:
    return DpoTui(settings=UserSettings(theme=theme))


def small_run(pairs: Path, answers: dict[str, str]) -> RunFolder:
    """A run that is done, with so many prompts; base and tuned answer ``base`` and ``tuned`` of ``answers``, numbered.

    `{}` leaves them unanswered.
    """
    config = from_values({"model_name": "m", "dataset": str(pairs), "eval_split": 0.1})
    folder = store.create(to_toml(config), name="helpful [b]", devices=[])
    folder.adapter.mkdir()
    session = Session.open(folder, count=4, seed="3")
    with (folder.path / "judge" / "answers.jsonl").open("w") as file:
        for number, key in enumerate(session.unanswered()):
            for who, text in answers.items():
                file.write(json.dumps({"id": key, "who": who, "answer": f"{text} {number}"}) + "\n")
    return folder


async def open_judge(pilot) -> JudgeScreen:
    await until(pilot, lambda: bool(pilot.app.screen.query_one(RunTable).runs))
    await pilot.press("4")
    await until(pilot, lambda: isinstance(pilot.app.screen, JudgeScreen))
    return pilot.app.screen


async def judged(pilot, screen: JudgeScreen, count: int) -> None:
    await until(pilot, lambda: f"{count} of 4" in screen_text(pilot) and not screen.is_busy)
    await pilot.pause()


async def test_a_run_is_judged_blind_from_its_row_to_the_win_rate(tiny_pairs):
    """The keys of `dpo-tui judge`; nothing says whose answer is whose until the end; then rate and interval."""
    folder = small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    async with app().run_test(size=(100, 30)) as pilot:
        screen = await open_judge(pilot)
        await until(pilot, lambda: "0 of 4" in screen_text(pilot) and "A  left" in screen_text(pilot))
        for count in range(4):
            await judged(pilot, screen, count)
            text = screen_text(pilot)
            assert not any(word in text for word in ("tuned", "base", "wins", "%")), "blind"
            left = screen.query_one(AnswerPairView).pair.left
            await pilot.press("l" if left.startswith("kind") else "right")
        await until(pilot, lambda: "The tuned model wins 4 of 4: 100%" in screen_text(pilot))
        text = " ".join(screen_text(pilot).split())
        assert "95 % interval 51% to 100%" in text
        assert "Training helped" in text
        assert "Who won" in text
    kept = [verdict["verdict"] for verdict in Session.open(folder).verdicts()]
    assert set(kept) == {"left", "right"}, "sides are shuffled"


async def test_undo_shows_the_pair_again_and_leaving_loses_nothing(tiny_pairs):
    """Saved and resumable, by the app and by the command line alike."""
    folder = small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        first = screen.query_one(AnswerPairView).pair
        await pilot.press("t")
        await judged(pilot, screen, 1)
        second = screen.query_one(AnswerPairView).pair
        assert second != first
        await pilot.press("u")
        await judged(pilot, screen, 0)
        assert screen.query_one(AnswerPairView).pair == first
        await pilot.press("b")
        await judged(pilot, screen, 1)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await pilot.press("4")
        await judged(pilot, screen, 1)
        assert screen.query_one(AnswerPairView).pair == second
    again = Session.open(folder)
    assert (again.tally().both_bad, again.tally().judged) == (1, 1)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 1)
        assert screen.query_one(AnswerPairView).pair == second


async def test_the_win_rate_is_shown_when_asked_for_and_escape_goes_on(tiny_pairs):
    small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        await pilot.press("v")
        assert "wins" not in screen_text(pilot), "there is nothing to show yet"
        await pilot.press("l")
        await judged(pilot, screen, 1)
        await pilot.press("v")
        await until(pilot, lambda: "3 of 4 pairs are not judged yet" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "A  left" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "1 of 4 judged" in screen_text(pilot) and "which run?" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


async def test_a_verdict_that_the_disk_refuses_is_told_and_can_be_given_again(tiny_pairs):
    """Nothing is shown as judged that is not kept."""
    folder = small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    kept = folder.path / "judge" / "verdicts.jsonl"
    kept.mkdir()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        first = screen.query_one(AnswerPairView).pair
        await pilot.press("l")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "cannot be saved" in screen_text(pilot)
        kept.rmdir()
        await pilot.press("enter")
        await judged(pilot, screen, 0)
        assert screen.query_one(AnswerPairView).pair == first
        await pilot.press("l")
        await judged(pilot, screen, 1)
    assert Session.open(folder).tally().judged == 1


async def test_the_run_that_is_watched_is_judged_and_nothing_is_drawn_below_a_dialog(tiny_pairs):
    """From the monitor; what comes while a dialog is open is shown when it is gone."""
    small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    async with app().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(pilot.app.screen.query_one(RunTable).runs))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MonitorScreen))
        await pilot.press("4")
        await until(pilot, lambda: isinstance(pilot.app.screen, JudgeScreen))
        screen = pilot.app.screen
        await judged(pilot, screen, 0)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        seen = screen.query_one(AnswerPairView).pair
        screen.action_vote("left")
        await until(pilot, lambda: screen.ballot is not None and screen.ballot.number == 2)
        assert screen.query_one(AnswerPairView).pair == seen
        await pilot.press("escape")
        await judged(pilot, screen, 1)
        assert screen.query_one(AnswerPairView).pair != seen


async def test_verdicts_are_saved_as_pairs_and_never_over_a_file(tiny_pairs, tmp_path):
    """The reader takes them; a name from outside cannot lead to another folder."""
    small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    out = tmp_path / "helpful-b.judged.jsonl"
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        await pilot.press("l")
        await judged(pilot, screen, 1)
        await pilot.press("t")
        await judged(pilot, screen, 2)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press("enter")
        await until(pilot, out.exists)
        before = out.read_bytes()
        await until(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog))
        assert "exists already" in screen_text(pilot)
    assert out.read_bytes() == before
    loaded = load_pairs(Source(str(out)))
    assert len(loaded.pairs) == 1
    assert not loaded.dropped


async def test_answers_are_shown_as_they_are_and_never_obeyed(tiny_pairs):
    """Markup and escape sequences in answers."""
    small_run(tiny_pairs, {"base": HOSTILE, "tuned": f"other {HOSTILE}"})
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        text = screen_text(pilot)
        assert text.count("[bold]hi[/bold] red") == 2
        assert not set("\x1b\x07\x9b") & set(text)


async def test_answers_stand_side_by_side_when_wide_and_below_each_other_when_not(home):
    from tests.support.widget_stage import Stage, shown

    view = AnswerPairView()
    long = "many words that fill rows " * 40
    async with Stage(view).run_test(size=(200, 20)) as pilot:
        view.show(BlindAnswers("Why?", "Because it rains", "Because it snows"))
        await pilot.pause()
        assert any("it rains" in line and "it snows" in line for line in shown(view))
        await pilot.resize_terminal(80, 20)
        await pilot.pause()
        assert not any("it rains" in line and "it snows" in line for line in shown(view))
        view.show(BlindAnswers("Why?", long, "Because it snows"))
        await pilot.pause()
        assert "more rows" in shown(view)[-1], "the other answer lies below"
        assert not any("it snows" in line for line in shown(view))
        view.focus()
        await pilot.press("space")
        await pilot.pause()
        assert any("it snows" in line for line in shown(view))
        assert "more rows" not in shown(view)[-1]


async def test_without_a_result_the_runs_that_have_one_are_offered(tiny_pairs):
    """The run under the cursor has none; the list names the other, and how far it is judged."""
    small_run(tiny_pairs, {"base": "plain", "tuned": "kind"})
    store.create("", name="newest", devices=[])
    async with app().run_test(size=(80, 24)) as pilot:
        await open_judge(pilot)
        await until(pilot, lambda: "helpful [b]" in screen_text(pilot) and "0 of 4 judged" in screen_text(pilot))
        assert "newest" not in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "A  left" in screen_text(pilot))


async def test_without_any_result_it_says_what_would_be_judged(home):
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "No run has a result yet" in screen_text(pilot))


async def test_more_prompts_are_added_on_request(tiny_pairs):
    """Twenty pairs are judged for a start; the data holds no more than its held-out half."""
    folder = answered_run(tiny_pairs, same=20)
    async with app().run_test(size=(80, 24)) as pilot:
        await open_judge(pilot)
        await until(pilot, lambda: "No verdict for either side yet" in screen_text(pilot))
        await pilot.press("m")
        await until(pilot, lambda: bool(pilot.app._notifications))
        assert "no prompts beyond these 20" in next(iter(pilot.app._notifications)).message
    assert Session.open(folder).total == 20


async def test_models_that_cannot_be_loaded_are_told_with_what_to_do(tiny_pairs):
    """The child fails for real: there is no such model. What the person did stays."""
    small_run(tiny_pairs, {})
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_judge(pilot)
        await until(pilot, lambda: "4 of 4 prompts are not answered yet" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "takes a while" in screen_text(pilot))
        await until(pilot, lambda: isinstance(pilot.app.screen, MessageDialog), 120)
        await pilot.press("enter")
        await until(pilot, lambda: "4 of 4 prompts are not answered yet" in screen_text(pilot))
        assert not screen.is_answering


def by_person(folder: RunFolder) -> int:
    return sum(verdict["by"] == "person" for verdict in Session.open(folder).verdicts())


async def test_both_models_really_answer_and_quitting_in_the_middle_keeps_what_is_answered(tiny_model, tiny_pairs):
    """The child of `dpo-tui judge` answers, and ends with the app; what it said by then is there the next time."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    values = {"model_name": str(tiny_model), "dataset": str(tiny_pairs), "eval_split": 0.5, "gpus": "none"}
    folder = store.create(to_toml(from_values(values)), name="tiny", devices=[])
    lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora).save_pretrained(folder.adapter)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder.adapter)
    Session.open(folder, count=20, max_new_tokens=8)
    answers = folder.path / "judge" / "answers.jsonl"
    async with app().run_test(size=(80, 24)) as pilot:
        await open_judge(pilot)
        await until(pilot, lambda: "20 of 20 prompts are not answered yet" in screen_text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "A  left" in screen_text(pilot), 120)
        await pilot.press("t")
        await until(pilot, lambda: by_person(folder) == 1)
    kept = [json.loads(line) for line in answers.read_text().splitlines()]
    base, tuned = ({answer["id"] for answer in kept if answer["who"] == who} for who in ("base", "tuned"))
    assert base & tuned
    assert len(Session.open(folder).unanswered()) == 20 - len(base & tuned)
    assert by_person(folder) == 1


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_picture(snap_compare, tiny_pairs, monkeypatch, size, theme):
    monkeypatch.setenv("COLORTERM", "truecolor")
    small_run(
        tiny_pairs, {"base": "No.", "tuned": "I am sorry to hear that. Please open the settings page," + " now" * 40}
    )

    async def settled(pilot):
        screen = await open_judge(pilot)
        await judged(pilot, screen, 0)
        await until(pilot, lambda: "A  left" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (WinRate(), "no win rate"),
        (WinRate(tuned=9, base=1), "Training helped"),
        (WinRate(tuned=1, base=9), "Training hurt"),
        (WinRate(tuned=3, base=2), "about"),
        (WinRate(tuned=3, base=3), "as good as each other"),
    ],
)
def test_a_win_rate_is_said_in_words(tally, words):
    assert words in meaning(tally)


def test_how_many_more_verdicts_would_tell():
    """At 60 % the 95 % Wilson interval leaves one half behind at z² p(1−p) / (p − ½)² ≈ 92 verdicts."""
    needed = verdicts_needed(WinRate(tuned=12, base=8))
    assert needed is not None
    assert 85 <= needed <= 110
    assert verdicts_needed(WinRate(tuned=5, base=5)) is None
