"""Changes of an input that leave most of it a document: one value, key, line or word at a time.

Bytes changed at random are mostly no document any more, so that a reader refuses them where it parses, and what it does
with a document of unusual shape is not reached.
"""

import ast
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, 1 << 63, 1 << 70, 10**400, -(10**30)),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "x",
        "a\nb",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "é\u202e",
        "1e-5",
        "../..",
        "/dev/zero",
        "x" * 300,
        "9" * 5000,
    ),
    *([], {}, [[]], [{}], {"": None}, [None], ["x"], {"x": {"x": []}}),
)
"""Values that readers tend not to expect, by their type or their size."""
_ODD_WORDS = (
    *("null", "true", "[]", "{}", "''", '""', "-1", "0", "nan", "inf", "1e999", "9" * 5000, "0x" + "f" * 4000, "~"),
    *(
        "2001-99-99",
        "1979-05-27T07:32:00Z",
        "!!int",
        "!!float x",
        "!!timestamp x",
        "!!bool x",
        "!!binary x",
        "*a",
        "&a",
    ),
    *(
        "[" * 2000,
        "{a: " * 500,
        "|",
        ">",
        "#",
        '"""',
        "\x1b[31m",
        "\x9b",
        "\u202e",
        "\ud800",
        "%",
        ":",
        "=",
        "<<",
        "---",
    ),
)
"""The same as they stand in text: of TOML, YAML, CSV, logs and templates."""
_TOKEN = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[\w./+-]+|\S")
_NAME = re.compile(r"[A-Za-z_][\w./ -]{0,40}")
_MOST_WORDS = 3000


def words_of(read: Callable[[], object], package: str) -> list[str]:
    """Short texts that stand in the modules of a package that a call passes through: names of fields, kinds, states."""
    files: set[str] = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and package in frame.f_code.co_filename:
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        read()
    finally:
        sys.setprofile(None)
    trees = (ast.parse(Path(file).read_bytes()) for file in sorted(files))
    nodes = [node for tree in trees for node in ast.walk(tree)]
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return sorted(word for word in found if _NAME.fullmatch(word))[:_MOST_WORDS]


class DocumentMutator:
    """Changes inputs, of which the first byte may choose a kind of file.

    Args:
        words: that the reader knows.
    """

    def __init__(self, words: list[str]) -> None:
        self._words = words or ["x"]

    def __call__(self, data: bytes, most: int, seed: int) -> bytes:
        """Return another input of at most ``most`` bytes."""
        chance = random.Random(seed)
        if not data or chance.random() < 0.3:
            return _other_bytes(data, chance)[:most]
        kind, content = (data[:1], data[1:]) if data[0] < ord("\t") else (b"", data)
        if kind and chance.random() < 0.03:
            kind = bytes([chance.randrange(9)])
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            content = self._changed(content, chance)
        return (kind + content)[:most]

    def _changed(self, content: bytes, chance: random.Random) -> bytes:
        lines = content.split(b"\n")
        at = chance.randrange(len(lines))
        whole, one = _document(content), _document(lines[at])
        if whole is not None and chance.random() < 0.9:
            return _dump(self._odd(whole, chance))
        if one is not None and chance.random() < 0.9:
            lines[at] = _dump(self._odd(one, chance))
        elif (choice := chance.random()) < 0.1:
            del lines[at]
        elif choice < 0.2:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        elif choice < 0.35:
            between = chance.choice((": ", " = ", "=", "|", ","))
            lines.insert(at, f"{self._word(chance)}{between}{self._odd_word(chance)}".encode("utf-8", "surrogatepass"))
        else:
            lines[at] = self._other_token(lines[at], chance)
        return b"\n".join(lines)

    def _other_token(self, line: bytes, chance: random.Random) -> bytes:
        text = line.decode("utf-8", "surrogateescape")
        tokens = list(_TOKEN.finditer(text))
        new = self._odd_word(chance) if chance.random() < 0.6 else self._word(chance)
        begin, end = chance.choice(tokens).span() if tokens else (0, 0)
        if chance.random() < 0.2:
            begin = end
        return (text[:begin] + new + text[end:]).encode("utf-8", "surrogatepass" if "\ud800" in new else "replace")

    def _odd(self, value: Any, chance: random.Random) -> Any:
        """A document with one value or key of it changed."""
        if isinstance(value, dict) and value and chance.random() < 0.85:
            key = chance.choice(list(value))
            choice = chance.random()
            if choice < 0.1:
                return {name: item for name, item in value.items() if name != key}
            if choice < 0.25:
                return {**value, self._word(chance): self._odd_value(value, chance)}
            if choice < 0.3:
                return {(self._word(chance) if name == key else name): item for name, item in value.items()}
            return {**value, key: self._odd(value[key], chance)}
        if isinstance(value, list) and value and chance.random() < 0.85:
            at = chance.randrange(len(value))
            if chance.random() < 0.2:
                return value[:at] + value[at : at + 1] * chance.choice((0, 2, 3)) + value[at + 1 :]
            return [self._odd(item, chance) if number == at else item for number, item in enumerate(value)]
        return self._odd_value(value, chance)

    def _odd_value(self, value: Any, chance: random.Random) -> Any:
        choice = chance.random()
        if choice < 0.6:
            return chance.choice(ODD_VALUES)
        return self._word(chance) if choice < 0.8 else chance.choice(([value], {self._word(chance): value}, str(value)))

    def _word(self, chance: random.Random) -> str:
        return chance.choice(self._words)

    def _odd_word(self, chance: random.Random) -> str:
        return chance.choice(_ODD_WORDS) if chance.random() < 0.7 else self._word(chance)


def _other_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        begin = chance.randrange(len(changed) + 1)
        end = begin + chance.choice((0, 0, 1, 1, 2, 4, 16))
        other = chance.randrange(len(data) + 1)
        part = data[other : other + chance.choice((1, 4, 16, 64))]
        one = bytes([chance.choice((0, 1, 8, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
        changed[begin:end] = chance.choice((b"", one, one * chance.choice((1, 2, 8)), chance.randbytes(2), part))
    return bytes(changed)


def _document(content: bytes) -> Any:
    """The object or list that some JSON is; None for anything else."""
    if not content.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def _dump(document: Any) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b"{}"
