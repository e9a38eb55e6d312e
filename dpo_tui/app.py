"""The Textual app: routes between screens, owns what they share, and ends when its terminal does."""

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.signal import Signal

from dpo_tui.errors import DpoTuiError
from dpo_tui.live.feed import Feed, RunFeed
from dpo_tui.live.gpus import GpuWatch
from dpo_tui.live.preferences import Preferences
from dpo_tui.live.preferences import load as load_preferences
from dpo_tui.live.run_list import RunList
from dpo_tui.runs.folder import RunFolder
from dpo_tui.screens.runs import RunsScreen
from dpo_tui.themes.themed_app import ThemedApp
from dpo_tui.widgets.area import Area
from dpo_tui.widgets.dialogs import PickDialog, TellDialog

if TYPE_CHECKING:
    from dpo_tui.screens.monitor import MonitorScreen
    from dpo_tui.screens.new import NewScreen

LOOK = 1.0
"""Seconds between two looks at the list of runs."""
AREAS = ("runs", "new", "data", "judge", "guide")


class DpoTui(ThemedApp):
    """The app.

    Args:
        feed: open at the monitor of this run or folder.
        preferences: the person's settings; read from settings.toml if not given.
    """

    CSS_PATH = "app.tcss"
    TITLE = "dpo-tui"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("q", "leave", "quit (runs go on)", id="app.quit"),
        Binding("1", "area('runs')", "Runs", id="app.runs", show=False),
        Binding("2", "area('new')", "New", id="app.new", show=False),
        Binding("3", "area('data')", "Data", id="app.data", show=False),
        Binding("4", "area('judge')", "Judge", id="app.judge", show=False),
        Binding("5", "area('guide')", "Guide", id="app.guide", show=False),
    ]

    def __init__(self, feed: Feed | None = None, *, preferences: Preferences | None = None) -> None:
        self.preferences = preferences or load_preferences()
        super().__init__(self.preferences.theme)
        if self.preferences.ascii is not None:
            self.ascii_only = self.preferences.ascii
        self.animation_level = "none"
        self.run_list = RunList()
        self.gpus = GpuWatch()
        self.runs_changed: Signal[None] = Signal(self, "runs")
        self._first_feed = feed
        self._looking = False
        self._monitor = ""
        self._numbers = count()
        self._areas: dict[str, Callable[[], Screen[None]]] = {
            "runs": lambda: RunsScreen(self.run_list, self.gpus, self.runs_changed),
            "new": self._make_new,
            "guide": self._make_guide,
        }

    def on_mount(self) -> None:
        """Open the first screen at once, then find runs and GPUs."""
        self.set_keymap(self.preferences.keys)
        for name, make in self._areas.items():
            self.add_mode(name, make)
        if self._first_feed is not None:
            self._watch(self._first_feed)
        else:
            self.switch_mode("runs")
        self._look()
        self.set_interval(LOOK, self._look_again)
        self._find_gpus()
        for problem in (*map(str, self.theme_problems), *self.preferences.problems):
            self.notify(problem, title="Settings", severity="warning", timeout=10, markup=False)

    def on_unmount(self) -> None:
        """End the sampling of GPUs."""
        self.gpus.stop()

    def _look_again(self) -> None:
        if isinstance(self.screen, RunsScreen) and not self._looking:
            self._look()

    @work(thread=True, exclusive=True, group="runs", exit_on_error=False)
    def _look(self) -> None:
        self._looking = True
        try:
            changed = self.run_list.poll(time.time())
        except DpoTuiError as error:
            self.call_from_thread(self._tell, error)
            return
        finally:
            self._looking = False
        if changed:
            self.call_from_thread(self.runs_changed.publish, None)

    def _handle_exception(self, error: Exception) -> None:
        """An error written for people is shown to them; anything else is a bug and ends the app with its traceback."""
        if isinstance(error, DpoTuiError):
            self._tell(error)
        else:
            super()._handle_exception(error)

    def _tell(self, error: DpoTuiError) -> None:
        if not isinstance(self.screen, TellDialog):
            self.push_screen(TellDialog("That did not work", error.message, error.hint or ""))

    @work(thread=True, exclusive=True, group="gpus", exit_on_error=False)
    def _find_gpus(self) -> None:
        self.gpus.start()
        self.call_from_thread(self.runs_changed.publish, None)

    def action_area(self, name: str) -> None:
        """Go to one of the five areas; each keeps its state."""
        if name in self._areas:
            self.switch_mode(name)
        else:
            self.notify(f"{name.capitalize()} is not part of this version yet.", markup=False)

    def action_leave(self) -> None:
        """Quit the app; runs go on."""
        self.exit()

    def action_help(self) -> None:
        """Explain the place, and the widget that has the focus."""
        screen = self.screen
        focused = getattr(self.focused, "HELP", "") if self.focused is not None else ""
        place = screen.HELP if isinstance(screen, Area) else ""
        keys = "1 Runs · 2 New · 3 Data · 4 Judge · 5 Guide · ctrl+p every command · q quit; runs go on"
        text = "\n\n".join(part for part in (place, focused, keys) if part)
        self.push_screen(TellDialog("Help", text))

    def _watch(self, feed: Feed) -> None:
        """Open the monitor as a mode of its own, so that no screen lies behind it (see `Area.is_front`)."""
        from dpo_tui.screens.monitor import MonitorScreen

        old = self._monitor
        self._monitor = f"monitor-{next(self._numbers)}"
        self.add_mode(self._monitor, lambda: MonitorScreen(feed, self.gpus))
        self.switch_mode(self._monitor)
        if old:
            self.remove_mode(old)

    def on_runs_screen_open_run(self, message: RunsScreen.OpenRun) -> None:
        """Watch a run."""
        self._watch(RunFeed(message.folder))

    # The screens other than the first are imported when they are opened: the first paint does not wait for them.

    @staticmethod
    def _make_guide() -> Screen[None]:
        from dpo_tui.screens.guide import GuideScreen

        return GuideScreen()

    @staticmethod
    def _make_new() -> Screen[None]:
        from dpo_tui.screens.new import NewScreen

        return NewScreen()

    def on_runs_screen_new_run(self, message: RunsScreen.NewRun) -> None:
        """Go to New, perhaps with the settings of an earlier run."""
        self._edit(message.config)

    def on_monitor_screen_edit_config(self, message: "MonitorScreen.EditConfig") -> None:
        """Go to New with the settings of the run shown."""
        self._edit(message.config)

    @work(exclusive=True, group="edit", exit_on_error=False)
    async def _edit(self, config: Path | None) -> None:
        await self.switch_mode("new")
        opened = getattr(self.screen, "open_file", None)
        if config is not None and opened is not None:
            opened(config)

    def on_new_screen_leave(self, message: Message) -> None:
        """Back to the runs; the plan is kept."""
        self.switch_mode("runs")

    def on_new_screen_started(self, message: "NewScreen.Started") -> None:
        """Show the monitor of a run that is being started."""
        self._watch(RunFeed(message.folder))

    def on_monitor_screen_leave(self, message: "MonitorScreen.Leave") -> None:
        """Back to the runs."""
        self.switch_mode("runs")
        self._look()

    def on_monitor_screen_run_ended(self, message: "MonitorScreen.RunEnded") -> None:
        """Say that a watched run ended, as the person wished."""
        if self.preferences.bell:
            self.bell()
        self.notify(f"{message.title}: {message.status}", markup=False)

    @work(exclusive=True, group="overlay", exit_on_error=False)
    async def on_monitor_screen_overlay_wanted(self, message: "MonitorScreen.OverlayWanted") -> None:
        """Ask which runs to draw over the one shown."""
        from dpo_tui.screens.monitor import MonitorScreen

        monitor = self.screen
        if not isinstance(monitor, MonitorScreen):
            return
        hand = monitor.run_in_hand()
        others = [glance for glance in self.run_list.glances if hand is None or glance.id != hand[0].id]
        choices = [(glance.id, f"{glance.name}  {glance.status}  {glance.id}") for glance in others]
        picked = await self.push_screen_wait(PickDialog("Draw these runs over this one", choices, message.chosen))
        if picked is not None:
            monitor.overlay([glance.folder for glance in others if glance.id in picked])


def open_feed(path: Path) -> Feed:
    """The feed of a run folder."""
    return RunFeed(RunFolder(path))


def run_app(feed: Feed | None = None) -> None:
    """Run the app until the person quits or the terminal goes away."""
    # Under nohup SIGHUP is ignored, and an app whose terminal has gone would spin on a dead descriptor.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    DpoTui(feed).run()
