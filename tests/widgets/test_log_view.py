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


async def test_lines_are_copied_whole_and_a_tmux_that_drops_them_is_named(tmp_path: Path, monkeypatch):
    path = tmp_path / "train.log"
    long = "CUDA error: " + "x" * 6000 + " the end"
    path.write_text(f"first\n{long}\n 10%|#\r 20%|##\n")
    monkeypatch.setenv("TMUX", str(tmp_path / "no-server") + ",1,0")
    view = LogView(path)
    async with Stage(view).run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        view.pane.focus()
        view.pane.poll()
        assert shown(view.pane)[1].endswith("…")
        await pilot.press("Y")
        assert pilot.app.clipboard.split("\n") == ["first", long, " 20%|##"]
        await pilot.app.workers.wait_for_complete()
        notices = [notice.message for notice in pilot.app._notifications]
        assert any("Sent 3 lines" in text and "tmux set -s set-clipboard on" in text for text in notices)


async def test_what_is_longer_than_terminals_take_is_cut_and_said(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("TMUX", raising=False)
    path = tmp_path / "train.log"
    path.write_text("ä" * 50_000 + "\n")
    view = LogView(path)
    async with Stage(view).run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        view.pane.focus()
        view.pane.poll()
        await pilot.press("Y")
        assert pilot.app.clipboard == "ä" * (74_994 // 2)
        assert any("cut at 74,994 bytes" in notice.message for notice in pilot.app._notifications)


async def test_what_is_right_of_the_edge_is_scrolled_to_or_wrapped(tmp_path: Path):
    path = tmp_path / "train.log"
    path.write_text("short\n" + "x" * 50 + "MIDDLE" + "y" * 50 + "END\n")
    view = LogView(path)
    async with Stage(view).run_test(size=(40, 8)) as pilot:
        await pilot.pause()
        view.pane.focus()
        view.pane.poll()
        assert "MIDDLE" not in "".join(shown(view.pane))
        await pilot.press("right", "right")
        assert "MIDDLE" in "".join(shown(view.pane))
        assert "from column 41" in shown(view.pane)[-1]
        await pilot.press("right", "right", "right")
        assert "END" in "".join(shown(view.pane))
        await pilot.press(*["left"] * 5)
        assert shown(view.pane)[0].startswith("short")
        await pilot.press("w")
        assert "MIDDLE" in "".join(row.strip() for row in shown(view.pane))
        assert "END" in "".join(shown(view.pane))
        await pilot.press("w")
        assert "END" not in "".join(shown(view.pane))
