"""The Textual app: opens the screens, routes their messages, and polls the list of runs and the GPUs for all of them.

Each screen is a Textual mode, so that it keeps its state while another one is shown, and so that no screen ever lies
behind another (`FullScreen.is_front` says why).
"""

import gc
import os
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
from dpo_tui.screens.improvement_routes import ImprovementRoutes
from dpo_tui.screens.runs_screen import RunsScreen
from dpo_tui.text.printable import printable
from dpo_tui.themes.terminal_choice import ascii_only, theme_for
from dpo_tui.views.gpu_watch import GpuWatch
from dpo_tui.views.notifications import Notification, StatusChangeDetector, desktop_sequence, post
from dpo_tui.views.run_feed import Feed, RunFeed
from dpo_tui.views.run_groups import GroupedRunList, names_of_live
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.views.user_settings import load as load_settings
from dpo_tui.widgets.dialogs import MessageDialog
from dpo_tui.widgets.full_screen import FullScreen, help_text
from dpo_tui.widgets.key_hints import commands_of
from dpo_tui.widgets.run_actions import RunActionsScreen

if TYPE_CHECKING:
    from dpo_tui.screens.monitor_screen import MonitorScreen
    from dpo_tui.screens.new_screen import NewScreen
    from dpo_tui.screens.settings_screen import SettingsScreen
    from dpo_tui.screens.steps.data_step import DataStep

RUNS_POLL_SECONDS = 1.0
"""Seconds between two polls of the list of runs while the Runs screen is shown."""
HIDDEN_POLL_FACTOR = 5
"""The interval is this many times longer while another screen is shown: notifications are still due."""
FIRST_MODE = "first"
"""Name of the mode of the screen that the app opens with."""


