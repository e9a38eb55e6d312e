"""Screenshots for the README, taken from the app with the runs of $DPO_TUI_HOME: python scripts/pictures.py [FOLDER].

Run `dpo-tui demo` first; the newest run is shown. FOLDER is docs/pictures by default.
"""

import asyncio
import os
import sys
from pathlib import Path

from dpo_tui.app import DpoTui
from dpo_tui.views.user_settings import UserSettings

SIZE = (100, 30)
# picture -> the keys that lead to it.
PICTURES = {"runs": (), "monitor": ("enter",), "samples": ("enter", "t")}


async def take(out: Path, keys: tuple[str, ...]) -> None:
    """Open the app, press the keys, and keep what is seen."""
    app = DpoTui(settings=UserSettings(theme="dark"))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(2)
        out.write_text(app.export_screenshot(title="dpo-tui"), encoding="utf-8")
    print(out)


async def main(folder: Path) -> None:
    """Take every picture of `PICTURES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, keys in PICTURES.items():
        await take(folder / f"{name}.svg", keys)


if __name__ == "__main__":
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "pictures"))
