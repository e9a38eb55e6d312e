"""What the monitor says about a run is what the advice rules say, asked seldom."""

import json
import math
import time
from pathlib import Path

import pytest

from dpo_tui.advice.diagnose import diagnose
from dpo_tui.app import DpoTui
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from dpo_tui.screens.monitor_screen import MonitorScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.views import run_plan as plans
from dpo_tui.views.foreign_feed import ForeignFeed
from dpo_tui.views.open_feed import open_feed
from dpo_tui.views.run_diagnosis import PAUSE, ThrottledDiagnosis, evidence_of
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.run_plan import RunPlan
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.settings_form import SchemaForm
from tests.support.app import ended_run, screen_text, until
from tests.support.event_file import scalar_record
from tests.support.fake_run import begin, metrics_at, progress, write_history


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


def stuck(step: int) -> dict[str, float]:
    """The log line of a policy that does not move."""
    still = {"rewards/margins": 1e-4, "rewards/accuracies": 0.5, "rewards/chosen": 5e-5, "rewards/rejected": -5e-5}
    return {**metrics_at(step, 100), "step": step, "loss": math.log(2), **still}


def stuck_run(home: Path, steps: int = 100) -> RunFolder:
    folder = RunFolder(home / "runs" / "20261101-101010-aaaa")
    state = begin(folder, "stuck")
    folder.metrics.write_text("".join(json.dumps(stuck(step)) + "\n" for step in range(1, steps + 1)))
    progress(folder, steps, 100)
    write_state(folder, State(**{**state.to_dict(), "status": "done", "ended_at": time.time()}))
    return folder


def test_the_diagnosis_is_that_of_the_command_line(home):
    folder = stuck_run(home)
    feed = RunFeed(folder)
    feed.poll(time.time())
    diagnosis = ThrottledDiagnosis(feed)
    assert diagnosis.update(0.0)
    assert list(diagnosis.advice) == diagnose(folder.path)
    assert diagnosis.advice[0].rule == "rate-low"


def test_it_is_made_again_when_something_came_but_not_before_a_pause_and_at_once_at_the_end(home):
    """Watching costs 2 % of a core at most, reading evidence included."""
    folder = RunFolder(home / "runs" / "20261101-101010-aaaa")
    begin(folder, "x")
    feed = RunFeed(folder)
    diagnosis = ThrottledDiagnosis(feed)
    assert not diagnosis.due(1.0), "nothing is known of it yet"
    write_history(folder, 1, 30, 60)
    feed.poll(time.time())
    assert diagnosis.due(1.0)
    diagnosis.update(1.0)
    assert not diagnosis.due(1e9), "nothing new"
    write_history(folder, 31, 32, 60)
    feed.poll(time.time())
    assert not diagnosis.due(1.0 + PAUSE / 2)
    assert diagnosis.due(0.5), "the clock was set back"
    assert diagnosis.due(1e9)
    feed.about = {**feed.about, "status": "done"}
    assert diagnosis.due(1.0 + PAUSE / 2)


def test_a_trainer_state_of_another_trainer_is_judged_by_the_same_rules(tmp_path):
    """A rate that is too high or low, on a foreign folder, which says nothing of its settings but the rate it logs."""
    folder = tmp_path / "out"
    folder.mkdir()
    lines = [{**stuck(step), "learning_rate": 5e-7} for step in range(1, 61)]
    (folder / "trainer_state.json").write_text(json.dumps({"max_steps": 60, "log_history": lines}))
    (folder / "adapter_config.json").write_text("{}")
    feed = open_feed(folder)
    assert isinstance(feed, ForeignFeed)
    feed.poll(time.time())
    diagnosis = ThrottledDiagnosis(feed)
    assert diagnosis.due(1.0)
    diagnosis.update(1.0)
    assert diagnosis.advice[0].rule == "rate-low"
    assert "5e-7" in diagnosis.advice[0].message