class DpoTui(ImprovementRoutes):
    """The app.

    Messages of the screens that it handles: `FullScreen.Leave`, `RunsScreen.OpenRun`, `RunsScreen.CompareRuns`,
    `RunsScreen.NewRun`, `MonitorScreen.EditConfig`, `MonitorScreen.OverlayWanted`, `MonitorScreen.RunEnded`,
    `NewScreen.Started`, `DataStep.DataWanted`, `SettingsScreen.Changed` and those of `ImprovementRoutes`.

    Args:
        feed: open with the monitor of this run or folder; None opens with the Runs screen.
        settings: the user's settings; read from settings.toml if not given.
        until_end: quit when the run of ``feed`` has ended.

    Attributes:
        settings: the user's settings as they are now.
        run_list: the runs of this machine, polled by the app in a thread.
        gpus: the GPUs of this machine.
        runs_changed: published when ``run_list`` or ``gpus`` has something new.
    """

    CSS_PATH = "app.tcss"
    TITLE = "dpo-tui"
    # Without it Textual opens with an empty screen first, and styling that one takes a tenth of the start-up time.
    DEFAULT_MODE = FIRST_MODE
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("q", "quit_app", "quit (runs go on)", id="app.quit"),
        Binding("1", "open_screen('runs')", "Runs", id="app.runs", show=False),
        Binding("2", "open_screen('new')", "New", id="app.new", show=False),
        Binding("3", "open_screen('data')", "Data", id="app.data", show=False),
        Binding("4", "open_screen('judge')", "Judge", id="app.judge", show=False),
        Binding("5", "open_screen('guide')", "Guide", id="app.guide", show=False),
        Binding("ctrl+l", "repaint", "repaint the screen", id="app.repaint", show=False),
        Binding("comma", "settings", "settings", id="app.preferences", show=False),
    ]

    def __init__(
        self, feed: Feed | None = None, *, settings: UserSettings | None = None, until_end: bool = False
    ) -> None:
        self.settings = settings or load_settings()
        super().__init__(self.settings.theme)
        if self.settings.ascii is not None:
            self.ascii_only = self.settings.ascii
        self.animation_level = "none"
        self.run_list = GroupedRunList()
        self._status_changes = StatusChangeDetector()
        self.gpus = GpuWatch()
        self.runs_changed: Signal[None] = Signal(self, "runs")
        self._until_end = until_end
        self._polling = False
        self._poll_ticks = 0
        self._detail_mode = FIRST_MODE if feed is not None else ""
        """Mode of the open monitor or comparison, of which there is one at most; empty when there is none."""
        self._settings_mode = ""
        """Mode of the settings screen; empty before it was opened."""
        self._runs_mode = "runs" if feed is not None else FIRST_MODE
        self._return_mode = self._runs_mode
        """Where leaving a screen with `FullScreen.goes_back` leads to."""
        self._mode_numbers = count()
        self._new_screen: NewScreen | None = None
        modes: dict[str, Callable[[], Screen[None]]] = {
            self._runs_mode: lambda: RunsScreen(self.run_list, self.gpus, self.runs_changed),
            "new": self._make_new,
            "data": self._make_data,
            "judge": self._make_judge,
            "guide": self._make_guide,
        }
        if feed is not None:
            modes[FIRST_MODE] = lambda: self._make_monitor(feed)
        for name, make_screen in modes.items():
            self.add_mode(name, make_screen)

    def on_mount(self) -> None:
        """Apply the user's keys, start polling, and report problems of the settings and theme files."""
        self.set_keymap(self.settings.keys)
        self.call_after_refresh(_enable_garbage_collector)
        self._poll_runs()
        self.set_interval(RUNS_POLL_SECONDS, self._poll_runs_if_due)
        self._find_gpus()
        self._show_problems((*map(str, self.theme_problems), *self.settings.problems))
        if keys := self.settings.keys:
            self._check_keys(keys)

    def _show_problems(self, problems: Iterable[str]) -> None:
        for problem in problems:
            self.notify(problem, title="Settings", severity="warning", timeout=10, markup=False)

    @work(thread=True, group="keys", exit_on_error=False)
    def _check_keys(self, keys: dict[str, str]) -> None:
        from dpo_tui.screens.remapped_keys import key_problems

        self.call_from_thread(self._show_problems, key_problems(keys))

    def on_unmount(self) -> None:
        """Stop the thread that samples the GPUs."""
        self.gpus.stop()

    def _poll_runs_if_due(self) -> None:
        self._poll_ticks += 1
        # The timer may fire once more while the app closes, when the screen stack is empty.
        shown = bool(self.screen_stack) and isinstance(self.screen, RunsScreen)
        if not self._polling and (shown or self._poll_ticks % HIDDEN_POLL_FACTOR == 0):
            self._poll_runs()

    @work(thread=True, exclusive=True, group="runs", exit_on_error=False)
    def _poll_runs(self) -> None:
        self._polling = True
        try:
            changed = self.run_list.poll(time.time())
        except DpoTuiError as error:
            self.call_from_thread(self._show_error, error)
            return
        finally:
            self._polling = False
        if changed:
            self.call_from_thread(self._publish_changes)

    def _publish_changes(self) -> None:
        """Redraw the Runs screen, and notify the user of runs that ended or stalled, as the settings say."""
        self.runs_changed.publish(None)
        for notice in self._status_changes.changes(self.run_list.summaries, self.run_list.groups):
            self.notify(notice.text, title="dpo-tui", markup=False)
            if self.settings.bell:
                self.bell()
            if self.settings.desktop and self._driver is not None:
                self._driver.write(desktop_sequence(notice))
            if self.settings.webhook:
                self._post_webhook(self.settings.webhook, notice)

    @work(thread=True, group="webhook", exit_on_error=False)
    def _post_webhook(self, url: str, notice: Notification) -> None:
        try:
            post(url, notice)
        except (OSError, ValueError) as error:
            self.call_from_thread(self.notify, f"The webhook did not take the notice: {error}", markup=False)

    def _handle_exception(self, error: Exception) -> None:
        """Show a `DpoTuiError` in a dialog; anything else is a bug and ends the app with its traceback."""
        if isinstance(error, DpoTuiError):
            self._show_error(error)
        else:
            super()._handle_exception(error)

    def _show_error(self, error: DpoTuiError) -> None:
        if not isinstance(self.screen, MessageDialog):
            self.push_screen(MessageDialog("That did not work", error.message, error.hint or ""))

    @work(thread=True, exclusive=True, group="gpus", exit_on_error=False)
    def _find_gpus(self) -> None:
        self.gpus.start()
        self.call_from_thread(self.runs_changed.publish, None)

    def action_open_screen(self, name: str) -> None:
        """Open one of the five numbered screens.

        Args:
            name: ``runs``, ``new``, ``data``, ``judge`` or ``guide``. Judge opens with the run that is shown now, the
                guide at the page that explains the present screen.
        """
        if name == "judge":
            self._open_judge(self.screen.current_run() if isinstance(self.screen, RunActionsScreen) else None)
            return
        page = self.screen.GUIDE_PAGE if isinstance(self.screen, FullScreen) else "start"
        self.switch_mode(self._runs_mode if name == "runs" else name)
        if name == "guide":
            self.call_later(self._open_guide_page, page)

    @work(exclusive=True, group="judge", exit_on_error=False)
    async def _open_judge(self, run: tuple[RunFolder, str, str] | None) -> None:
        """Open Judge, with a run (folder, name, status) if it has a result."""
        from dpo_tui.screens.judge_screen import JudgeScreen

        await self.switch_mode("judge")
        if isinstance(self.screen, JudgeScreen) and run is not None and run[0].has_result:
            self.screen.open_run(run[0], run[1])

    def _open_guide_page(self, page: str) -> None:
        from dpo_tui.screens.guide_screen import GuideScreen

        if isinstance(self.screen, GuideScreen):
            self.screen.open_page(page)

    def action_quit_app(self) -> None:
        """Quit the app, and print which runs go on."""
        live = names_of_live(self.run_list)
        names = printable(", ".join(live[:3]), single_line=True) + (" …" if len(live) > 3 else "")  # noqa: PLR2004
        message = f"{names} {'goes' if len(live) == 1 else 'go'} on without this window. `dpo-tui` comes back."
        self.exit(message=message if live else None)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Commands of the palette: every enabled binding of the screen, by its description, then Textual's own."""
        for hint, binding, node in commands_of(screen):
            title = f"{binding.description[:1].upper()}{binding.description[1:]}"
            yield SystemCommand(title, hint, partial(self.run_action, binding.action, node))
        yield from super().get_system_commands(screen)

    def action_help(self) -> None:
        """Show the help of the screen and of the focused widget."""
        self.push_screen(MessageDialog("Help", help_text(self.screen, self.settings.keys)))

    def _open_monitor(self, feed: Feed) -> None:
        self._open_detail(lambda: self._make_monitor(feed))

    def _open_detail(self, make_screen: Callable[[], Screen[None]]) -> None:
        """Open a monitor or a comparison, and remove the one opened before it."""
        # The new mode is shown before the old one is removed: Textual cannot remove the mode that is shown.
        old, self._detail_mode = self._detail_mode, self._open_mode(make_screen)
        if old:
            self.remove_mode(old)
            self._return_mode = self._runs_mode if self._return_mode == old else self._return_mode

    def _open_mode(self, make_screen: Callable[[], Screen[None]]) -> str:
        """Switch to a new mode, and return its name; no name is used twice, so a removal cannot meet a newer mode."""
        name = f"detail-{next(self._mode_numbers)}"
        self.add_mode(name, make_screen)
        self.switch_mode(name)
        return name

    def on_full_screen_leave(self, message: FullScreen.Leave) -> None:
        """Go back to the Runs screen, to the screen shown before, or from data that New has opened to New."""
        goes_back = isinstance(self.screen, FullScreen) and self.screen.goes_back
        back = "new" if self.current_mode == "data" else self._return_mode
        self.switch_mode(back if goes_back else self.mode_before() or self._runs_mode)
        self._poll_runs()

    def on_runs_screen_open_run(self, message: RunsScreen.OpenRun) -> None:
        """Open the monitor of a run."""
        self._open_monitor(RunFeed(message.folder))

    # Screens other than Runs are imported when they open, so that the first paint does not wait for their imports.

    def _make_monitor(self, feed: Feed) -> Screen[None]:
        from dpo_tui.screens.monitor_screen import MonitorScreen

        return MonitorScreen(feed, self.gpus)

    @staticmethod
    def _make_guide() -> Screen[None]:
        from dpo_tui.screens.guide_screen import GuideScreen

        return GuideScreen()

    def _make_new(self) -> Screen[None]:
        from dpo_tui.screens.new_screen import NewScreen

        self._new_screen = NewScreen()
        return self._new_screen

    def _make_data(self) -> Screen[None]:
        from dpo_tui.screens.data_screen import DataScreen

        return DataScreen(lambda: self._new_screen.plan if self._new_screen is not None else None)

    def _make_judge(self) -> Screen[None]:
        from dpo_tui.screens.judge_screen import JudgeScreen

        return JudgeScreen(lambda: self.run_list.summaries)

    def action_settings(self) -> None:
        """Open the settings; leaving them leads back to the present screen as it is now."""
        from dpo_tui.screens.settings_screen import SettingsScreen

        if self.current_mode == self._settings_mode:
            return
        old, self._return_mode = self._settings_mode, self.current_mode
        self._settings_mode = self._open_mode(lambda: SettingsScreen(self.settings, sorted(self.palettes)))
        if old:
            self.remove_mode(old)

    def on_settings_screen_changed(self, message: "SettingsScreen.Changed") -> None:
        """Apply changed settings at once."""
        self.settings = message.settings
        theme = theme_for(os.environ, chosen=self.settings.theme)
        self.theme = theme if theme in self.palettes else self.theme
        self.ascii_only = self.settings.ascii if self.settings.ascii is not None else ascii_only(os.environ)

    def on_runs_screen_compare_runs(self, message: RunsScreen.CompareRuns) -> None:
        """Open the comparison of several runs."""
        from dpo_tui.screens.compare_screen import CompareScreen

        self._open_detail(lambda: CompareScreen(message.folders, message.group))

    def on_runs_screen_new_run(self, message: RunsScreen.NewRun) -> None:
        """Open New, with the settings of an earlier run if the message names one."""
        self._open_new(message.config)

    def on_monitor_screen_edit_config(self, message: "MonitorScreen.EditConfig") -> None:
        """Open New with the settings of the run shown and the changes of the message, which may be none."""
        self._open_new(message.config, message.changes)

    @work(exclusive=True, group="new", exit_on_error=False)
    async def _open_new(self, config: Path | None, changes: Mapping[str, Any] | None = None) -> None:
        from dpo_tui.screens.new_screen import NewScreen

        await self.switch_mode("new")
        if isinstance(self.screen, NewScreen) and config is not None:
            self.screen.open_file(config, changes)

    @work(exclusive=True, group="data", exit_on_error=False)
    async def on_data_step_data_wanted(self, message: "DataStep.DataWanted") -> None:
        """Open Data with the data of New; leaving it leads back to New."""
        from dpo_tui.screens.data_screen import DataScreen

        await self.switch_mode("data")
        if isinstance(self.screen, DataScreen):
            self.screen.goes_back = True
            self.screen.open_data(message.location)

    def on_new_screen_started(self, message: "NewScreen.Started") -> None:
        """Open the monitor of a run that is being started."""
        self._open_monitor(RunFeed(message.folder))

    def on_monitor_screen_run_ended(self, message: Message) -> None:
        """Poll the list of runs at once, since notifications come from there; quit if that was asked for."""
        if self._until_end:
            self.exit()
        self._poll_runs()

    @work(exclusive=True, group="overlay", exit_on_error=False)
    async def on_monitor_screen_overlay_wanted(self, message: "MonitorScreen.OverlayWanted") -> None:
        """Ask which runs to draw over the one shown, and pass them to the monitor."""
        from dpo_tui.screens.monitor_screen import MonitorScreen
        from dpo_tui.widgets.list_dialogs import MultipleChoiceDialog

        monitor = self.screen
        if not isinstance(monitor, MonitorScreen):
            return
        shown = monitor.current_run()
        others = [summary for summary in self.run_list.summaries if shown is None or summary.id != shown[0].id]
        choices = [(summary.id, f"{summary.name}  {summary.status}  {summary.id}") for summary in others]
        picked = await self.push_screen_wait(
            MultipleChoiceDialog("Draw these runs over this one", choices, message.chosen)
        )
        if picked is not None:
            monitor.overlay([summary.folder for summary in others if summary.id in picked])


def _enable_garbage_collector() -> None:
    """Enable the collector, which `dpo_tui.cli.open_app` disabled for the start-up."""
    # What is alive now stays until the end: frozen objects are not traversed by later collections.
    gc.freeze()
    gc.enable()
