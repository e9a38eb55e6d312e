"""The one HTTP door: which addresses it refuses, what it reads back, and what its messages never hold."""

import gzip
import socket
import threading
from collections.abc import Iterator

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
    ],
)
def test_an_address_is_refused_in_words_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        check_address(url)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match=message):
        post_json(url, {}, headers={}, timeout=1)


@pytest.mark.parametrize("url", ["https://host/v1", "http://localhost:1/", "http://127.0.0.2/", "http://[::1]:1/v1"])
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


def test_a_reply_that_drips_ends_with_the_time_for_it() -> None:
    """Each byte comes in time, and the whole of it never."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not ended.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        try:
            with pytest.raises(PostError, match="did not end within") as refused:
                post_json(f"http://127.0.0.1:{listening.getsockname()[1]}/", {}, headers={}, timeout=0.6)
        finally:
            ended.set()
    assert refused.value.transient


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
