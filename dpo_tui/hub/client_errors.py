"""What an error of the hub client means. It raises its HTTP library's errors, and the library differs by version."""

_HTTP_LIBRARY_ERRORS = {"TransportError", "RequestException"}
"""Base classes of connection errors in httpx and in requests, by name: only one of the two is installed."""
_ERRORS_OF_CONNECTIONS = {"ReadError", "ReadTimeout", "WriteError", "WriteTimeout", "CloseError", "RemoteProtocolError"}
"""Errors after a connection was made, of httpx and of httpx2, by name."""


def http_status(error: Exception) -> int | None:
    """The HTTP status that the hub answered with; None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def is_unreachable(error: Exception) -> bool:
    """Whether the hub was not reached: no network, no answer, or ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return True
    if isinstance(error, HfHubHTTPError) or http_status(error) is not None:
        return False
    names = {base.__name__ for base in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & _HTTP_LIBRARY_ERRORS)


def had_connection(error: Exception) -> bool:
    """Whether an error came after somebody had taken the connection, and then gave no answer, or half of one."""
    return bool({base.__name__ for base in type(error).__mro__} & _ERRORS_OF_CONNECTIONS)


def first_line(error: Exception) -> str:
    """The first line of an error's text without the user's token, or the name of its class."""
    from huggingface_hub import get_token

    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    token = get_token()
    return text.replace(token, "…") if token else text
