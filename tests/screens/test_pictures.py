"""Pictures of the screens (SVG snapshots) at several sizes and themes. New ones: pytest --snapshot-update."""

import ctypes
import json
import random
from collections import namedtuple
from pathlib import Path

import pynvml
import pytest

from dpo_tui.app import DpoTui
from dpo_tui.demo import assets
from dpo_tui.groups.group_plan import GroupMember, GroupPlan
from dpo_tui.groups.group_state import GroupState
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.groups.group_store import create_group
from dpo_tui.hardware.doctor.registry import DoctorOptions
from dpo_tui.hardware.profiles import Ram
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import State, write_state
from dpo_tui.screens.guide_screen import GuideScreen
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.steps.check_step import CheckStep
from dpo_tui.views import run_plan as plans
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.text_pane import TextPane
from tests.support.app import SIZES, SIZES_AND_THEMES, screen_text, until
from tests.support.fake_run import begin, progress, write_history
from tests.support.nvml_standin import compiler, library, machine
from tests.support.repository import ROOT


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Two ended runs whose numbers are always the same, and no GPU whatever the machine has."""
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dpo_tui.views.gpu_watch.GpuWatch.start", lambda self: setattr(self, "absence", "no GPU here"))
    random.seed(7)
    for run_id, name, status, reason in (
        ("20261101-101010-aaaa", "helpful-8b", "done", ""),
        ("20261030-090000-bbbb", "tone-test [b]", "failed", "out of memory at step 41"),
    ):
        folder = RunFolder(tmp_path / "runs" / run_id)
        state = begin(folder, name)
        write_history(folder, 1, 400, 400)
        progress(folder, 400 if status == "done" else 41, 400)
        write_state(folder, State(**{**state.to_dict(), "status": status, "reason": reason}))
    return tmp_path


def app(theme: str, feed=None) -> DpoTui:
    return DpoTui(feed, settings=UserSettings(theme=theme))


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_runs(snap_compare, size, theme):
    async def settled(pilot):
        await until(pilot, lambda: "tone-test" in screen_text(pilot) and "Done. Loss" in screen_text(pilot))
        await until(pilot, lambda: "no GPU here" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.fixture
def sweep(home) -> None:
    """The two runs as those of a sweep of three, of which the last has not started."""
    members = [GroupMember(number, f"tone-{number}", {"beta": number / 20}) for number in (1, 2, 3)]
    group = create_group(GroupPlan("", "tone", settings=["beta"], members=tuple(members)), ["", "", ""])
    runs = {}
    for member, path in zip(members, sorted((home / "runs").glob("2*"), reverse=True), strict=False):
        state = json.loads((path / "state.json").read_text())
        state["group"] = {"id": group.id, "kind": "sweep", "member": member.number, "values": member.values}
        (path / "state.json").write_text(json.dumps(state))
        runs[str(member.number)] = path.name
    write_json_atomic(group.state, GroupState("stopped", "stopped as asked", driver_pid=1, runs=runs).to_dict())


@pytest.mark.parametrize("size", SIZES)
def test_runs_of_a_sweep(snap_compare, sweep, size):
    async def settled(pilot):
        await until(pilot, lambda: "▸ tone" in screen_text(pilot) and "no GPU here" in screen_text(pilot))
        await pilot.press("f", "down")
        await until(pilot, lambda: "beta=0.1" in screen_text(pilot) and "Done. Loss" in screen_text(pilot))

    assert snap_compare(app("dark"), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_monitor(snap_compare, home, size, theme):
    feed = RunFeed(RunFolder(home / "runs" / "20261101-101010-aaaa"))

    async def settled(pilot):
        await until(pilot, lambda: "Done. Loss" in screen_text(pilot) and "400/400" in screen_text(pilot))
        await until(pilot, lambda: "no GPU here" in screen_text(pilot))
        await until(pilot, lambda: pilot.app.focused is not None)

    assert snap_compare(app(theme, feed), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_guide(snap_compare, size, theme):
    async def settled(pilot):
        await pilot.press("5")
        await until(pilot, lambda: isinstance(pilot.app.screen, GuideScreen) and "When DPO" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_compare(snap_compare, size, theme):
    async def settled(pilot):
        await until(pilot, lambda: "tone-test" in screen_text(pilot))
        await pilot.press("space", "down", "space", "v")
        await until(pilot, lambda: "helpful-8b   " in screen_text(pilot) and "reward margin" in screen_text(pilot))
        await until(pilot, lambda: pilot.app.focused is not None)

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize(("size", "theme"), SIZES_AND_THEMES)
def test_pairs(snap_compare, home, size, theme):
    rows = [{"prompt": "What is 2+2?", "chosen": "The answer is 4.", "rejected": "2+2 equals 4."}] * 3
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    async def settled(pilot):
        await pilot.press("3")
        await until(pilot, lambda: "pairs.jsonl" in screen_text(pilot))
        pilot.app.screen.open_data("pairs.jsonl")
        await until(pilot, lambda: pilot.app.screen.dataset is not None, 60)
        await pilot.press("t")
        await until(pilot, lambda: "What is 2+2?" in screen_text(pilot) and "too-similar" in screen_text(pilot))

    assert snap_compare(app(theme), terminal_size=SIZES[size], run_before=settled)


STEPS = ("hardware", "model", "data", "settings", "check")
Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def workstation(home, monkeypatch) -> Path:
    """An RTX 4070 through the true NVML binding on the stand-in library, 64 GB of memory, an empty cache, 40 pairs."""
    there = machine("rtx4070", home)
    monkeypatch.setenv("NVML_STANDIN", there["NVML_STANDIN"])
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library() / "libnvidia-ml.so.1")))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr("dpo_tui.screens.new_screen.main_memory", lambda: Ram(64 * 10**9, 60 * 10**9))
    monkeypatch.setattr("shutil.disk_usage", lambda place: Disk(10**12, 4 * 10**11, 6 * 10**11))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    # What the doctor finds depends on the machine: it is asked nothing.
    monkeypatch.setattr(
        "dpo_tui.screens.steps.check_step.relevant_checks", lambda config: (DoctorOptions(), frozenset())
    )
    work = home / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    rows = [
        {
            "prompt": f"Write a polite decline, number {n}",
            "chosen": "Thank you, sadly I cannot come.",
            "rejected": "No.",
        }
        for n in range(40)
    ]
    (work / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


async def open_step(pilot, home: Path, step: str) -> None:
    """Go to a step of New, with what the steps before it ask for chosen."""
    await pilot.press("2")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and pilot.app.screen.plan.profile != "")
    screen = pilot.app.screen
    if step == "check":
        screen.set_plan(plans.with_demo(screen.plan))
    elif step in ("data", "settings"):
        chosen = {"model_name": "Qwen/Qwen3-0.6B"} | ({"dataset": "pairs.jsonl"} if step == "settings" else {})
        screen.set_plan(plans.with_values(screen.plan, chosen))
    screen.go(STEPS.index(step))
    words = {
        "hardware": "suits this machine", "model": "toy model", "data": "number 0", "settings": "steps \u00b7 ",
        "check": "Memory by part",
    }  # fmt: skip
    if step == "data":
        # A key that comes before the list has the focus is lost, and the picture is of another row.
        await until(pilot, lambda: pilot.app.focused is not None and pilot.app.focused.id == "files")
        await pilot.press("down", "down")
    pane = screen.query_one(CheckStep).query_one(TextPane)
    await until(pilot, lambda: any(words[step] in text for text, _ in pane._paragraphs) or step != "check", 60)
    await until(pilot, lambda: not screen.query_one(CheckStep).is_examining)
    # Where this machine keeps things is no part of the picture.
    folders = {str(assets.model_dir().parent): "/demo", str(home): "/home/you"}
    for folder, name in folders.items():
        pane.show([(text.replace(folder, name), role) for text, role in pane._paragraphs])
    await until(pilot, lambda: words[step] in screen_text(pilot) or step == "check")
    await until(pilot, lambda: pilot.app.focused is not None)


@pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library")
@pytest.mark.parametrize(("size", "step"), [*(("80x24", step) for step in STEPS), ("200x50", "settings")])
def test_new(snap_compare, workstation, size, step):
    """New in five steps, as a first-timer with an RTX 4070 sees it."""

    async def settled(pilot):
        await open_step(pilot, workstation, step)

    assert snap_compare(app("dark"), terminal_size=SIZES[size], run_before=settled)
