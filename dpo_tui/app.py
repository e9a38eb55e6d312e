"""The Textual app: routes between screens, owns what they share, and ends when its terminal does."""

import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.signal import Signal

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.statuses import LIVE
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.text.printable import printable
from dpo_tui.themes.pick import ascii_only, theme_for
from dpo_tui.themes.themed_app import ThemedApp
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.views.notifications import Notification, StatusChangeDetector, desktop_sequence, post
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.views.run_list import RunList
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.views.user_settings import load as load_preferences
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.full_screen import FullScreen
from dpo_tui.widgets.key_hints import key_sign
from dpo_tui.widgets.run_actions import RunActionsScreen

if TYPE_CHECKING:
    from dpo_tui.screens.monitor_screen import MonitorScreen
    from dpo_tui.screens.new_screen import NewScreen
    from dpo_tui.screens.settings_screen import SettingsScreen

LOOK = 1.0
"""Seconds between two looks at the list of runs while it is seen."""
UNSEEN = 5
"""So many times longer while another screen is seen: notices are still due."""
FIRST = "first"
"""The mode of the screen that the app opens with."""


class DpoTui(ThemedApp):
    """The app.

    Args:
        feed: open at the monitor of this run or folder.
        until_end: quit by itself when the watched run has ended.
        preferences: the person's settings; read from settings.toml if not given.
    """

    CSS_PATH = "app.tcss"
    TITLE = "dpo-tui"
    # Textual opens with an empty screen of its own otherwise, and styling that costs a tenth of the start.
    DEFAULT_MODE = FIRST
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("q", "leave", "quit (runs go on)", id="app.quit"),
        Binding("1", "area('runs')", "Runs", id="app.runs", show=False),
        Binding("2", "area('new')", "New", id="app.new", show=False),
        Binding("3", "area('data')", "Data", id="app.data", show=False),
        Binding("4", "area('judge')", "Judge", id="app.judge", show=False),
        Binding("5", "area('guide')", "Guide", id="app.guide", show=False),
        Binding("comma", "preferences", "settings", id="app.preferences", show=False),
    ]

    def __init__(
        self, feed: Feed | None = None, *, preferences: UserSettings | None = None, until_end: bool = False
    ) -> None:
        self.preferences = preferences or load_preferences()
        super().__init__(self.preferences.theme)
        if self.preferences.ascii is not None:
            self.ascii_only = self.preferences.ascii
        self.animation_level = "none"
        self.run_list = RunList()
        self._watchman = StatusChangeDetector()
        self.gpus = GpuWatch()
        self.runs_changed: Signal[None] = Signal(self, "runs")
        self._until_end = until_end
        self._looking = False
        self._ticks = 0
        self._passing = FIRST if feed is not None else ""
        self._settings = ""
        self._home = "runs" if feed is not None else FIRST
        self._new: NewScreen | None = None
        self._before = self._home
        self._numbers = count()
        areas: dict[str, Callable[[], Screen[None]]] = {
            self._home: lambda: RunsScreen(self.run_list, self.gpus, self.runs_changed),
            "new": self._make_new,
            "data": self._make_data,
            "judge": self._make_judge,
            "guide": self._make_guide,
        }
        if feed is not None:
            areas[FIRST] = lambda: self._make_monitor(feed)
        for name, make in areas.items():
            self.add_mode(name, make)

    def on_mount(self) -> None:
        """Find runs and GPUs; the first screen is there already."""
        self.set_keymap(self.preferences.keys)
        self.call_after_refresh(_collect_garbage)
        self._look()
        self.set_interval(LOOK, self._look_again)
        self._find_gpus()
        for problem in (*map(str, self.theme_problems), *self.preferences.problems):
            self.notify(problem, title="Settings", severity="warning", timeout=10, markup=False)

    def on_unmount(self) -> None:
        """End the sampling of GPUs."""
        self.gpus.stop()

    def _look_again(self) -> None:
        self._ticks += 1
        # The clock may tick once more while the app closes, when no screen is left.
        seen = bool(self.screen_stack) and isinstance(self.screen, RunsScreen)
        if not self._looking and (seen or self._ticks % UNSEEN == 0):
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
            self.call_from_thread(self._list_changed)

    def _list_changed(self) -> None:
        self.runs_changed.publish(None)
        for notice in self._watchman.changes(self.run_list.summaries):
            self.notify(notice.text, title="dpo-tui", markup=False)
            if self.preferences.bell:
                self.bell()
            if self.preferences.desktop and self._driver is not None:
                self._driver.write(desktop_sequence(notice))
            if self.preferences.webhook:
                self._post(self.preferences.webhook, notice)

    @work(thread=True, group="webhook", exit_on_error=False)
    def _post(self, url: str, notice: Notification) -> None:
        try:
            post(url, notice)
        except (OSError, ValueError) as error:
            self.call_from_thread(self.notify, f"The webhook did not take the notice: {error}", markup=False)

    def _handle_exception(self, error: Exception) -> None:
        """An error written for people is shown to them; anything else is a bug and ends the app with its traceback."""
        if isinstance(error, DpoTuiError):
            self._tell(error)
        else:
            super()._handle_exception(error)

    def _tell(self, error: DpoTuiError) -> None:
        if not isinstance(self.screen, MessageDialog):
            self.push_screen(MessageDialog("That did not work", error.message, error.hint or ""))

    @work(thread=True, exclusive=True, group="gpus", exit_on_error=False)
    def _find_gpus(self) -> None:
        self.gpus.start()
        self.call_from_thread(self.runs_changed.publish, None)

    def action_area(self, name: str) -> None:
        """Go to one of the five areas; each keeps its state."""
        if name == "judge":
            self._judge(self.screen.current_run() if isinstance(self.screen, RunActionsScreen) else None)
            return
        page = self.screen.GUIDE_PAGE if isinstance(self.screen, FullScreen) else "start"
        self.switch_mode(self._home if name == "runs" else name)
        if name == "guide":
            self.call_later(self._turn_to, page)

    @work(exclusive=True, group="judge", exit_on_error=False)
    async def _judge(self, hand: tuple[RunFolder, str, str] | None) -> None:
        """Go to Judge, with the run that the person was looking at if it has a result."""
        await self.switch_mode("judge")
        opened = getattr(self.screen, "open_run", None)
        if opened is not None and hand is not None and hand[0].has_result:
            opened(hand[0], hand[1])

    def _turn_to(self, page: str) -> None:
        """Open the guide at the page that fits where the person came from."""
        turn = getattr(self.screen, "open_page", None)
        if turn is not None:
            turn(page)

    def action_leave(self) -> None:
        """Quit the app, and say which runs go on."""
        live = [glance.name for glance in self.run_list.summaries if glance.status in LIVE]
        words = printable(", ".join(live[:3]), single_line=True) + (" …" if len(live) > 3 else "")  # noqa: PLR2004
        going = f"{words} {'goes' if len(live) == 1 else 'go'} on without this window. " if live else ""
        self.exit(message=f"{going}`dpo-tui` comes back." if live else None)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything that a key does here, by name, for the command palette; then Textual's own."""
        told = set()
        for active in screen.active_bindings.values():
            words, action = active.binding.description, active.binding.action
            if words and active.enabled and (words, action) not in told:
                told.add((words, action))
                run = partial(self.run_action, action, active.node)
                yield SystemCommand(words[:1].upper() + words[1:], f"key {key_sign(active.binding)}", run)
        yield from super().get_system_commands(screen)

    def action_help(self) -> None:
        """Explain the place, and the widget that has the focus."""
        screen = self.screen
        focused = getattr(self.focused, "HELP", "") if self.focused is not None else ""
        place = screen.HELP if isinstance(screen, FullScreen) else ""
        keys = "1 Runs · 2 New · 3 Data · 4 Judge · 5 Guide · , settings · ctrl+p every command · q quit; runs go on"
        text = "\n\n".join(part for part in (place, focused, keys) if part)
        self.push_screen(MessageDialog("Help", text))

    def _watch(self, feed: Feed) -> None:
        self._over(lambda: self._make_monitor(feed))

    def _over(self, make: Callable[[], Screen[None]]) -> None:
        """Open a monitor or a comparison in place of the last, as a mode: no screen may lie behind it, see `FullScreen`."""
        old, self._passing = self._passing, self._open_mode(make)
        if old:
            self.remove_mode(old)
            self._before = self._home if self._before == old else self._before

    def _open_mode(self, make: Callable[[], Screen[None]]) -> str:
        name = f"passing-{next(self._numbers)}"
        self.add_mode(name, make)
        self.switch_mode(name)
        return name

    def on_full_screen_leave(self, message: FullScreen.Leave) -> None:
        """Back to the runs, or to where the person came from."""
        self.switch_mode(self._before if isinstance(self.screen, FullScreen) and self.screen.GOES_BACK else self._home)
        self._look()

    def on_runs_screen_open_run(self, message: RunsScreen.OpenRun) -> None:
        """Watch a run."""
        self._watch(RunFeed(message.folder))

    # Screens are imported when they are opened: the first paint does not wait for them.

    def _make_monitor(self, feed: Feed) -> Screen[None]:
        from dpo_tui.screens.monitor_screen import MonitorScreen

        return MonitorScreen(feed, self.gpus)

    @staticmethod
    def _make_guide() -> Screen[None]:
        from dpo_tui.screens.guide_screen import GuideScreen

        return GuideScreen()

    def _make_new(self) -> Screen[None]:
        from dpo_tui.screens.new_screen import NewScreen

        self._new = NewScreen()
        return self._new

    def _make_data(self) -> Screen[None]:
        from dpo_tui.screens.data_screen import DataScreen

        return DataScreen(self._model_in_hand)

    def _model_in_hand(self) -> tuple[str, int] | None:
        """The model that was chosen in New, and how many tokens it will be trained with."""
        plan = self._new.plan if self._new is not None else None
        return (plan.config.model_name, plan.config.max_seq_length) if plan is not None and plan.has_model else None

    def _make_judge(self) -> Screen[None]:
        from dpo_tui.screens.judge_screen import JudgeScreen

        return JudgeScreen(lambda: self.run_list.summaries)

    def action_preferences(self) -> None:
        """Open the settings; the screen that they are opened over stays as it is."""
        from dpo_tui.screens.settings_screen import SettingsScreen

        if self.current_mode == self._settings:
            return
        old, self._before = self._settings, self.current_mode
        self._settings = self._open_mode(lambda: SettingsScreen(self.preferences, sorted(self.palettes)))
        if old:
            self.remove_mode(old)

    def on_settings_screen_changed(self, message: "SettingsScreen.Changed") -> None:
        """Take the new settings at once."""
        self.preferences = message.preferences
        wanted = theme_for(os.environ, chosen=self.preferences.theme)
        self.theme = wanted if wanted in self.palettes else self.theme
        self.ascii_only = self.preferences.ascii if self.preferences.ascii is not None else ascii_only(os.environ)

    def on_runs_screen_compare_runs(self, message: RunsScreen.CompareRuns) -> None:
        """Lay runs side by side."""
        from dpo_tui.screens.compare_screen import CompareScreen

        self._over(lambda: CompareScreen(message.folders))

    def on_runs_screen_new_run(self, message: RunsScreen.NewRun) -> None:
        """Go to New, perhaps with the settings of an earlier run."""
        self._edit(message.config)

    def on_monitor_screen_edit_config(self, message: "MonitorScreen.EditConfig") -> None:
        """Go to New with the settings of the run shown, changed as its advice says if that was asked for."""
        self._edit(message.config, message.changes)

    @work(exclusive=True, group="edit", exit_on_error=False)
    async def _edit(self, config: Path | None, changes: Mapping[str, Any] | None = None) -> None:
        await self.switch_mode("new")
        opened = getattr(self.screen, "open_file", None)
        if config is not None and opened is not None:
            opened(config, changes)

    def on_new_screen_started(self, message: "NewScreen.Started") -> None:
        """Show the monitor of a run that is being started."""
        self._watch(RunFeed(message.folder))

    def on_monitor_screen_run_ended(self, message: Message) -> None:
        """Look at the list at once: notices come from there."""
        if self._until_end:
            self.exit()
        self._look()

    @work(exclusive=True, group="overlay", exit_on_error=False)
    async def on_monitor_screen_overlay_wanted(self, message: "MonitorScreen.OverlayWanted") -> None:
        """Ask which runs to draw over the one shown."""
        from dpo_tui.screens.monitor_screen import MonitorScreen
        from dpo_tui.widgets.list_dialogs import MultipleChoiceDialog

        monitor = self.screen
        if not isinstance(monitor, MonitorScreen):
            return
        hand = monitor.current_run()
        others = [glance for glance in self.run_list.summaries if hand is None or glance.id != hand[0].id]
        choices = [(glance.id, f"{glance.name}  {glance.status}  {glance.id}") for glance in others]
        picked = await self.push_screen_wait(MultipleChoiceDialog("Draw these runs over this one", choices, message.chosen))
        if picked is not None:
            monitor.overlay([glance.folder for glance in others if glance.id in picked])


def _collect_garbage() -> None:
    """Turn on the collector, which `dpo_tui.cli.open_app` kept off for the start, and spare it what stays for good."""
    gc.freeze()
    gc.enable()


def open_feed(path: Path) -> Feed:
    """The feed of a run folder."""
    return RunFeed(RunFolder(path))


def run_app(feed: Feed | None = None, *, until_end: bool = False) -> None:
    """Run the app until the person quits, the terminal goes away, or, on request, the watched run ends."""
    # Under nohup SIGHUP is ignored, and an app whose terminal has gone would spin on a dead descriptor.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    DpoTui(feed, until_end=until_end).run()
