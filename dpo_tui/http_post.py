"""Post JSON to an address that the user gave: a webhook, a judge model's endpoint. Standard library only."""

import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import http.client
    import urllib.request


def post_json(url: str, document: Mapping[str, Any], *, headers: Mapping[str, str], timeout: float) -> bytes:
    """Send a JSON object and return the body of the response.

    A redirect is an error: urllib would send all headers, including an API key, to whatever host the response names.

    Args:
        url: an http or https address.
        document: the body.
        headers: in addition to the content type.
        timeout: seconds.

    Raises:
        OSError: the address cannot be reached, answers with an error status, or redirects.
        http.client.HTTPException: the response is not HTTP.
        ValueError: the address does not begin with http:// or https://.
    """
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http(s) address")
    import urllib.error  # imported here: it takes a tenth of the app's start, and few runs post anything
    import urllib.request

    class RaiseOnRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(  # noqa: PLR0917 - the signature is urllib's
            self,
            req: "urllib.request.Request",
            fp: IO[bytes],
            code: int,
            msg: str,
            headers: "http.client.HTTPMessage",
            newurl: str,
        ) -> None:
            message = f"it redirects to {newurl}; give that address if it is the right one"
            raise urllib.error.HTTPError(req.full_url, code, message, headers, fp)

    request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
        url, json.dumps(document).encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    with urllib.request.build_opener(RaiseOnRedirect).open(request, timeout=timeout) as reply:
        answer: bytes = reply.read()
        return answer
