"""New → Model and the hub: search as one types, gated models, a download with a cancel, and no network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from dpo_tui.app import DpoTui
from dpo_tui.hardware.models.lookup import recommended_models
from dpo_tui.screens.new_screen import NewScreen
from dpo_tui.screens.steps import hub_search
from dpo_tui.screens.steps.hub_search import is_searchable
from dpo_tui.screens.steps.model_step import ModelStep
from dpo_tui.views.user_settings import UserSettings
from dpo_tui.widgets.compact_inputs import ChoiceList
from dpo_tui.widgets.download_dialog import DownloadDialog, progress_text
from tests.support.app import screen_text, until
from tests.support.hub_server import HubServer, hub_server
from tests.support.repository import ROOT

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * 400_000}


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        server.models = {"org/small-chat": FILES, "org/secret-chat": FILES}
        server.gated = {"org/secret-chat"}
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        cached = tmp_path / "hf/hub/models--org--cached-chat/snapshots/1"
        cached.mkdir(parents=True)
        (cached / "config.json").write_text("{}")
        monkeypatch.chdir(tmp_path)
        yield server


async def open_models(pilot) -> NewScreen:
    await pilot.press("2")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewScreen) and pilot.app.screen._profile is not None)
    pilot.app.screen.go(1)
    await until(pilot, lambda: "on this disk" in screen_text(pilot))
    return pilot.app.screen


def words(pilot) -> str:
    return " ".join(screen_text(pilot).split())


def listed(pilot) -> list[str]:
    options = pilot.app.screen.query_one("#models", ChoiceList)
    return [str(options.get_option_at_index(index).id) for index in range(options.option_count)]


def app() -> DpoTui:
    return DpoTui(settings=UserSettings(theme="dark"))


async def test_typing_searches_the_hub_and_a_gated_model_says_what_to_do(hub: HubServer) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        await open_models(pilot)
        await pilot.press(*"chat")
        await until(pilot, lambda: "The hub has 2 such models" in words(pilot), 30)
        assert listed(pilot)[0] == "org/cached-chat"
        assert listed(pilot)[-2:] == ["org/small-chat", "org/secret-chat"]
        await pilot.press("down")
        assert pilot.app.focused is pilot.app.screen.query_one("#models")
        await pilot.press("end")
        await until(pilot, lambda: "Accept its licence at https://huggingface.co/org/secret-chat" in words(pilot))
        assert "HF_TOKEN" in words(pilot)


async def test_a_download_shows_its_bytes_is_cancelled_and_goes_on_where_it_was(hub: HubServer, tmp_path: Path) -> None:
    hub.bytes_a_second = 40_000
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_models(pilot)
        await pilot.press(*"org/small-chat", "ctrl+g")
        await until(pilot, lambda: isinstance(pilot.app.screen, DownloadDialog))
        process = pilot.app.screen
        await until(pilot, lambda: "0 of 0 MB" in words(pilot), 30)  # 0.4 of them
        child = process._process
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        assert child.wait() < 0
        hub.bytes_a_second = 0
        await pilot.press("ctrl+g")
        await until(pilot, lambda: pilot.app.screen is screen and listed(pilot)[:1] == ["org/small-chat"], 30)
    assert list((tmp_path / "hf/hub/models--org--small-chat/snapshots").glob("*/model.safetensors"))


async def test_a_gated_download_is_refused_with_the_steps_to_it(hub: HubServer) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        await open_models(pilot)
        await pilot.press(*"org/secret-chat", "ctrl+g")
        await until(
            pilot, lambda: "is gated: its owner asks you to accept a licence" in words(pilot).replace("│ ", ""), 30
        )
        assert "esc close" in words(pilot)


@pytest.mark.parametrize("network", ["none", "silent", "switched off"])
async def test_without_the_hub_the_cache_is_listed_and_the_reason_is_said(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.setattr(hub_search, "DEADLINE_SECONDS", 3.0 if network == "silent" else 30.0)
    hub.silent = network == "silent"
    if network == "none":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    if network == "switched off":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = {
        "none": "The hub cannot be reached",
        "silent": "The hub has not answered within 3 s",
        "switched off": "HF_HUB_OFFLINE is set, so the hub is not asked",
    }
    async with app().run_test(size=(80, 24)) as pilot:
        await open_models(pilot)
        await pilot.press(*"cached")
        assert listed(pilot) == ["org/cached-chat"]
        await until(pilot, lambda: said[network] in words(pilot), 30)
        assert "Listed is what this machine has and knows" in words(pilot)
        assert listed(pilot) == ["org/cached-chat"]
        await pilot.press(*"zz")  # nothing of that name: the list is empty, and the field still takes keys
        assert pilot.app.screen.query_one("#model-field", Input).value == "cachedzz"


def test_paths_runs_and_a_few_letters_are_not_searched_for() -> None:
    assert [
        text
        for text in ("qw", "/models/qwen", "./qwen", "~/q1", "run:abc", "a/b/c", "qwen", "Qwen/Qwen3")
        if is_searchable(text)
    ] == ["qwen", "Qwen/Qwen3"]


def test_a_speed_is_said_once_there_is_one() -> None:
    assert progress_text(0, 4_000_000_000, 0, 0.5).endswith("0 of 4,000 MB")
    assert "100.0 MB/s   about 30 s left" in progress_text(1_000_000_000, 4_000_000_000, 1_000_000_000, 10)


async def test_without_a_gpu_the_smallest_model_comes_first_and_with_one_the_largest_that_fits(hub: HubServer) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_models(pilot)
        step = screen.query_one(ModelStep)
        sizes = {model.name: model.parameters for model in recommended_models()}

        def fitting() -> list[float]:
            return [sizes[name] for name in listed(pilot) if name in step._fitting]

        step.show(replace(screen._profile, gpu=None), screen.plan)
        assert fitting() == sorted(fitting())
        step.show(replace(screen._profile, gpu=0), screen.plan)
        assert fitting() == sorted(fitting(), reverse=True)
        assert len(fitting()) > 1


async def test_a_name_may_begin_with_a_letter_that_is_bound(hub: HubServer) -> None:
    for name in ("qwen", "kimi", "jais"):
        async with app().run_test(size=(80, 24)) as pilot:
            await open_models(pilot)
            await pilot.press(*name)
            assert pilot.app.screen.query_one("#model-field", Input).value == name
