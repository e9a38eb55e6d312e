"""New, step 5: what the doctor says about this machine, line by line, without holding anything up."""

import os
import signal
import time
from pathlib import Path

import pytest

from dpo_tui.advice.advice import Advice
from dpo_tui.app import DpoTui
from dpo_tui.config.files import from_values
from dpo_tui.hardware.doctor.doctor_child import DoctorProcess
from dpo_tui.hardware.doctor.registry import DoctorFinding, DoctorOptions
from dpo_tui.hardware.duration import Duration
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.steps.check_step import CheckStep, verdict
from dpo_tui.views import run_plan as plans
from dpo_tui.views.doctor_findings import findings_text, problems_text, relevant_checks
from dpo_tui.views.planned_run_forecast import Forecast
from dpo_tui.views.user_settings import UserSettings
from tests.support.app import screen_text, until


@pytest.fixture(autouse=True)
def _here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)


def asked(**values) -> frozenset[str]:
    return relevant_checks(from_values({"model_name": "org/name", "dataset": "x", **values}))[1]


def test_the_doctor_is_asked_what_matters_for_this_run_and_no_more(tmp_path, monkeypatch):
    """The relevant lines of the doctor."""
    model = tmp_path / "model"
    model.mkdir()
    assert {"gpu", "gpu_memory", "torch", "disk_for_runs", "user_processes", "hub_access"} <= asked()
    assert not {"hub_access", "disk_for_models"} & asked(model_name=str(model)), "a local model asks the hub nothing"
    assert "bitsandbytes" in asked(use_4bit=True)
    assert "bitsandbytes" not in asked(use_4bit=False)
    assert "unsloth" in asked(provider="unsloth")
    assert "terminal" not in asked(), "the app is being looked at"
    assert relevant_checks(from_values({"model_name": "org/name", "dataset": "x"}))[0].model == "org/name"

    snapshot = tmp_path / "hf" / "hub" / "models--org--name" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert "hub_access" in asked(), "its weights are not here yet"
    (snapshot / "model.safetensors").write_bytes(b"")
    assert "hub_access" not in asked()


def test_trouble_comes_first_the_worst_at_the_top_with_what_to_do():
    found = [
        DoctorFinding("gpu", "ok", "Card"),
        DoctorFinding("memory", "warn", "8 GB", "add swap"),
        DoctorFinding("torch", "fail", "CPU build", "pip install torch"),
    ]
    assert [text for text, _ in problems_text(found)] == [
        "✗ torch: CPU build", "  → pip install torch", "! memory: 8 GB", "  → add swap",
    ]  # fmt: skip
    page = [text for text, _ in findings_text(found, running=True)]
    assert [line.split()[1] for line in page[1:4]] == ["gpu", "memory", "torch"]
    assert page[-1] == "… looking further"
    assert len(findings_text(found, running=False)) == 4


def test_findings_come_from_a_child_which_can_be_ended_in_the_middle():
    """What is known at once comes before torch is imported; then nobody waits for it."""
    with DoctorProcess(DoctorOptions(), {"torch", "disk_for_runs", "memory"}) as doctor:
        found = doctor.findings()
        first = [next(found).check, next(found).check]
        pid = doctor._process.pid
    assert first == ["memory", "disk-runs"]
    assert doctor._process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 15
    while _group_lives(pid):
        assert time.monotonic() < deadline, "the child that imports torch goes on"
        time.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_breaks_is_a_finding_too(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    found = list(DoctorProcess(DoctorOptions(), {"memory"}).findings())
    assert [(one.check, one.status) for one in found] == [("doctor", "warn")]


async def test_the_check_shows_the_machine_line_by_line_and_does_not_keep_the_app_from_quitting(home):
    """Trouble stands at the top; quitting while torch is being imported ends the child at once."""
    app = DpoTui(settings=UserSettings(theme="dark"))
    async with app.run_test(size=(80, 60)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, NewScreen) and app.screen.plan.profile != "")
        screen = app.screen
        await pilot.press("ctrl+n", "ctrl+n", "ctrl+n", "ctrl+n")
        await until(pilot, lambda: "Choose a model" in screen_text(pilot))
        assert "This machine" not in screen_text(pilot), "there is nothing to look for yet"
        screen.set_plan(plans.with_demo(screen.plan))
        await pilot.press("ctrl+b", "ctrl+n")
        await until(pilot, lambda: "This machine" in screen_text(pilot) and "Ready: enter" in screen_text(pilot), 60)
        await until(pilot, lambda: "disk-runs" in screen_text(pilot), 30)
        lines = screen_text(pilot).splitlines()
        shown = [line.strip() for line in lines if line.strip()]
        ready = next(at for at, line in enumerate(shown) if line.startswith("Ready"))
        if any(finding.status != "ok" for finding in screen.query_one(CheckStep).findings):
            assert shown[ready + 1][0] in "✗!"
        pane = screen.query_one(CheckStep)
        doctor = pane._doctor
        pane._doctor_found(doctor, DoctorFinding("torch", "fail", "no kernels for this card", "pip install torch"))
        await until(pilot, lambda: "likely to fail" in screen_text(pilot))
        assert "Ready" not in screen_text(pilot), "that would be said against the doctor"
    if doctor is not None:
        assert doctor._process.returncode is not None, "it ended with the app"


def lasting(hours: float, *advice: Advice) -> Forecast:
    seconds = hours * 3600
    return Forecast(duration=Duration(seconds, seconds, seconds, "measured"), advice=advice)


def test_beside_ready_stand_the_time_and_the_worst_warning():
    mild, bad = Advice("epochs", "info", "Fine."), Advice("beta", "warning", "beta is high.")
    assert verdict(lasting(0.5, mild), on_cpu=True) == [
        ("Ready: enter starts the run, and it goes on without this window. It takes about 30 min.", "good")
    ]
    assert verdict(lasting(30, mild, bad), on_cpu=False)[1:] == [("! beta is high.", "warn")]


def test_days_on_a_processor_are_not_called_ready():
    (text, role), *rest = verdict(lasting(59), on_cpu=True)
    assert "without a GPU it takes about 2 d 11 h" in text and "Ready" not in text and "smaller model" in text
    assert (role, rest) == ("bad", [])
    assert verdict(lasting(59), on_cpu=False)[0][1] == "good"


async def test_on_a_processor_the_smallest_model_that_fits_comes_first(home):
    app = DpoTui(settings=UserSettings(theme="dark"))
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, NewScreen) and app.screen.plan.profile == "cpu")
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "fits here" in screen_text(pilot))
        lines = screen_text(pilot).splitlines()
        sizes = [float(line.split("✓ fits here")[0].split()[-1].rstrip("B")) for line in lines if "✓ fits here" in line]
        assert len(sizes) > 3 and sizes == sorted(sizes)
