"""POST of JSON to an address that the user gave: a webhook, a model's endpoint. All HTTP of ours goes through here.

No redirect is followed, since the headers may hold an API key; an address is https, or plain http to this machine,
unless the caller allows plain http; a reply is bounded in size and time. Messages name no user name and no password.

httpx is imported when something is sent: it would take a tenth of the app's start, and few runs post anything.
"""

import ipaddress
import json
import time
from collections.abc import Mapping
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
    """

    def __init__(self, url: str, *, timeout: float, allow_http: bool = False, max_bytes: int = MOST_BYTES) -> None:
        import httpx

        self._url = _parsed(url, allow_http=allow_http)
        self._timeout = timeout
        self._max_bytes = max_bytes
        # Through a proxy of the environment only under TLS: a proxy reads the headers of plain http, and so the key.
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
            trust_env=self._url.scheme == "https",
        )

    def post(self, document: Mapping[str, Any], *, headers: Mapping[str, str]) -> bytes:
        """Send a JSON object and return the body of the response.

        Args:
            document: the body.
            headers: in addition to the content type.

        Raises:
            PostError: there is no response, or one with an error status, a redirect, or a body that is too long or cut.
        """
        import httpx

        deadline = time.monotonic() + self._timeout
        # Not compressed: a few bytes could become gigabytes.
        sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            with self._client.stream("POST", self._url, content=json.dumps(document), headers=sent) as response:
                if response.is_redirect:
                    target = shown_address(str(self._url.join(response.headers.get("location", ""))))
                    raise PostError(
                        f"it redirects to {target}; give that address if it is the right one",
                        status=response.status_code,
                    )
                if not response.is_success:
                    raise self._error(response, deadline)
                if response.headers.get("content-encoding", "identity").lower() != "identity":
                    raise PostError("its reply is compressed, though that was not asked for")
                return self._body(response, deadline, self._max_bytes)
        except httpx.TimeoutException:
            raise PostError(f"no answer within {self._timeout:.0f} s", transient=True) from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise PostError(str(error) or type(error).__name__, transient=True) from error
        except (httpx.InvalidURL, ValueError) as error:  # the target of a redirect that is no address
            raise PostError(f"its reply is no HTTP that can be understood: {type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self, response: "httpx.Response", deadline: float, most: int) -> bytes:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > most:
                raise PostError(f"its reply is longer than {most:,} bytes")
            if time.monotonic() > deadline:
                raise PostError(f"its reply did not end within {self._timeout:.0f} s", transient=True)
        return bytes(body)

    def _error(self, response: "httpx.Response", deadline: float) -> PostError:
        beginning = bytearray()
        for chunk in response.iter_raw(_SHOWN):
            beginning += chunk
            if len(beginning) >= _SHOWN or time.monotonic() > deadline:
                break
        return PostError(
            f"HTTP status {response.status_code} {response.reason_phrase}".rstrip(),
            status=response.status_code,
            transient=response.status_code in _TRANSIENT,
            retry_after=_retry_after(response.headers.get("retry-after")),
            body=bytes(beginning[:_SHOWN]).decode("utf-8", "replace"),
        )


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
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{shown_address(url)!r} is no http(s) address")
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
