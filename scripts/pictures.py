"""Take the README's pictures from the real app: python scripts/pictures.py [FOLDER], docs/pictures by default."""

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dpo_tui.app import DpoTui  # noqa: E402
from dpo_tui.live.preferences import Preferences  # noqa: E402
from dpo_tui.runs.folder import RunFolder  # noqa: E402
from dpo_tui.runs.state import write_state  # noqa: E402
from tests.fake_run import begin, progress, write_history  # noqa: E402

SIZE = (100, 30)


def make_runs(home: Path) -> None:
    """Three ended runs with made-up curves; the pictures show the app, not results."""
    random.seed(7)
    for run_id, name, status, reason, last in (
        ("20261101-101010-aaaa", "helpful-8b", "done", "", 1125),
        ("20261030-090000-bbbb", "tone-test", "failed", "out of memory at step 41", 41),
        ("20261029-090000-cccc", "helpful-8b-beta-0.3", "stopped", "", 620),
    ):
        folder = RunFolder(home / "runs" / run_id)
        state = begin(folder, name)
        write_history(folder, 1, last, 1125)
        progress(folder, last, 1125)
        write_state(folder, replace(state, status=status, reason=reason))


async def picture(out: Path, act: Callable[[object], Awaitable[None]]) -> None:
    """Open the app, do something, and keep what is seen."""
    app = DpoTui(preferences=Preferences(theme="dark"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        await act(pilot)
        await pilot.pause(2)
        out.write_text(app.export_screenshot(title="dpo-tui"), encoding="utf-8")
    print(out)


async def main(folder: Path) -> None:
    """Runs, one run, and the settings of a new one."""
    folder.mkdir(parents=True, exist_ok=True)

    async def nothing(pilot: object) -> None:
        pass

    async def monitor(pilot: object) -> None:
        await pilot.press("enter")  # type: ignore[attr-defined]

    async def new(pilot: object) -> None:
        await pilot.press("u")  # type: ignore[attr-defined]

    await picture(folder / "runs.svg", nothing)
    await picture(folder / "monitor.svg", monitor)
    await picture(folder / "settings.svg", new)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"DPO_TUI_HOME": name, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        make_runs(Path(name))
        asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"))
