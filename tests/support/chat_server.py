"""An OpenAI-compatible endpoint on a real socket, whose model is a function, and which can misbehave."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Model = Callable[[str], str]
"""Takes the text of the last message, returns the reply."""


@dataclass(frozen=True)
class Raw:
    """A response as it goes out, in place of a reply.

    Attributes:
        status: of the response.
        headers: of the response, in addition to the length of the body.
        body: of the response.
        length: that is announced; None for the true one.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


@dataclass
class ChatServer:
    """What an endpoint was asked, and how it answers.

    Attributes:
        url: up to and including ``/v1``.
        bodies: of the requests, in order.
        headers: of the requests.
        paths: of the requests.
        busiest: the most requests that were under way at a time.
        responses: sent before the model is asked, one a request.
        respond: makes the response in place of the model.
        usage: whether tokens are counted.
    """

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    busiest: int = 0
    responses: list[Raw] = field(default_factory=list)
    respond: Callable[[str], Raw] | None = None
    usage: bool = True


def text_of(reply: str, *, finish_reason: str = "stop", usage: bool = True) -> bytes:
    """The body of a response of /chat/completions."""
    choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": finish_reason}
    document: dict[str, Any] = {"choices": [choice]}
    if usage:
        document["usage"] = {"completion_tokens": len(reply)}
    return json.dumps(document).encode()


def verdict(question: str, letter: str) -> str:
    """The reply of a judge that was asked a question: A, B or C with the question's own mark."""
    found = re.search(r"\[\[A (\w+)\]\]", question)
    assert found is not None
    return f"Because.\n[[{letter} {found[1]}]]"


@contextmanager
def chat_server(model: Model) -> Iterator[ChatServer]:
    """Serve a model on a free port of this machine. A ConnectionError of the model hangs up."""
    lock = threading.Lock()
    busy = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal busy
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                busy += 1
                found.busiest = max(found.busiest, busy)
                found.bodies.append(body)
                found.headers.append(dict(self.headers))
                found.paths.append(self.path)
                raw = found.responses.pop(0) if found.responses else None
            try:
                if raw is None and found.respond is not None:
                    raw = found.respond(body["messages"][-1]["content"])
                if raw is None:
                    text = model(body["messages"][-1]["content"])
                    cut = len(text) > body["max_tokens"]
                    reason = "length" if cut else "stop"
                    raw = Raw(body=text_of(text[: body["max_tokens"]], finish_reason=reason, usage=found.usage))
                self._send(raw)
            except ConnectionError:
                self.close_connection = True
            finally:
                with lock:
                    busy -= 1

        def do_GET(self) -> None:
            found.paths.append(f"GET {self.path}")
            self._send(Raw(404))

        def _send(self, raw: Raw) -> None:
            self.send_response(raw.status)
            for name, value in raw.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw.body) if raw.length is None else raw.length))
            self.end_headers()
            self.wfile.write(raw.body)
            self.close_connection = self.close_connection or raw.length is not None

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: clients that hang up are what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    found = ChatServer(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
