"""The process that asks the hub, against a server on a socket that answers as the hub does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.hub.hub_process import HubError, HubModel, HubProcess
from tests.support.hub_server import COMMIT, HubServer, hub_server
from tests.support.repository import ROOT

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"w" * 300_000, "pytorch_model.bin": b"x" * 99}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        server.models = {"org/small-chat": FILES, "org/secret-chat": FILES, "org/other": FILES}
        server.gated = {"org/secret-chat"}
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("HF_TOKEN", "hf_ofNobody")
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


def test_a_search_gives_names_downloads_and_what_is_gated_and_shows_the_token(hub: HubServer) -> None:
    with HubProcess() as process:
        assert process.search("chat", 20) == [
            HubModel("org/small-chat", 1_234_567, False),
            HubModel("org/secret-chat", 1_234_567, True),
        ]
        assert process.search("nothing-of-this-name", 20) == []
    assert "Bearer hf_ofNobody" in hub.tokens


@pytest.mark.parametrize("to_head", [302, 401, 404, 405, 500, 503, "close", "silence"])
def test_a_mirror_that_knows_nothing_but_searches_is_searched(hub: HubServer, to_head: int | str) -> None:
    hub.to_head = to_head
    with HubProcess() as process:
        assert [one.name for one in process.search("small", 20)] == ["org/small-chat"]


@pytest.mark.parametrize(("to_head", "heads"), [("silence", 1), ("close", 1), (404, 2)])
def test_a_mirror_that_gives_no_answer_to_it_is_not_asked_again(hub: HubServer, to_head: int | str, heads: int) -> None:
    """It would cost three seconds before each search."""
    hub.to_head = to_head
    with HubProcess() as process:
        for _ in range(2):
            process.search("small", 20)
    assert hub.heads == heads


def test_a_download_counts_its_bytes_and_leaves_files_that_no_run_reads(hub: HubServer, tmp_path: Path) -> None:
    hub.bytes_a_second = 200_000
    with HubProcess() as process:
        seen = list(process.download("org/small-chat"))
    total = sum(len(data) for name, data in FILES.items() if name != "pytorch_model.bin")
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert any(0 < done < total for done, _ in seen)
    snapshot = tmp_path / "hf/hub/models--org--small-chat/snapshots" / COMMIT
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors"]


def test_a_gated_model_and_one_that_is_not_there_are_explained(hub: HubServer) -> None:
    with HubProcess() as process:
        with pytest.raises(HubError, match="org/secret-chat is gated") as gated:
            list(process.download("org/secret-chat"))
        assert "huggingface.co/org/secret-chat" in (gated.value.hint or "")
        with pytest.raises(HubError, match="no model org/none"):
            list(process.download("org/none"))


def test_without_a_hub_the_reason_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with HubProcess() as process, pytest.raises(HubError, match="the hub cannot be reached"):
        process.search("chat", 20)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with HubProcess() as process, pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        process.search("chat", 20)
