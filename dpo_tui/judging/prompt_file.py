"""Reader of prompt files: text with one prompt a line, or JSON rows with a prompt or messages."""

import json
from pathlib import Path
from typing import Any

from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts
from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import DataError

_TEXT_KEYS = ("prompt", "question", "instruction", "text")


def read_prompts(path: Path) -> list[list[Message]]:
    """Read the prompts of a file in its order, repetitions left out.

    ``.jsonl`` has one JSON object a line, ``.json`` a list of them or a single one: ``prompt`` (text or messages),
    ``question``, ``instruction``, ``text`` or ``messages``. A turn of the assistant at the end of messages is left out.
    Any other file has one prompt a line.

    Raises:
        DataError: the file cannot be read, or a row has no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text, at byte {error.start}") from None
    if path.suffix == ".json":
        document = _parse(path, text, 1)
        rows = document if isinstance(document, list) else [document]
        prompts = [_prompt(path, row, number) for number, row in enumerate(rows, start=1)]
    else:
        # Lines end with a line feed alone: str.splitlines would also cut at U+2028 and others, which text may hold.
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if path.suffix == ".jsonl":
            prompts = [_prompt(path, _parse(path, line, number), number) for number, line in lines]
        else:
            prompts = [[{"role": "user", "content": line.strip()}] for _, line in lines]
    distinct = different_prompts(prompts)
    if not distinct:
        raise DataError(f"{path}: there is no prompt in it")
    return distinct


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}:{line}: not valid JSON: {error}") from None


def _prompt(path: Path, row: Any, number: int) -> list[Message]:
    if isinstance(row, str) and row.strip():
        return [{"role": "user", "content": row}]
    if isinstance(row, dict):
        messages = row.get("messages") or row.get("prompt")
        if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
            return messages[:-1] if len(messages) > 1 and messages[-1].get("role") == "assistant" else messages
        for key in _TEXT_KEYS:
            if isinstance(row.get(key), str) and row[key].strip():
                return [{"role": "user", "content": row[key]}]
    raise DataError(
        f"{path}: row {number} has no prompt", hint="expected text, or an object with prompt, question or messages"
    )
