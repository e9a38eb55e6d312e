"""The GPU panel of the real app, through the true NVML binding on the C library that stands in for the driver's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui.hardware.nvml import NO_ANSWER, Inventory, NvmlFault
from dpo_tui.views.gpu_text import LONGEST, SPAN, GpuHistory, brief, compact, gpu_row, tall
from dpo_tui.views.gpu_watch import HISTORY, GpuWatch
from dpo_tui.views.styled_text import row_width
from dpo_tui.widgets.gpu_panel import GpuPanel, arrange
from tests.support.app import ended_run
from tests.support.nvml_standin import compiler, machine
from tests.support.widget_stage import Stage, sample, shown

needs_compiler = pytest.mark.skipif(
    compiler() is None, reason="no C compiler here to build the stand-in driver library"
)

PROGRAM = """
import asyncio, json, sys, time
from dpo_tui.app import DpoTui
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.runs.folder import RunFolder
from pathlib import Path

async def main(folder, sizes, wanted):
    app = DpoTui(RunFeed(RunFolder(Path(folder))), settings=UserSettings(theme="dark"))
    app.gpus = GpuWatch(interval=0.1)
    def text():
        strips = app.screen._compositor.render_strips()
        return ["".join(s.text for s in strip).rstrip() for strip in strips]
    pictures = []
    async with app.run_test(size=sizes[0]) as pilot:
        for size in sizes:
            await pilot.resize_terminal(*size)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                await pilot.pause(0.1)
                app.screen._show_gpus()
                await pilot.pause()
                if any(wanted in row for row in text()):
                    break
            pictures.append(text())
    print(json.dumps(pictures))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
"""


def pictures(scenario: str, folder: Path, wanted: str, *sizes: tuple[int, int]) -> list[list[str]]:
    """The rows of the monitor at some sizes, on a machine with a scenario's GPUs, once they show some words."""
    run = ended_run(folder / "home", "20261101-101010-aaaa", "demo", steps=20)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run.path), json.dumps(sizes), wanted],
        env=machine(scenario, folder, TERM="xterm-256color", LANG="C.UTF-8"),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@needs_compiler
def test_one_gpu_is_one_row_at_80_by_24_and_four_histories_at_200_by_50(tmp_path):
    """Utilisation, memory, power, temperature, with history."""
    small, large = pictures("training", tmp_path, "71 °C", (80, 24), (200, 50))
    row = next(row for row in small if "GPU 0" in row)
    for words in ("RTX 4070", "util", " %", "9.1/12.9 GB", "/200 W", "71 °C"):
        assert words in row
    at = next(index for index, row in enumerate(large) if "GPU 0" in row)
    quantities = [row[22:34].strip() for row in large[at : at + 4]]
    assert quantities == ["util", "VRAM", "power", "temperature"]
    assert all(set(row[52:]) & set("▁▂▃▄▅▆▇█") for row in large[at : at + 4]), large[at : at + 4]


@needs_compiler
def test_two_and_eight_gpus_all_find_a_place(tmp_path):
    two = pictures("a100x2", tmp_path, "GPU 1", (80, 24), (200, 50))
    assert [sum(f"GPU {index}" in row for row in two[0]) for index in (0, 1)] == [1, 1]
    assert any("GPU 0" in row and "GPU 1" in row for row in two[1]), "side by side where there is room"
    eight = pictures("h100x8", tmp_path, "40°C", (80, 24))[0]
    numbers = [row for row in eight if "GB" in row and "°C" in row]
    assert len(numbers) == 3
    assert sum(row.count("°C") for row in numbers) == 8


@needs_compiler
def test_a_gpu_that_falls_off_the_bus_says_so_while_the_app_goes_on(tmp_path):
    picture = pictures("lost-later", tmp_path, "the GPU is lost", (80, 24))[0]
    assert any(row.strip().startswith("GPU 0 RTX 3090") and "stopped answering" in row for row in picture)
    assert any("reward margin" in row for row in picture)


@pytest.mark.parametrize("scenario", ["driver-missing", "no-gpu"])
@needs_compiler
def test_without_nvml_there_is_one_plain_line(tmp_path, scenario):
    picture = pictures(scenario, tmp_path, "no GPU", (80, 24))[0]
    assert sum("no GPU" in row for row in picture) == 1
    assert any("training runs on the CPU" in row for row in picture)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 16])
@pytest.mark.parametrize(("width", "room"), [(78, 3), (198, 12), (118, 10), (38, 3), (18, 1)])
def test_the_panel_never_takes_more_rows_than_it_may(count, width, room):
    plan = arrange(count, width, room)
    assert 1 <= plan.rows <= room
    assert plan.columns >= 1
    assert plan.places >= min(count, 1)


