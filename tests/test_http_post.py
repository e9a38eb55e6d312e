"""The one HTTP door: which addresses it refuses, what it reads back, and what its messages never hold."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from dpo_tui import http_post
from dpo_tui.http_post import JsonPoster, PostError, check_address, post_json, shown_address
from tests.support.chat_server import ChatServer, Raw, chat_server


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda text: text) as found:
        yield found


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no http"),
        ("localhost:8000/v1", "no http"),
        ("ftp://host/v1", "no http"),
        ("file:///etc/passwd", "no http"),
        ("http://", "no http"),
        ("http://[::1", "can be read"),
        ("https://user:hunter2@host/v1", "user name or password"),
        ("http://hunter2@localhost/v1", "user name or password"),
        ("http://host/v1?key=hunter2", "plain http to another machine"),
        ("http://10.0.0.1/v1", "plain http to another machine"),
        ("http://localhost.example.org/v1", "plain http to another machine"),
        ("http://127.0.0.1.example.org/v1", "plain http to another machine"),
        ("http://0.0.0.0/v1", "plain http to another machine"),
        ("http://[::]/v1", "plain http to another machine"),
        ("http://127.1/v1", "plain http to another machine"),
        ("http://2130706433/v1", "plain http to another machine"),
        ("http://0x7f.1/v1", "plain http to another machine"),
        ("http://localhost./v1", "plain http to another machine"),
        ("http://127.0.0.1%2eexample.org/v1", "plain http to another machine"),
        ("http://127.0.0.1\\.example.org/v1", "plain http to another machine"),
        ("http://example.org#@127.0.0.1/v1", "plain http to another machine"),
        ("http://example.org/@127.0.0.1/v1", "plain http to another machine"),
        ("http://127.0.0.1:80@example.org/v1", "user name or password"),
        ("http://127.0.0.1\\@example.org/v1", "user name or password"),
        ("http://[::1].example.org/v1", "can be read"),
        ("http://127.0.0.1\n.example.org/v1", "can be read"),
        ("https://host:99999/v1", "port that does not exist"),
        ("https://host:0/v1", "port that does not exist"),
        # Without the two slashes a parser takes none of these for a user name and a password.
        ("user:hunter2@host:8000/v1", "no http"),
        ("https:user:hunter2@host/v1", "no http"),
        ("https:/user:hunter2@host/v1", "no http"),
        ("https:///user:hunter2@host/v1", "no http"),
        ("//user:hunter2@host/v1", "no http"),
    ],
)
def test_an_address_is_refused_in_words_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        check_address(url)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match=message):
        post_json(url, {}, headers={}, timeout=1)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/v1",
        "http://localhost:1/",
        "HTTP://LOCALHOST/",
        "http://127.0.0.2/",
        "http://[::1]:1/v1",
        "http://[0:0::1]/",
    ],
)
def test_https_and_this_machine_are_accepted(url: str) -> None:
    check_address(url)


def test_plain_http_elsewhere_is_accepted_where_that_is_asked_for() -> None:
    check_address("http://node7:8000/v1", allow_http=True)
    with pytest.raises(ValueError, match="user name or password"):
        check_address("http://u:p@node7:8000/v1", allow_http=True)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown_address("https://user:pw@host:1/a/b?token=x#y") == "https://host:1/a/b"
    assert shown_address("http://[::1") == "an address that cannot be read"


@pytest.mark.parametrize("target", ["/elsewhere", "https://user:hunter2@evil/steal?key=hunter2", "http://[", ""])
def test_no_redirect_is_followed_and_its_target_is_shown_without_secrets(server: ChatServer, target: str) -> None:
    server.responses = [Raw(302, {"Location": target})]
    with pytest.raises(PostError) as refused:
        post_json(server.url, {}, headers={"Authorization": "Bearer hunter2"}, timeout=5)
    assert "hunter2" not in str(refused.value)
    assert not refused.value.transient
    assert server.paths == ["/v1"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_an_error(server: ChatServer, status: int) -> None:
    server.responses = [Raw(status, {"Location": "/elsewhere"})]
    with pytest.raises(PostError, match=r"it redirects to http://127\.0\.0\.1:\d+/elsewhere"):
        post_json(server.url, {}, headers={}, timeout=5)
    assert server.paths == ["/v1"]


def test_a_reply_that_is_too_long_is_not_read_to_its_end(server: ChatServer) -> None:
    server.responses = [Raw(body=b"x" * 1000), Raw(body=b"x" * 1001)]
    with JsonPoster(server.url, timeout=5, max_bytes=1000) as poster:
        assert len(poster.post({}, headers={})) == 1000
        with pytest.raises(PostError, match="longer than 1,000 bytes"):
            poster.post({}, headers={})


def test_a_compressed_reply_is_not_unpacked(server: ChatServer) -> None:
    """A few kilobytes could become gigabytes."""
    server.responses = [Raw(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"x" * (1 << 24)))]
    with pytest.raises(PostError, match="compressed"):
        post_json(server.url, {}, headers={}, timeout=5)
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_a_body_that_is_cut_off_may_be_asked_for_again(server: ChatServer) -> None:
    server.responses = [Raw(body=b"{", length=100)]
    with pytest.raises(PostError) as refused:
        post_json(server.url, {}, headers={}, timeout=5)
    assert refused.value.transient


@pytest.mark.parametrize(
    ("status", "transient"),
    [(400, False), (401, False), (404, False), (408, True), (429, True), (500, True), (503, True)],
)
def test_an_error_status_says_whether_it_may_pass(server: ChatServer, status: int, transient: bool) -> None:
    server.responses = [Raw(status, body=b"x" * 10_000)]
    with pytest.raises(PostError, match=f"HTTP status {status}") as refused:
        post_json(server.url, {}, headers={}, timeout=5)
    assert (refused.value.status, refused.value.transient) == (status, transient)
    assert refused.value.body == "x" * 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms(server: ChatServer, header: str, seconds: float | None) -> None:
    assert http_post._retry_after(header) == seconds


def test_nobody_there_and_nothing_in_time_may_pass() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(PostError) as refused:
            post_json(address, {}, headers={}, timeout=5)
        assert refused.value.transient
        listening.listen()
        with pytest.raises(PostError, match="no answer within 0 s") as refused:
            post_json(address, {}, headers={}, timeout=0.3)
        assert refused.value.transient


@contextmanager
def dripping(*pieces: bytes) -> Iterator[str]:
    """A server that sends the first pieces at once and the last one again and again; yields its address."""
    ended = threading.Event()

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"".join(pieces[:-1]))
                while not ended.wait(0.05):
                    connection.sendall(pieces[-1])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            ended.set()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([OK, b"Content-Length: 100000\r\n\r\n", b"x"], "did not end within"),
        ([OK, b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"], "did not end within"),
        # A body that ends with its connection looks whole, whoever ends it.
        ([OK, b"\r\n", b"{}"], "did not end within"),
        ([b"HTTP/1.1 500 No\r\nContent-Length: 400\r\n\r\n", b"x"], "did not end within"),
        ([OK, b"X: y", b"y"], "no answer within"),
        ([b"", b"HTTP/1.1 100 Continue\r\n\r\n"], "no answer within"),
    ],
    ids=["body", "chunks", "until the end", "error", "headers", "interim"],
)
def test_a_reply_that_drips_ends_with_the_time_for_it(pieces: list[bytes], message: str) -> None:
    """Each byte comes in time, and the whole of it never."""
    with dripping(*pieces) as address, pytest.raises(PostError, match=message) as refused:
        post_json(address, {}, headers={}, timeout=0.6)
    assert refused.value.transient


def test_connections_are_used_again_and_one_that_was_cut_is_not(server: ChatServer) -> None:
    with JsonPoster(server.url, timeout=30) as poster:
        server.responses = [Raw(body=b"1"), Raw(body=b"2")]
        assert [poster.post({}, headers={}) for _ in range(2)] == [b"1", b"2"]
        (line,) = poster._idle
        line._cut()
        with pytest.raises(PostError, match="no answer") as refused:
            poster.post({}, headers={})
        assert refused.value.transient
        server.responses = [Raw(body=b"3")]
        assert poster.post({}, headers={}) == b"3"
        assert poster._idle != [line]


def test_what_is_no_http_is_an_error_of_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(PostError):
            post_json(f"http://127.0.0.1:{listening.getsockname()[1]}/", {}, headers={}, timeout=5)


def test_a_proxy_of_the_environment_sees_no_plain_http(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read the key."""
    with chat_server(lambda text: text) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        server.responses = [Raw(body=b"{}")]
        assert post_json(server.url, {}, headers={}, timeout=5) == b"{}"
        assert proxy.paths == []


@pytest.mark.parametrize("proxy", ["foo://user:hunter2@host:1", "socks5://user:hunter2@host:1", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(PostError, match="HTTPS_PROXY or ALL_PROXY names cannot be used") as refused:
        post_json("https://host/v1", {}, headers={}, timeout=1)
    assert "user" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_proxy_under_tls_is_asked_for_a_tunnel_and_sees_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            seen.append(connection.recv(1 << 16))
            connection.sendall(b"HTTP/1.1 407 Sign in, hunter2\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pw@127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(PostError, match="407") as refused:
            post_json("https://judge.example/v1", {}, headers={"Authorization": "Bearer hunter2"}, timeout=5)
        thread.join(30)
    assert seen[0].startswith(b"CONNECT judge.example:443")
    assert b"hunter2" not in seen[0]
    assert "pw" not in str(refused.value)
