"""Pictures of the app, for README.md and docs/tour.md, taken with the runs of the home folder.

    dpo-tui demo && python scripts/pictures.py          the README's three, into docs/pictures
    python scripts/pictures.py --tour                   docs/tour.md and its pictures, into docs/pictures/tour

The newest run is shown. The tour shows the one before it, the demo, and compares it with a newer one. What is shown has
paths in it: take the pictures with a home folder and an installation whose paths may be seen.
"""

import argparse
import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.app import DpoTui
from dpo_tui.runs.store import all_runs
from dpo_tui.views.user_settings import UserSettings

DOCS = Path(__file__).resolve().parent.parent / "docs"
SMALL, LARGE = (80, 24), (200, 50)
# picture -> the keys that lead to it.
README_PICTURES = {"runs": (), "monitor": ("enter",), "samples": ("enter", "t")}
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Rich names fonts on a server, which no page that shows a picture loads."""


@dataclass(frozen=True)
class Stop:
    """A stop of the tour: a picture, the keys that lead to it, and what it shows."""

    name: str
    keys: tuple[str, ...]
    heading: str
    text: str
    sizes: tuple[tuple[int, int], ...] = (SMALL,)


TOUR = (
    Stop(
        "runs",
        ("down",),
        "Runs",
        "`dpo-tui` opens here: every run with its state in a word, its accuracy and when it ended; below it the one "
        "under the cursor. `enter` opens it, `n` starts a new one.",
        (SMALL, LARGE),
    ),
    Stop(
        "monitor",
        ("down", "enter"),
        "A run",
        "What the numbers mean stands above them, in a sentence, with what to do. The charts are loss, preference "
        "accuracy, reward margin and KL to the reference; on a large terminal there are more of them.",
        (SMALL, LARGE),
    ),
    Stop(
        "samples",
        ("down", "enter", "t"),
        "Its answers",
        "`t` goes through the views of a run. Samples are answers to the same questions, before training and now.",
    ),
    Stop(
        "compare",
        ("space", "down", "space", "v"),
        "Two runs compared",
        "`space` selects runs, `v` compares them: results with the better one marked, the settings that differ, and "
        "whether the difference is more than noise.",
        (SMALL, LARGE),
    ),
    Stop(
        "new",
        ("n",),
        "A new run",
        "Five steps: hardware, model, data, settings, check. `enter` takes what is offered, and four times starts the "
        "demo.",
    ),
    Stop(
        "check",
        ("n", "enter", "enter"),
        "Before it starts",
        "The last step says whether the run can start, what it will write and take, and what is unwise about it.",
    ),
    Stop(
        "guide",
        ("5",),
        "The guide",
        "When DPO is the right tool and when it is not, what the curves mean, and what to do when it goes wrong.",
    ),
)


async def take(out: Path, keys: tuple[str, ...], size: tuple[int, int], theme: str) -> None:
    """Open the app, press the keys, and keep what is seen. Ends the script if they made a run."""
    before = all_runs()
    app = DpoTui(settings=UserSettings(theme=theme))
    async with app.run_test(size=size) as pilot:
        await pilot.pause(2)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(2)
        picture = _FONTS.sub("", app.export_screenshot(title="dpo-tui"))
    if all_runs() != before:
        sys.exit(f"{out.name}: the keys {' '.join(keys)} started a run, which no picture may")
    # Without the spaces at the ends of lines, which version control would complain of.
    out.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n", encoding="utf-8")
    print(out)


def tour_page(folder: str = "pictures/tour") -> str:
    """docs/tour.md: each stop dark or light, as the reader's page is, then the same on a large terminal."""
    parts = [
        "# A tour in pictures\n",
        "The app at 80×24 and at 200×50 (columns × rows), dark or light as your page is. "
        "`python scripts/pictures.py --tour` took the pictures\nfrom the app with two real runs: `dpo-tui demo`, a toy "
        "of 2.5 million parameters on a CPU, and the same with 12 steps in place of 50.\n"
        "[The app](app.md) has every key.\n",
    ]
    for stop in TOUR:
        parts.append(f"## {stop.heading}\n\n{stop.text}\n")
        for columns, rows in stop.sizes:
            file = f"{folder}/{stop.name}-{columns}x{rows}"
            parts.append(
                f'<picture><source media="(prefers-color-scheme: dark)" srcset="{file}-dark.svg">'
                f'<img alt="{stop.heading}, {columns}×{rows}" src="{file}-light.svg"></picture>\n'
            )
    return "\n".join(parts)


async def take_tour(folder: Path) -> None:
    """Take every picture of the tour, and write its page."""
    folder.mkdir(parents=True, exist_ok=True)
    for stop in TOUR:
        for columns, rows in stop.sizes:
            for theme in ("dark", "light"):
                file = folder / f"{stop.name}-{columns}x{rows}-{theme}.svg"
                await take(file, stop.keys, (columns, rows), theme)
    (DOCS / "tour.md").write_text(tour_page(), encoding="utf-8")


async def take_readme(folder: Path) -> None:
    """Take the pictures of README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, keys in README_PICTURES.items():
        await take(folder / f"{name}.svg", keys, (100, 30), "dark")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tour", action="store_true", help="the pictures and the page of the tour")
    arguments = parser.parse_args()
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    asyncio.run(take_tour(DOCS / "pictures" / "tour") if arguments.tour else take_readme(DOCS / "pictures"))
