"""POST of JSON to an address that the user gave: a webhook, a model's endpoint. All HTTP of ours goes through here.

No redirect is followed, since the headers may hold an API key; an address is https, or plain http to this machine,
unless the caller allows plain http; a reply is bounded in size and time. Messages name no user name and no password.

The time of a reply is held by cutting its connection: a limit on each wait is not one, since a server may send a byte
of its headers or its body just before each wait ends.

httpx is imported when something is sent: it would take a tenth of the app's start, and few runs post anything.
"""

import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 4 << 20
"""Longest reply that is read."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes after which the same request may succeed: a timeout, a rate limit, a server that starts or is busy."""
_CONNECT_SECONDS = 20.0
_SHOWN = 500
"""Bytes of an error's body that are kept for the message."""


class PostError(OSError):
    """The address could not be reached, or answered with an error, a redirect, or too much.

    Attributes:
        status: of the response; None without one.
        transient: whether the same request may succeed later.
        retry_after: seconds that the server asks to wait for; None where it does not say.
        body: the beginning of the response, as text of unknown content.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient
        self.retry_after = retry_after
        self.body = body

    @property
    def redirects(self) -> bool:
        """Whether the address redirects to another one."""
        return self.status is not None and self.status // 100 == 3  # noqa: PLR2004 - 3xx


def check_address(url: str, *, allow_http: bool = False) -> None:
    """Refuse an address to which nothing is sent.

    Args:
        url: of any form.
        allow_http: accept plain http to other machines too.

    Raises:
        ValueError: it is no http(s) address, has a user name or password in it, or is plain http to another machine.
    """
    _parsed(url, allow_http=allow_http)


def shown_address(url: str) -> str:
    """Return an address as it may be shown: without user name, password, query and fragment, which can hold secrets."""
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        return "an address that cannot be read"
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))


class JsonPoster:
    """Sends JSON to one address, any number of times and from several threads. Use it as a context manager.

    Args:
        url: an http or https address.
        timeout: seconds that one reply may take, its body included.
        allow_http: accept plain http to other machines too.
        max_bytes: longest reply that is read.

    Raises:
        ValueError: the address is refused; see :func:`check_address`.
        PostError: the proxy that the environment names cannot be used.
    """

    def __init__(self, url: str, *, timeout: float, allow_http: bool = False, max_bytes: int = MOST_BYTES) -> None:
        self._url = _parsed(url, allow_http=allow_http)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._idle = [self._new_line()]

    def post(self, document: Mapping[str, Any], *, headers: Mapping[str, str]) -> bytes:
        """Send a JSON object and return the body of the response.

        Args:
            document: the body.
            headers: in addition to the content type.

        Raises:
            PostError: there is no response, or one with an error status, a redirect, or a body that is too long or cut.
        """
        import httpx

        # Not compressed: a few bytes could become gigabytes.
        sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        began = False
        with self._line() as line, line.deadline(self._timeout):
            try:
                with line.stream(self._url, json.dumps(document), sent) as response:
                    began = True
                    body = self._body(response)
            except (httpx.TransportError, httpx.StreamError, httpx.InvalidURL, ValueError) as error:
                if not line.cut and not isinstance(error, httpx.TimeoutException):
                    raise self._unreadable(error) from None
                body = b""
                line.cut = True
            # Looked at also where nothing failed: a reply that ends with its connection looks whole when that is cut.
            if line.cut:
                what = "its reply did not end" if began else "no answer"
                raise PostError(f"{what} within {self._timeout:.0f} s", transient=True)
            return body

    def close(self) -> None:
        """Close the connections; those in use are closed when their post ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _line(self) -> "Iterator[_Line]":
        """A line that no other thread uses meanwhile."""
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or self._new_line()
        try:
            yield line
        finally:
            with self._lock:
                keep = not line.cut and not self._closed
                if keep:
                    self._idle.append(line)
            if not keep:
                line.close()

    def _new_line(self) -> "_Line":
        import httpx

        # Through a proxy of the environment only under TLS: a proxy reads the headers of plain http, and so the key.
        try:
            return _Line(self._timeout, trust_env=self._url.scheme == "https")
        except (ImportError, ValueError, httpx.InvalidURL):
            # httpx's words have the proxy's address in them, and so its user name.
            raise PostError(
                "the proxy that HTTPS_PROXY or ALL_PROXY names cannot be used: it is no http(s) address"
            ) from None

    @staticmethod
    def _unreadable(error: Exception) -> PostError:
        import httpx

        if isinstance(error, httpx.TransportError | httpx.StreamError):
            return PostError(str(error) or type(error).__name__, transient=True)
        return PostError(f"its reply is no HTTP that can be understood: {type(error).__name__}")

    def _body(self, response: "httpx.Response") -> bytes:
        if response.is_redirect:
            target = shown_address(str(self._url.join(response.headers.get("location", ""))))
            raise PostError(
                f"it redirects to {target}; give that address if it is the right one", status=response.status_code
            )
        if not response.is_success:
            raise self._error(response)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise PostError("its reply is compressed, though that was not asked for")
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > self._max_bytes:
                raise PostError(f"its reply is longer than {self._max_bytes:,} bytes")
        return bytes(body)

    @staticmethod
    def _error(response: "httpx.Response") -> PostError:
        beginning = bytearray()
        for chunk in response.iter_raw(_SHOWN):
            beginning += chunk
            if len(beginning) >= _SHOWN:
                break
        return PostError(
            f"HTTP status {response.status_code} {response.reason_phrase}".rstrip(),
            status=response.status_code,
            transient=response.status_code in _TRANSIENT,
            retry_after=_retry_after(response.headers.get("retry-after")),
            body=bytes(beginning[:_SHOWN]).decode("utf-8", "replace"),
        )


