"""The child process that compiles and renders chat templates; see `dpo_tui.data.tokens.template_process`.

Requests are pickles of the parent's, each after its length in eight bytes, since messages may hold what JSON does not
give back, such as a date of a Parquet file. Answers are JSON lines: what a template wrote is never unpickled.
"""

import json
import pickle
import sys
from datetime import datetime
from typing import Any, BinaryIO

from dpo_tui.data.tokens.chat_template import TemplateLimitError, first_line
from dpo_tui.data.tokens.limited_template import LimitedTemplate

Definition = tuple[str, str | None, dict[str, str], datetime | None, float]
"""A template's text, that for conversations with tools, its special tokens, its time, and seconds for one rendering."""


def read_request(stream: BinaryIO) -> Any:
    """Read one request; None at the end."""
    head = stream.read(8)
    if len(head) < 8:  # noqa: PLR2004 - it ends in the middle of a length
        return None
    return pickle.loads(stream.read(int.from_bytes(head, "big")))  # noqa: S301 - of the process that started this one


def write_request(stream: BinaryIO, request: Any) -> None:
    """Write one request."""
    data = pickle.dumps(request, protocol=5)
    stream.write(len(data).to_bytes(8, "big"))
    stream.write(data)
    stream.flush()


class _Templates:
    """The templates that were opened, by number."""

    def __init__(self) -> None:
        self._opened: dict[int, LimitedTemplate] = {}

    def answer(self, request: Any) -> dict[str, Any]:
        """Do what a request says: open a template, or render conversations with one."""
        try:
            if request[0] == "open":
                return self._open(request[1], request[2])
            _, number, conversations, wanted = request
            texts = self._opened[number].render_all(conversations)
            return {"texts": texts if wanted else []}
        except TemplateLimitError as error:
            return {"limit": error.limit}
        except Exception as error:  # a template may raise anything
            return {"error": first_line(error)}

    def _open(self, number: int, definition: Definition) -> dict[str, Any]:
        source, for_tools, special, time, seconds = definition
        clock = datetime.now if time is None else lambda: time
        template = LimitedTemplate(source, special, "", for_tools=for_tools, clock=clock, seconds=seconds)
        self._opened[number] = template
        return {"variables": sorted(template.variables)}


def main() -> None:
    """Answer requests until stdin ends. This is the entry point of the child."""
    templates = _Templates()
    output = sys.stdout.buffer
    while (request := read_request(sys.stdin.buffer)) is not None:
        output.write(json.dumps(templates.answer(request)).encode() + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