async def test_gpus_without_a_place_are_counted():
    panel = GpuPanel()
    panel.room = 2
    async with Stage(panel).run_test(size=(80, 10)) as pilot:
        panel.show([GpuHistory(index, "H100", [sample()]) for index in range(16)])
        await pilot.pause()
        assert panel.size.height == 2
        assert "+11 more" in "".join(shown(panel))


def test_a_history_moves_on_by_time_and_not_with_each_reading():
    """Over SSH a history that shifts is what the panel costs: readings of one span share a column."""
    readings = [sample(t=1000.0 + second, utilisation=50) for second in range(0, 40, 2)]
    first = tall(GpuHistory(0, "X", readings[:-1]), 100)[0][-1][0]
    second = tall(GpuHistory(0, "X", readings), 100)[0][-1][0]
    assert len(first) == len(second) == 40 / SPAN
    assert first == second


def test_a_long_history_is_cut_to_the_newest():
    readings = [sample(t=SPAN * place, utilisation=100 if place > 500 else 0) for place in range(1000)]
    history = tall(GpuHistory(0, "X", readings), 300)[0][-1][0]
    assert history == "█" * LONGEST


def test_what_the_driver_keeps_to_itself_is_named():
    denied = sample(memory_used=None, faults={"memory": NvmlFault("no-permission", "no permission")})
    rows = ["".join(text for text, _ in row) for row in tall(GpuHistory(0, "H100", [denied]), 100)]
    assert "no permission" in rows[1]


LOST = NvmlFault("lost", "the GPU is lost")
HIDDEN = NvmlFault("not-supported", "not supported by this GPU")


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({"utilisation": 0}, "GPU 0 H100  idle   9.1/12.9 GB"),
        ({}, "GPU 0 H100  97 %   9.1/12.9 GB"),
        ({"utilisation": None, "faults": {"utilisation": HIDDEN}}, "GPU 0 H100   9.1/12.9 GB"),
        ({"faults": {"handle": LOST}}, "GPU 0 H100  lost"),
        ({"faults": {"driver": NO_ANSWER}}, "GPU 0 H100  no answer"),
    ],
)
def test_a_gpu_that_tells_no_load_is_not_called_idle(changed, title):
    values = dict.fromkeys(("utilisation", "memory_used", "memory_total", "power", "temperature"))
    silent = changed.get("faults", {}).keys() & {"handle", "driver"}
    gpu = GpuHistory(0, "H100", [sample(**(values if silent else {}), **changed)])
    assert "".join(text for text, _ in gpu_row([gpu], "")) == title
    assert ("no answer" in brief(gpu)[-1][0]) == ("no answer" in title)


def test_a_long_name_gives_way_to_numbers():
    gpu = GpuHistory(0, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", [sample(temperature=88)])
    row = compact(gpu, 78)
    assert row_width(row) <= 78
    assert "".join(text for text, _ in row).endswith("88 °C")


def test_samples_are_kept_for_as_long_as_a_history_is_wide():
    assert HISTORY * GpuWatch()._interval >= SPAN * LONGEST


def test_a_gpu_in_one_row_says_it_all():
    """SCREENS, Monitor."""
    row = compact(GpuHistory(0, "NVIDIA GeForce RTX 4070", [sample(utilisation=u) for u in (10, 50, 97)]), 80)
    text = "".join(part for part, _ in row)
    assert text.startswith("GPU 0 RTX 4070")
    assert "97 %" in text
    assert " 9.1/12.9 GB" in text
    assert "188/200 W" in text
    assert text.endswith("71 °C")
    assert len(text) <= 80


def test_a_gpu_that_tells_little_shows_what_it_tells():
    silent = sample(utilisation=None, memory_used=None, power=None, temperature=88)
    row = compact(GpuHistory(0, "GB10", [silent]), 80)
    assert "".join(part for part, _ in row).endswith("88 °C")
    assert row[-1][1] == "hot"


async def test_without_a_gpu_the_panel_says_so():
    panel = GpuPanel()
    async with Stage(panel).run_test(size=(60, 4)):
        assert shown(panel)[0].startswith("no GPU here")


def test_a_driver_that_does_not_answer_is_not_called_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_tui.hardware.nvml.read", lambda: Inventory(fault=NO_ANSWER))
    watch = GpuWatch()
    watch.start()
    assert "".join(text for text, _ in gpu_row(watch.now(), watch.absence)) == "no answer from the GPU driver"
    assert "see whether nvidia-smi does" in watch.absence
    assert "CPU" not in watch.absence