class _Line:
    """A client with one connection at a time, which another thread can cut.

    Args:
        timeout: seconds that each wait may take.
        trust_env: whether proxies and certificates of the environment are used.
    """

    def __init__(self, timeout: float, *, trust_env: bool) -> None:
        import httpx

        self.cut = False
        self._socket: socket.socket | None = None
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
            trust_env=trust_env,
            limits=httpx.Limits(max_connections=1),
        )

    @contextmanager
    def stream(self, url: "httpx.URL", body: str, headers: Mapping[str, str]) -> "Iterator[httpx.Response]":
        """Send a POST; the body of the response is read within the block."""
        extensions = {"trace": self._note_socket}
        with self._client.stream("POST", url, content=body, headers=headers, extensions=extensions) as response:
            yield response

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block does not end in time; `cut` tells afterwards."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _cut(self) -> None:
        self.cut = True
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # Of the plain socket also under TLS: the TLS object is in use by the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket of each new connection, and of what TLS makes of it, as httpcore's trace has them."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.cut:
                self._shut_down()


def post_json(
    url: str, document: Mapping[str, Any], *, headers: Mapping[str, str], timeout: float, allow_http: bool = False
) -> bytes:
    """Send one JSON object and return the body of the response; see :class:`JsonPoster`.

    Raises:
        PostError: there is no response, or not the one that is expected.
        ValueError: the address is refused; see :func:`check_address`.
    """
    with JsonPoster(url, timeout=timeout, allow_http=allow_http) as poster:
        return poster.post(document, headers=headers)


def _parsed(url: str, *, allow_http: bool) -> "httpx.URL":
    # The parser that sends is the one that decides: two parsers can read two hosts in one address.
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        raise ValueError("this is no http(s) address that can be read") from None
    # Without `//` a password before an @ is no user info to the parser: nothing of such an address is shown.
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("this is no http(s) address")
    if parsed.port is not None and not 0 < parsed.port < 1 << 16:
        raise ValueError(f"the address of {parsed.host} has a port that does not exist: {parsed.port}")
    if parsed.userinfo:
        raise ValueError(f"the address of {parsed.host} has a user name or password in it, which is not sent")
    if parsed.scheme == "http" and not allow_http and not _is_loopback(parsed.host):
        raise ValueError(f"{shown_address(url)} is plain http to another machine: whoever is between reads everything")
    return parsed


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, section 10.2.3); None where there is none."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