def test_event_files_of_another_trainer_are_judged_too(tmp_path):
    """A loss that is not a number."""
    folder = tmp_path / "out"
    folder.mkdir()
    losses = [0.69, 0.65, 0.6, math.nan, math.nan]
    data = b"".join(scalar_record(step + 1, "train/loss", loss) for step, loss in enumerate(losses))
    (folder / "events.out.tfevents.1.host").write_bytes(data)
    feed = open_feed(folder)
    feed.poll(time.time())
    diagnosis = ThrottledDiagnosis(feed)
    diagnosis.update(1.0)
    assert diagnosis.advice[0].rule == "nan"
    assert "since step 4" in diagnosis.advice[0].message


@pytest.mark.parametrize(("first", "reward", "own"), [(2.4, False, False), (0.7, True, True), (25.0, True, False)])
def test_numbers_around_ln_2_are_expected_of_dpo_with_its_own_loss_only(tmp_path, first, reward, own):
    """An SFT run, or IPO, has other losses and must not be told that they are worse than a coin's."""
    folder = tmp_path / "out"
    folder.mkdir()
    more = {"rewards/accuracies": 0.6} if reward else {}
    lines = [{"step": step, "loss": first - step / 100, **more} for step in range(1, 61)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": lines}))
    feed = open_feed(folder)
    feed.poll(time.time())
    assert (evidence_of(feed).loss_scale is not None) is own


def test_a_long_foreign_history_is_thinned_and_keeps_its_last_step(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    lines = [{"step": step, "loss": 0.6} for step in range(1, 5001)]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": lines}))
    feed = open_feed(folder)
    feed.poll(time.time())
    evidence = evidence_of(feed)
    assert len(evidence.metrics) <= 1000
    assert evidence.step == 5000


def test_a_remedy_changes_settings_as_the_persons_own_and_may_leave_one_out(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[model]\nmodel_name = "m"\n[data]\ndataset = "d"\n[eval]\neval_dataset = "e.jsonl"\n[dpo]\nbeta = 0.3\n'
    )
    plan = plans.with_remedy(plans.with_file(RunPlan(), path), {"beta": 0.6, "eval_dataset": None})
    assert (plan.config.beta, plan.config.eval_dataset, plan.origin("beta")) == (0.6, None, "you")
    again = plans.with_values(plan, {"lora_r": 32})
    assert again.config.eval_dataset is None, "another change keeps it out"
    assert plans.with_values(again, {"eval_dataset": None}).config.eval_dataset == "e.jsonl", "cleared: as it was"


async def test_one_key_opens_the_settings_with_the_remedy_made_and_marked(home):
    """A remedy one key away."""
    feed = RunFeed(stuck_run(home))
    async with DpoTui(feed, settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Stuck at 0.6931" in screen_text(pilot))
        text = screen_text(pilot)
        assert "a tries learning_rate 5e-6" in text
        await until(pilot, lambda: "a apply advice" in screen_text(pilot).splitlines()[-1])
        await pilot.press("a")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
        form = pilot.app.focused
        assert form.current.name == "learning_rate"
        assert form.current.value == "5e-6"
        assert [row.name for row in form.form_rows if row.changed] == ["learning_rate"]
        assert pilot.app.screen.plan.config.model_name == "meta-llama/Llama-3.1-8B-Instruct"


async def test_without_a_remedy_the_key_is_not_offered_and_e_opens_the_settings_as_they_were(home):
    folder = ended_run(home, "20261101-101010-aaaa", "fine")
    async with DpoTui(RunFeed(folder), settings=UserSettings(theme="dark")).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Done. Loss 0." in screen_text(pilot))
        assert "apply advice" not in screen_text(pilot)
        await pilot.press("a")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MonitorScreen)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen))
        await until(pilot, lambda: isinstance(pilot.app.focused, SchemaForm))
        assert not any(row.changed for row in pilot.app.focused.form_rows)
