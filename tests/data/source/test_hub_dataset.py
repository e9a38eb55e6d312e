"""Hub ids are fetched and read like files; the hub is a small HTTP server at the machine edge."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.load_split import split_of
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.locate import splits_of
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import row, rows

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# Pairs",
    "plain/train.jsonl": b"".join(json.dumps(one).encode() + b"\n" for one in rows(4)),
    "plain/test.jsonl": b"".join(json.dumps(one).encode() + b"\n" for one in (row(9), row(2))),
    "ranked/train.jsonl": json.dumps(row(7)).encode() + b"\n",
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers the two questions that fetching a dataset asks: which files there are, and what is in one."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/datasets/org/pairs"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            document = {"id": "org/pairs", "sha": COMMIT, "siblings": siblings, "private": False, "downloads": 0}
            self._send(200, json.dumps(document).encode(), body=body)
            return
        prefix = f"/datasets/org/pairs/resolve/{'main' if '/main/' in path else COMMIT}/"
        data = FILES.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        if data is None:
            self._send(404, b"{}", body=body, error="RepoNotFound")
            return
        self._send(200, data, body=body)

    def _send(self, status: int, data: bytes, *, body: bool, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}", raising=False
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "*")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_a_hub_dataset_is_read_by_subset_and_split() -> None:
    told: list[tuple[str, int, int]] = []
    loaded = load_pairs(Source("org/pairs", subset="plain"), lambda *progress: told.append(progress))
    assert len(loaded.pairs) == 4
    assert told[-1] == ("downloaded", len(FILES["plain/train.jsonl"]), len(FILES["plain/train.jsonl"]))
    assert len(load_pairs(Source("org/pairs", subset="plain", split="test")).pairs) == 2


@pytest.mark.usefixtures("hub", "home")
def test_a_split_that_was_downloaded_before_is_searched_for_leaks() -> None:
    request = ScanRequest(Source("org/pairs", subset="plain"), workers=1)
    assert "leak" not in {problem.check for problem in scan(request, lambda _event: None).problems}
    load_pairs(Source("org/pairs", subset="plain", split="test"))
    leaks = [problem for problem in scan(request, lambda _event: None).problems if problem.check == "leak"]
    assert [problem.rows for problem in leaks] == [[3]]


@pytest.mark.usefixtures("hub")
def test_several_subsets_ask_for_a_choice() -> None:
    with pytest.raises(DataError) as caught:
        load_pairs(Source("org/pairs"))
    assert "plain, ranked" in str(caught.value.hint)
    with pytest.raises(DataError, match="has no subset 'none'"):
        load_pairs(Source("org/pairs", subset="none"))


@pytest.mark.usefixtures("hub")
def test_a_dataset_that_does_not_exist_is_said() -> None:
    with pytest.raises(DataError, match="no dataset of that name on the hub"):
        load_pairs(Source("org/nothing"))


def test_without_a_network_the_hint_is_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="the hub cannot be reached") as caught:
        load_pairs(Source("org/pairs"))
    assert "give the local file" in str(caught.value.hint)


@pytest.mark.usefixtures("hub", "home")
def test_the_splits_of_a_subset_are_known_with_the_hub_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    plain = Source("org/pairs", subset="plain")
    assert splits_of(plain) == ["test", "train"]
    with pytest.raises(DataError, match="has no subset 'none'"):
        splits_of(Source("org/pairs", subset="none"))
    settings = {"model_name": "m", "dataset": "org/pairs", "dataset_config": "plain", "eval_dataset": "org/pairs"}
    split = split_of(from_values(settings), download=False)
    assert (len(split.train), len(split.held_out)) == (4, 2)
    assert "evaluation: on the split test of org/pairs" in split.notes
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert splits_of(plain) == ["test", "train"]
