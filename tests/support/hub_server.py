"""A small HTTP server that answers the hub's client as the hub does: a search, a model's files, a gated model."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

COMMIT = "a" * 40


@dataclass
class HubServer:
    """What it has, how it answers, and what it was asked.

    Attributes:
        address: for ``HF_ENDPOINT``.
        models: files of each model by its id.
        gated: ids of models that want a token with a licence.
        silent: whether requests are taken and never answered.
        to_head: how requests for headers alone are answered: by a status, by the status 302 to where nobody listens, by
            no answer at the end of the connection ("close"), by none at all ("silence"); None for as others.
        heads: requests for headers alone, however they were answered.
        bytes_a_second: how fast files are sent; 0 for at once.
        asked: paths with their queries, in order.
        tokens: authorisations that were shown.
    """

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    silent: bool = False
    to_head: int | str | None = None
    heads: int = 0
    bytes_a_second: int = 0
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A server that is up until the context ends."""
    hub = HubServer()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            hub.heads += 1
            if hub.to_head is None:
                self._answer(with_body=False)
            elif hub.to_head == "silence":
                ended.wait(60)
            elif hub.to_head == "close":
                self.close_connection = True
            else:
                self._send(int(hub.to_head), b"", {"Location": "http://127.0.0.1:9/"})

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            hub.asked.append(self.path)
            hub.tokens.add(self.headers.get("Authorization") or "")
            if hub.silent:
                ended.wait(60)
                return
            url = urlparse(self.path)
            if url.path == "/api/models":
                text = parse_qs(url.query)["search"][0].lower()
                found = [
                    {
                        "id": name,
                        "modelId": name,
                        "downloads": 1_234_567,
                        "gated": "manual" if name in hub.gated else False,
                    }
                    for name in hub.models
                    if text in name.lower()
                ]
                self._send(200, json.dumps(found).encode(), {})
            elif url.path.startswith("/api/models/"):
                name = "/".join(url.path.split("/")[3:5])
                self._model(name, tree="/tree/" in url.path)
            elif "/resolve/" not in url.path:
                self._send(404, b"{}", {})
            else:
                owner, model, _, _, file = url.path.strip("/").split("/", 4)
                self._file(f"{owner}/{model}", file, with_body=with_body)

        def _model(self, name: str, *, tree: bool) -> None:
            if name not in hub.models:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return
            files = [{"rfilename": file, "size": len(data)} for file, data in hub.models[name].items()]
            if tree:
                entries = [{"type": "file", "path": one["rfilename"], "size": one["size"], "oid": "0"} for one in files]
                self._send(200, json.dumps(entries).encode(), {})
                return
            self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode(), {})

        def _file(self, name: str, file: str, *, with_body: bool) -> None:
            if name in hub.gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
                return
            data = hub.models[name][file]
            etag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            first = 0
            if (wanted := self.headers.get("Range")) is not None:
                first = int(wanted.removeprefix("bytes=").partition("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self._send(206 if wanted else 200, data[first:], headers, with_body=with_body, slowly=True)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True, slowly: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not with_body:
                return
            step = max(hub.bytes_a_second // 20, 1) if slowly and hub.bytes_a_second else len(body) or 1
            for start in range(0, len(body), step):
                try:
                    self.wfile.write(body[start : start + step])
                except OSError:  # the client has gone
                    return
                if step < len(body):
                    time.sleep(0.05)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
