"""A server of HTTP that breaks: python broken_server.py MODE GOOD [PORT] prints its port and answers.

The first GOOD requests are answered as an OpenAI-compatible endpoint does; those after them as MODE says.
"""

import json
import socket
import sys
import threading
import time

MODES = ("closed", "reset", "silent", "garbage", "error", "truncated", "redirect", "endless", "not json", "good")
_ENDLESS = 64 << 20


def main(mode: str, good: int, port: int) -> None:
    """Serve for ever."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(64)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    count = 0
    while True:
        connection, _ = listening.accept()
        count += 1
        if count > good and mode == "closed":
            # The port is refused from now on, as where the server has died.
            listening.close()
            connection.close()
            time.sleep(3600)
        arguments = (connection, "good" if count <= good else mode, count)
        threading.Thread(target=_answer, args=arguments, daemon=True).start()


def _answer(connection: socket.socket, mode: str, count: int) -> None:
    with connection:
        if mode == "reset":
            return
        connection.settimeout(10)
        try:
            _read(connection)
            if mode == "silent":
                time.sleep(3600)
            connection.sendall(_reply(mode, count))
            if mode == "endless":
                for _ in range(_ENDLESS >> 16):
                    connection.sendall(bytes(1 << 16))
        except OSError:
            return


def _read(connection: socket.socket) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := connection.recv(1 << 16)):
            return
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length and (more := connection.recv(1 << 16)):
        body += more


def _reply(mode: str, count: int) -> bytes:
    text = json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": f"answer {count}"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    ).encode()
    if mode == "garbage":
        return b"\x00\xff\x1b]0;title\x07 not HTTP\r\n\r\n"
    if mode == "error":
        return _response("503 Service Unavailable", b"\x1b[31mbusy")
    if mode == "redirect":
        return _response("302 Found", b"", b"Location: http://127.0.0.1:9/\r\n")
    if mode == "not json":
        return _response("200 OK", b"<html>\x1b[2J</html>")
    if mode in {"truncated", "endless"}:
        return _response("200 OK", text, length=_ENDLESS)
    return _response("200 OK", text)


def _response(status: str, body: bytes, headers: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {size}\r\n"
    return head.encode() + headers + b"\r\n" + body


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
