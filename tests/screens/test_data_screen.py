"""The data screen: a repaired copy without what some checks name, and how long the pairs are in tokens."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from textual.widgets import Input, Static, TextArea

from dpo_tui.app import DpoTui
from dpo_tui.data.checks import registry
from dpo_tui.data.repair.row_forms import Edit
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.demo import assets
from dpo_tui.screens.data_screen import CountSettings, DataScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.steps.data_step import preview
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from dpo_tui.views.run_plan import RunPlan, with_demo, with_values
from dpo_tui.views.token_length_text import lengths_text
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.compact_inputs import TickList
from dpo_tui.widgets.dialogs import ConfirmDialog
from dpo_tui.widgets.edit_dialog import WritePairDialog
from dpo_tui.widgets.repair_dialog import RepairDialog
from tests.support.app import screen_text, until
from tests.support.repository import ROOT

GOOD = [
    {
        "prompt": f"Explain subject number {n} to a beginner",
        "chosen": f"A long and patient explanation of {n}.",
        "rejected": "No.",
    }
    for n in range(6)
]
SIMILAR = [{"prompt": f"What is 2+{n}?", "chosen": "The answer is 4.", "rejected": "2+2 equals 4."} for n in range(3)]
LINES = [*map(json.dumps, GOOD), "", *map(json.dumps, SIMILAR), json.dumps(GOOD[0]), '{"prompt": "x", "chosen": "y"}']


@pytest.fixture(autouse=True)
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a scan is a process of its own
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("\n".join(LINES) + "\n")
    return tmp_path


def app() -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark"))


def report_of(**options) -> dict:
    return scan(ScanRequest(Source("pairs.jsonl"), workers=1, **options), lambda event: None).to_json()


async def open_data(pilot) -> DataScreen:
    await pilot.press("3")
    await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
    screen = pilot.app.screen
    screen.open_data("pairs.jsonl")
    await until(pilot, lambda: screen.dataset is not None and "usable" in screen_text(pilot), 60)
    return screen


def test_what_is_said_to_remain_is_what_a_repair_leaves(here):
    """For every choice of checks, with rows dropped, flipped and edited by hand."""
    report_of()
    dataset = DatasetBrowser("pairs.jsonl")
    named = ("too-similar", "duplicate-pair", "duplicate-prompt")
    decided = Decisions(
        dropped=frozenset({1, 8, 12}), flipped=frozenset({2, 8, 9}), edits={3: Edit(chosen="Another."), 12: Edit()}
    )
    for decisions in (Decisions(), decided):
        for count in range(len(named) + 1):
            for checks in combinations(named, count):
                told = dataset.remaining(decisions, checks)
                done = dataset.save(decisions, checks, here / "out.jsonl")
                assert told.rows == 11
                assert (told.kept_rows, told.changed) == (done.written, done.changed), (checks, told)
    assert "dropped" not in dataset.remaining(decided, named).summary()
    assert "left out" in dataset.remaining(decided, named).summary()


async def test_rows_are_left_out_by_check_after_saying_what_remains(here):
    """Tick a check, read what is left, write; the input stays as it was."""
    before = (here / "pairs.jsonl").read_bytes()
    async with app().run_test(size=(80, 24)) as pilot:
        await open_data(pilot)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RepairDialog))
        await until(pilot, lambda: "10 of 11 rows stay" in screen_text(pilot))
        assert "[ ] too-similar" in screen_text(pilot)
        ticks = pilot.app.screen.query_one(TickList)
        keys = [ticks.get_option_at_index(at).value for at in range(ticks.option_count)]
        assert "missing-field" not in keys, "those rows are left out anyway"
        await pilot.press(*["down"] * (keys.index("too-similar") + 1 - (ticks.highlighted is not None)), "space")
        await until(pilot, lambda: "[x] too-similar" in screen_text(pilot))
        await until(pilot, lambda: "7 of 11 rows stay" in screen_text(pilot))
        await pilot.press("enter")
        out = here / "pairs.repaired.jsonl"
        await until(pilot, out.exists)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(rows) == 7
        assert not any("2+" in row["prompt"] for row in rows)
        assert "too-similar" in (here / "pairs.repaired.jsonl.repair.jsonl").read_text()
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RepairDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        assert "Write over" in screen_text(pilot)
        written = out.read_bytes()
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen))
    assert out.read_bytes() == written
    assert (here / "pairs.jsonl").read_bytes() == before


async def test_the_copy_never_takes_the_place_of_the_input(here):
    before = (here / "pairs.jsonl").read_bytes()
    async with app().run_test(size=(80, 24)) as pilot:
        await open_data(pilot)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RepairDialog))
        pilot.app.screen.query_one(Input).value = str(here / "pairs.jsonl")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog))
        await pilot.press("y")
        await until(pilot, lambda: "the input is never changed" in screen_text(pilot))
    assert (here / "pairs.jsonl").read_bytes() == before


async def test_tokens_are_counted_with_the_model_that_was_chosen_in_new(here):
    """The histogram, dropped rows, cut answers, and the lengths for 95, 99 and 100 %."""
    async with app().run_test(size=(80, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        pilot.app.screen.plan = with_demo(pilot.app.screen.plan)
        await open_data(pilot)
        await pilot.press("t", "t")
        await until(pilot, lambda: "Whole pairs are kept by max_seq_length" in screen_text(pilot), 60)
        text = screen_text(pilot)
        expected = ("for 95 %", "for 99 %", "for 100 %", "be dropped", "answers be cut", "▇▇▇")
        assert all(words in text for words in expected)


async def test_a_model_can_be_named_and_one_without_a_tokenizer_leaves_the_report(here):
    """What was read stays; the reason and the way out stand where the tokens would."""
    (here / "no-model").mkdir()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_data(pilot)
        await pilot.press("t", "t")
        await until(pilot, lambda: "No model is known" in screen_text(pilot))
        for model, told in (("no-model", "has no tokenizer.json"), (str(assets.model_dir()), "At max_seq_length 12")):
            await pilot.press("m")
            await until(pilot, lambda: isinstance(pilot.app.focused, Input))
            pilot.app.focused.value = model
            await pilot.press("enter")
            await until(pilot, lambda: "max_seq_length" in str(pilot.app.screen.query(Static).first().content))
            pilot.app.focused.value = "12"
            await pilot.press("enter")
            await until(pilot, lambda told=told: told in screen_text(pilot), 60)
        assert screen.report["will_drop"] > 0
        await pilot.press("escape")
        await until(pilot, lambda: "11 rows, 10 usable pairs" in screen_text(pilot))


def test_the_page_about_lengths_counts_as_the_report_does(here):
    """The bars add up to the pairs; what is beyond the limit is marked with a word, not with colour alone."""
    report = report_of(model=str(assets.model_dir()), max_length=40)
    page = lengths_text(report, "demo")
    bars = [(text, role) for text, role in page if "▇" in text]
    counts = [int(text.replace("← max_seq_length", "").split()[-1].replace(",", "")) for text, _ in bars]
    assert sum(counts) == report["usable"] == 10
    assert [text for text, _ in page if f"{report['keeps']['95']:,}  for 95 %" in text]
    marked = [text for text, _ in page if "← max_seq_length" in text]
    assert len(marked) == (report["keeps"]["100"] > 40)
    assert lengths_text(None)[0][0].startswith("Reading")


async def test_tokens_are_counted_with_the_template_settings_of_new_as_a_run_with_them_does(here):
    """The report of Data is that of `inspect` with the same options; a model typed by m has its own template."""
    template = here / "longer.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.role }} says {% if loud %}very loudly {% endif %}{{ m.content }}\n{% endfor %}"
    )
    chosen = {"chat_template": str(template), "chat_template_kwargs": {"loud": True}, "truncation_mode": "keep_end"}
    values = chosen | {"max_seq_length": 40, "eos_token": "<|im_end|>"}
    async with app().run_test(size=(80, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        pilot.app.screen.plan = plan = with_values(with_demo(pilot.app.screen.plan), values)
        assert not plan.problems
        screen = await open_data(pilot)
        await until(pilot, lambda: screen.report["lengths"]["tokens"] is not None, 60)
        settings = TemplateSettings(str(template), {"loud": True}, "<|im_end|>")
        shared = {"model": str(assets.model_dir()), "max_length": 40}
        as_run = report_of(**shared, truncation="keep_end", template=settings)
        for part in ("lengths", "will_drop", "keeps"):
            assert screen.report[part] == as_run[part]
        assert as_run["lengths"]["tokens"] != report_of(**shared)["lengths"]["tokens"]
    asked = CountSettings.of(plan.config)
    assert asked.of_model(str(assets.model_dir()), 12) == replace(asked, max_length=12)
    assert asked.of_model("org/other", 40) == CountSettings("org/other", 40, "keep_end")


async def test_data_are_read_with_the_columns_and_the_encoding_of_new(here):
    """As a run with these settings would read them; other data, chosen in Data, are read by their own."""
    odd = here / "odd.jsonl"
    rows = [{"frage": f"Größe {n}?", "gut": f"schöne Antwort {n}", "schlecht": f"üble Antwort {n}"} for n in range(6)]
    odd.write_bytes("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows).encode("cp1252"))
    values = {"prompt_field": "frage", "chosen_field": "gut", "rejected_field": "schlecht", "encoding": "cp1252"}
    plan = with_values(RunPlan(), {"dataset": str(odd), **values})
    assert ("+ schöne Antwort 0", "good") in preview(str(odd), plan)
    assert ("+ schöne Antwort 0", "good") not in preview(str(odd))
    async with app().run_test(size=(80, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        pilot.app.screen.plan = plan
        screen = await open_data(pilot)
        screen.open_data(str(odd))
        await until(pilot, lambda: screen.dataset is not None)
        assert screen.report["usable"] == 6
        assert screen.dataset.at(1, Decisions()).chosen == "schöne Antwort 0"
        screen.open_data("pairs.jsonl")
        await until(pilot, lambda: screen.dataset is not None)
        assert screen.dataset.source == Source("pairs.jsonl")


BROKEN = [
    json.dumps(GOOD[0]),
    '{"prompt": "What is 2+3?", "chosen": "It is five.", "rejected": "Four."',
    '{"question": "What is 2+4?", "chosen": "It is six."}',
    '{"prompt": "What is 2+5?", "chosen": "", "rejected": "Four."}',
    json.dumps(GOOD[1]),
]


async def test_a_broken_row_is_seen_with_its_reason_written_anew_and_kept_in_the_copy(here):
    (here / "pairs.jsonl").write_text("\n".join(BROKEN) + "\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_data(pilot)
        report = " ".join(screen_text(pilot).split())
        assert "e writes a pair in the place of one" in report
        assert "--" not in report
        await pilot.press("t", "c")
        await until(pilot, lambda: "Which pairs?" in screen_text(pilot))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "pair 2 of 5" in screen_text(pilot))
        assert "not JSON" in screen_text(pilot)
        assert '"rejected": "Four."' in screen_text(pilot)
        assert screen.dataset.draft(3) == ("What is 2+4?", "It is six.", "")
        assert screen.dataset.draft(4) == ("What is 2+5?", "", "Four.")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, WritePairDialog))
        for name, text in (("prompt", "What is 2+3?"), ("chosen", "It is five."), ("rejected", "Four.")):
            pilot.app.screen.query_one(f"#{name}", TextArea).text = text
        await pilot.press("ctrl+d")
        await until(pilot, lambda: "edited" in screen_text(pilot) and "It is five." in screen_text(pilot))
        await pilot.press("w")
        await until(pilot, lambda: "3 of 5 rows stay" in screen_text(pilot))
        assert "2 as they cannot be used" in screen_text(pilot)
        await pilot.press("enter")
        await until(pilot, (here / "pairs.repaired.jsonl").exists)
    rows = [json.loads(line) for line in (here / "pairs.repaired.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [GOOD[0]["prompt"], "What is 2+3?", GOOD[1]["prompt"]]


async def test_a_row_that_is_written_without_an_answer_stays_out_and_says_why(here):
    (here / "pairs.jsonl").write_text("\n".join(BROKEN) + "\n")
    report_of()
    dataset = DatasetBrowser("pairs.jsonl")
    decisions = Decisions().edit(2, Edit(prompt="What?", chosen="", rejected="No."))
    assert dataset.at(2, decisions).problem == "the chosen answer is empty"
    assert dataset.remaining(decisions, ()).kept_rows == 2
    assert dataset.save(decisions, (), here / "out.jsonl").written == 2


async def test_from_new_the_rows_are_one_key_away_and_esc_leads_back(here):
    (here / "pairs.jsonl").write_text("\n".join(BROKEN) + "\n")
    async with app().run_test(size=(80, 24)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        new = pilot.app.screen
        new.go(2)
        await until(
            pilot, lambda: "row 2: not JSON" in screen_text(pilot).replace("\n", " ") or "^r" in screen_text(pilot)
        )
        await pilot.press("down", "down", "ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataScreen) and "2 usable" in screen_text(pilot), 60)
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is new)
        assert new.step == 2


def test_what_the_app_says_of_a_check_names_its_keys_and_no_option_of_the_command_line():
    for check in registry.checks().values():
        assert "--" not in (check.in_app or check.remedy), check.id


async def test_texts_that_were_encoded_twice_are_restored_by_a_tick(here):
    (here / "pairs.jsonl").write_text(
        "\n".join(json.dumps({**row, "chosen": "Das KÃ¤nguru hÃ¼pft Ã¼ber die BrÃ¼cke."}) for row in GOOD) + "\n"
    )
    async with app().run_test(size=(80, 24)) as pilot:
        await open_data(pilot)
        await pilot.press("w")
        await until(pilot, lambda: "encoded twice" in screen_text(pilot))
        await pilot.press("space", "tab", "enter")
        await until(pilot, (here / "pairs.repaired.jsonl").exists)
    rows = [json.loads(line) for line in (here / "pairs.repaired.jsonl").read_text().splitlines()]
    assert rows[0]["chosen"] == "Das Känguru hüpft über die Brücke."
