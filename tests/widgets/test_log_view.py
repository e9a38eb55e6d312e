"""The log view on a screen, by keyboard."""

from pathlib import Path

from dpo_tui.widgets.log_view import LogPane, LogView
from tests.support.widget_stage import Stage, shown


async def test_the_log_follows_scrolls_and_finds(tmp_path: Path):
    path = tmp_path / "train.log"
    path.write_text("".join(f"line {index}\n" for index in range(1000)) + "CUDA out of memory\nend\n")
    view = LogView(path)
    async with Stage(view).run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        view.pane.focus()
        view.pane.poll()
        assert "end" in shown(view.pane)[10]
        with path.open("a") as stream:
            stream.write("fresh\n")
        view.pane.poll()
        assert "fresh" in shown(view.pane)[10]
        await pilot.press("g")
        assert shown(view.pane)[0].startswith("line 0")
        await pilot.press("slash")
        await pilot.press(*"memory", "enter")
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert shown(view.pane)[0].startswith("CUDA out of memory")
        assert isinstance(pilot.app.focused, LogPane)
        await pilot.press("G")
        assert "following" in shown(view.pane)[11]
