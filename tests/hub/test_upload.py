"""Upload to the hub: the real hub client against a small HTTP server that answers as the hub does.

The server asks for files inside the commit, as the hub does for small ones; the stores for large files are not tested.
"""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.errors import UsageError
from dpo_tui.hub.upload import PushError, UploadManifest, check_push
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support.repository import ROOT
from tests.support.training import finished_run

TOKEN = "hf_aSecretThatNobodyMaySee"  # noqa: S105 - of no hub


@dataclass
class Hub:
    """The requests that the server got, and how it answers.

    Attributes:
        address: of the server.
        refuse: the status that every request gets, if not 200.
        private: whether the repository is.
        created: the requests for a repository.
        tokens: the authorisations that were shown.
        files: what was committed.
    """

    address: str = ""
    refuse: int = 200
    private: bool = True
    created: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.address}/me/toy", "name": "me/toy"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
        if "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return {"commitUrl": f"{self.address}/me/toy/commit/0123", "commitOid": "0123", "success": True}
        if method == "GET" and path.startswith("/api/models/me/toy"):
            return {"id": "me/toy", "sha": "0" * 40, "private": self.private, "siblings": []}
        return None


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.tokens.add(str(self.headers.get("Authorization")))
            reply = (
                state.answer(self.command, self.path.split("?")[0], body) if state.refuse == 200 else {"error": "no"}
            )
            status = state.refuse if reply is not None else 404
            data = json.dumps(reply or {"error": "not here"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_HEAD = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "export"
    made.mkdir()
    (made / "README.md").write_text("---\nlibrary_name: peft\n---\n# toy\n")
    (made / "adapter_model.safetensors").write_bytes(bytes(2000))
    return made


def client(hub_address: str, code: str, *arguments: str, keys: str = "") -> subprocess.CompletedProcess[str]:
    """Python with the hub client pointed at an address: it reads that from its environment, once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub_address, "HF_TOKEN": TOKEN, "NO_PROXY": "*"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=120, input=keys,
    )  # fmt: skip


PUSH = """
import sys
from pathlib import Path
from dpo_tui.errors import DpoTuiError
from dpo_tui.hub.upload import push
try:
    print(push(Path(sys.argv[1]), sys.argv[2], public="public" in sys.argv))
except DpoTuiError as error:
    sys.exit(str(error))
"""


def test_what_a_run_made_arrives_private_and_whole(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, hub: Hub
) -> None:
    """`export --push --yes`; every file as it is, no path of this machine, the token shown nowhere."""
    run = finished_run(tiny_model, tiny_pairs, eval_split=0.0)
    target = tmp_path / "adapter"
    arguments = ["export", run.id, "--to", str(target), "--push", "me/toy", "--yes"]
    done = client(hub.address, "from dpo_tui.cli import main; main()", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(target), f"{hub.address}/me/toy"]
    assert [(one["name"], one["visibility"]) for one in hub.created] == [("toy", "private")]
    assert hub.files == {path.name: path.read_bytes() for path in target.iterdir()}
    assert "adapter_model.safetensors" in done.stderr, "it says what goes out"
    assert "me/toy (private)" in done.stderr
    assert str(tiny_model).encode() not in hub.files["adapter_config.json"]
    assert b"base_model:" not in hub.files["README.md"], "the hub refuses a folder's name as a base model"
    assert hub.tokens - {"None"} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr


ASK = """
import sys
from pathlib import Path
from dpo_tui.cli.export import ask_and_push
ask_and_push(Path(sys.argv[1]), "me/toy", public=False, yes=False)
"""


def test_it_says_what_goes_out_and_asks_first(folder: Path, hub: Hub) -> None:
    done = client(hub.address, ASK, str(folder), keys="n\n")
    assert "To upload to me/toy (private)" in done.stderr
    assert "adapter_model.safetensors" in done.stderr
    assert "Nothing was uploaded" in done.stderr
    assert not hub.created
    assert client(hub.address, ASK, str(folder), keys="y\n").stdout.strip() == f"{hub.address}/me/toy"
    assert set(hub.files) == {"README.md", "adapter_model.safetensors"}


def test_a_public_repository_takes_nothing_unless_that_is_meant(folder: Path, hub: Hub) -> None:
    hub.private = False
    done = client(hub.address, PUSH, str(folder), "me/toy")
    assert "everyone can read it: nothing was uploaded" in done.stderr
    assert hub.files == {}
    done = client(hub.address, PUSH, str(folder), "me/toy", "public")
    assert done.stdout.strip() == f"{hub.address}/me/toy"
    assert set(hub.files) == {"README.md", "adapter_model.safetensors"}
    assert hub.created[-1]["visibility"] == "public"


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "does not know the token"), (403, "may not write there"), (400, "upload to me/toy")]
)
def test_a_hub_that_refuses_is_told_in_words_without_the_token(
    folder: Path, hub: Hub, status: int, reason: str
) -> None:
    hub.refuse = status
    done = client(hub.address, PUSH, str(folder), "me/toy")
    assert reason in done.stderr
    assert f"{folder} is written" in done.stderr
    assert f"hf upload --private me/toy {folder}" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_network_the_folder_stays_and_the_hint_says_how_to_send_it(folder: Path) -> None:
    done = client("http://127.0.0.1:9", PUSH, str(folder), "me/toy")
    assert "the hub cannot be reached" in done.stderr
    assert "hf upload" in done.stderr
    assert "Traceback" not in done.stderr


def exported(home: Path) -> RunFolder:
    folder = store.create('[model]\nmodel_name = "m"\n', name="done", devices=[])
    folder.adapter.mkdir()
    return folder


def test_what_cannot_be_pushed_is_refused_before_anything_is_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No terminal to ask in, nobody logged in, told to stay offline, a name that is none."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run = exported(home)
    arguments = ["export", run.id, "--to", str(tmp_path / "out"), "--push", "me/toy"]
    with pytest.raises(UsageError, match="no terminal to ask in"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    with pytest.raises(UsageError, match="--push not/a/name"):
        check_push("not/a/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE is set"):
        check_push("me/toy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(PushError, match="nobody is logged in"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_what_goes_out_is_listed_largest_first(folder: Path) -> None:
    manifest = UploadManifest.of(folder)
    assert [name for name, _ in manifest.files] == ["adapter_model.safetensors", "README.md"]
    assert manifest.total_mb == pytest.approx((2000 + len((folder / "README.md").read_bytes())) / 1e6)
