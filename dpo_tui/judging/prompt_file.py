"""Reader of prompt files: text with one prompt a line, or JSON rows with a prompt or messages."""

import json
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts
from dpo_tui.data.pairs.pair import Message, Unreadable
from dpo_tui.data.rows.messages import is_messages, messages_of
from dpo_tui.errors import DataError
from dpo_tui.text.whole_file import MOST_OF_A_MODEL, read_whole_text

_TEXT_KEYS = ("prompt", "question", "instruction", "text")
_JSON_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".xlsx")
"""Files whose lines are no prompts."""


def read_prompts(path: Path) -> list[list[Message]]:
    """Read the prompts of a file in its order, repetitions left out.

    ``.jsonl`` has one JSON object a line, ``.json`` a list of them or a single one: ``prompt`` (text or messages),
    ``question``, ``instruction``, ``text`` or ``messages``. A turn of the assistant at the end of messages is left out.
    Any other file has one prompt a line, but for tables and rows of JSON, which are refused.

    Raises:
        DataError: the file cannot be read, or a row has no prompt.
    """
    try:
        text = read_whole_text(path, MOST_OF_A_MODEL, encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text, at byte {error.start}") from None
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        raise DataError(f"{path}: is a table", hint="write its prompts into a text file, one a line, or as JSON lines")
    if suffix == ".json":
        document = _parse(path, text, 1)
        rows = document if isinstance(document, list) else [document]
        prompts = [_prompt(path, row, number) for number, row in enumerate(rows, start=1)]
    else:
        # Lines end with a line feed alone: str.splitlines would also cut at U+2028 and others, which text may hold.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if suffix in _JSON_LINES:
            prompts = [_prompt(path, _parse(path, line, number), number) for number, line in lines]
        else:
            if lines and _is_row(lines[0][1]):
                raise DataError(f"{path}: has JSON rows, and its name does not say so", hint="call it *.jsonl")
            prompts = [[{"role": "user", "content": line.strip()}] for _, line in lines]
    for number, prompt in enumerate(prompts, start=1):
        if not _is_unicode(prompt):
            raise DataError(f"{path}: prompt {number} is not Unicode text: it has half of a surrogate pair")
    distinct = different_prompts(prompts)
    if not distinct:
        raise DataError(f"{path}: there is no prompt in it")
    return distinct


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}:{line}: not valid JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{path}:{line}: JSON that is nested too deep") from None


def _prompt(path: Path, row: Any, number: int) -> list[Message]:
    if isinstance(row, str) and row.strip():
        return [{"role": "user", "content": row}]
    if isinstance(row, dict):
        if row.get("tools"):
            raise DataError(
                f"{path}: row {number} has tools, and sampled answers are given none",
                hint="leave out `tools` where the prompt needs none",
            )
        messages = row.get("messages") or row.get("prompt")
        if isinstance(messages, list) and is_messages(messages):
            return _conversation(path, messages, number)
        for key in _TEXT_KEYS:
            if isinstance(row.get(key), str) and row[key].strip():
                return [{"role": "user", "content": row[key]}]
    raise DataError(
        f"{path}: row {number} has no prompt", hint="expected text, or an object with prompt, question or messages"
    )


def _conversation(path: Path, messages: list[Any], number: int) -> list[Message]:
    """Read messages in either spelling, without an answer at their end; what nobody can answer is refused.

    Raises:
        DataError: a message cannot be read, the last one is empty, or the assistant has the last word.
    """
    try:
        found = messages_of(messages, "messages")
    except Unreadable as error:
        raise DataError(f"{path}: row {number}: {error}") from None
    if len(found) > 1 and found[-1]["role"] == "assistant":
        found.pop()
    if found[-1]["role"] == "assistant":
        raise DataError(f"{path}: row {number} ends with a turn of the assistant, to which there is nothing to answer")
    if not str(found[-1].get("content") or "").strip():
        raise DataError(f"{path}: row {number} ends with an empty message")
    return found


def _is_row(line: str) -> bool:
    """Whether a line of a text file is an object of JSON."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_unicode(prompt: list[Message]) -> bool:
    try:
        json.dumps(prompt, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
