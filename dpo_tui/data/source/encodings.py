"""Find the encoding of a text file, and read it as a stream of UTF-8 blocks.

Most files are UTF-8, which a sample of bytes shows. A byte-order mark decides; regular NUL bytes mean UTF-16 or UTF-32.
Only for other files is an encoding guessed (:mod:`dpo_tui.data.source.encoding_guess`), and the guess is said.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from dpo_tui.data.source.archives import BLOCK_BYTES, head_of, unpacked
from dpo_tui.data.source.source import DataFile
from dpo_tui.errors import DataError

# UTF-32 before UTF-16: the little-endian mark of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF8 = frozenset({"utf-8", "utf-8-sig"})
_HEAD_BYTES = 1 << 16
_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16
"""Of a plain file as many samples of this size are looked at, spread over all of it: its first rows may be ASCII."""
_PLAIN = 8
"""So many characters beyond ASCII, all of them valid UTF-8, are no coincidence in a file of another encoding."""
_MIXED_SHARE = 0.1
"""From this share of UTF-8 among the lines beyond ASCII a file is UTF-8 with damaged lines, and no other encoding."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding that a file is read with.

    Args:
        name: as Python's codecs know it.
        note: what was assumed and how sure that is, in words; empty for plain UTF-8 and Unicode with its mark.
        guessed: whether it was guessed from the bytes, not named and not evident.
    """

    name: str
    note: str = ""
    guessed: bool = False

    @property
    def is_utf8(self) -> bool:
        """Whether blocks are passed on as they are, apart from a byte-order mark."""
        return self.name in _UTF8


def utf8_blocks(file: DataFile) -> tuple[Encoding, Iterator[bytes]]:
    """The encoding of a text file, and its content as UTF-8 blocks without a byte-order mark.

    Bytes that are invalid in UTF-8 are passed on, so that only the row they are in fails. Bytes that are invalid in
    another encoding end the stream with an error: rows cannot be told apart there for certain.

    Raises:
        DataError: it is no text, or its encoding is not certain; while reading: it has bytes that are invalid in its
            encoding, and what :func:`dpo_tui.data.source.archives.unpacked` raises.
    """
    encoding = encoding_of(file)
    blocks = unpacked(file)
    if encoding.name == "utf-8":
        return encoding, blocks
    return encoding, _without_mark(blocks) if encoding.is_utf8 else _transcoded(blocks, encoding, file.path)


def encoding_of(file: DataFile) -> Encoding:
    """Find the encoding of a text file from its byte-order mark, its setting, or a sample of its bytes.

    Raises:
        DataError: it is no text, or its encoding is not certain.
    """
    try:
        status = file.path.stat()
    except OSError as error:
        raise DataError(f"{file.path} cannot be read: {error.strerror or error}") from error
    return _cached_encoding(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _cached_encoding(file: DataFile, size: int, modified_ns: int) -> Encoding:
    beginning = head_of(file, _HEAD_BYTES)
    for mark, name in _BYTE_ORDER_MARKS:
        if beginning.startswith(mark):
            return Encoding(name, _not_as_named(file, name))
    if file.encoding is not None:
        return _named(file, beginning)
    if (wide := _wide_encoding(beginning, file.path)) is not None:
        return wide
    sample = _Sample.of(file, beginning, size)
    if not sample.invalid:
        return Encoding("utf-8")
    _raise_if_binary(beginning, file.path)
    if sample.multibyte >= _MIXED_SHARE * (sample.multibyte + len(sample.invalid)):
        lines = "line is" if len(sample.invalid) == 1 else "lines are"
        note = (
            f"{file.path.name} is read as UTF-8, but {len(sample.invalid):,} {lines} not UTF-8 in the part that was "
            f"looked at, beside {sample.multibyte:,} that are: rows with other bytes cannot be used"
        )
        return Encoding("utf-8", note)
    from dpo_tui.data.source.encoding_guess import guess  # loads charset-normalizer, which few files need

    found = guess(b"\n".join(sample.invalid), file.path)
    return Encoding(found.encoding, found.note(file.path.name), guessed=True)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The lines of a sample that have bytes beyond ASCII.

    Args:
        multibyte: how many of them are valid UTF-8.
        invalid: the others.
    """

    multibyte: int
    invalid: list[bytes]

    @classmethod
    def of(cls, file: DataFile, beginning: bytes, size: int) -> "_Sample":
        multibyte = 0
        invalid: list[bytes] = []
        for block in _spread(file, beginning, size):
            try:
                block.decode("utf-8")
            except UnicodeDecodeError:
                for line in block.split(b"\n"):
                    if not line.isascii():
                        try:
                            line.decode("utf-8")
                        except UnicodeDecodeError:
                            invalid.append(line)
                        else:
                            multibyte += 1
            else:
                multibyte += 0 if block.isascii() else sum(not line.isascii() for line in block.split(b"\n"))
        return cls(multibyte, invalid)


def _spread(file: DataFile, beginning: bytes, size: int) -> Iterator[bytes]:
    """Blocks of whole lines: the beginning, and for a plain file some more of the rest."""
    whole = len(beginning) < _HEAD_BYTES
    yield beginning if whole else _whole_characters(_to_last_line(beginning))
    if whole or file.packed is not None or size <= _HEAD_BYTES:
        return
    step = max((size - _HEAD_BYTES) // _SAMPLES, _SAMPLE_BYTES)
    with file.path.open("rb") as stream:
        for start in range(_HEAD_BYTES, size, step):
            stream.seek(start)
            block = stream.read(_SAMPLE_BYTES)
            first = block.find(b"\n") + 1
            if first or start + _SAMPLE_BYTES < size:
                yield _whole_characters(_to_last_line(block[first:]) if start + _SAMPLE_BYTES < size else block[first:])
            else:
                yield _whole_characters(block)


def _to_last_line(block: bytes) -> bytes:
    end = block.rfind(b"\n") + 1
    return block[:end] if end else block


def _whole_characters(block: bytes) -> bytes:
    """A block without the parts of characters that it begins and ends with; a line longer than the sample is cut."""
    start = 0
    while start < min(len(block), 3) and 0x80 <= block[start] < 0xC0:  # noqa: PLR2004 (continuation bytes of UTF-8)
        start += 1
    for back in range(1, min(len(block), 4) + 1):
        if block[-back] >= 0xC0:  # noqa: PLR2004 (a lead byte)
            length = 2 if block[-back] < 0xE0 else 3 if block[-back] < 0xF0 else 4  # noqa: PLR2004
            return block[start : len(block) - back] if length > back else block[start:]
        if block[-back] < 0x80:  # noqa: PLR2004 (ASCII)
            break
    return block[start:]


def _named(file: DataFile, beginning: bytes) -> Encoding:
    """The encoding that the user named, unless the file is plainly UTF-8: it would become unreadable text."""
    name = codecs.lookup(file.encoding or "").name
    if name in _UTF8:
        return Encoding("utf-8")
    sample = _Sample.of(file, beginning, file.path.stat().st_size)
    if sample.multibyte and not sample.invalid:
        characters = beginning.decode("utf-8", "ignore")
        if sum(not sign.isascii() for sign in characters) >= _PLAIN or sample.multibyte >= _PLAIN:
            return Encoding("utf-8", _not_as_named(file, "utf-8"))
    return Encoding(name)


def _not_as_named(file: DataFile, name: str) -> str:
    if file.encoding is None or codecs.lookup(file.encoding).name.split("-")[:2] == name.split("-")[:2]:
        return ""
    return f"{file.path.name} is {name.removesuffix('-sig').upper()} and is read so, not as {file.encoding}"


def _wide_encoding(beginning: bytes, path: Path) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark, by the places of its NUL bytes; None if there are next to none.

    Raises:
        DataError: there are NUL bytes, and the file is neither.
    """
    nuls = beginning.count(0)
    if not nuls:
        return None
    for name, width, zeros in (
        ("utf-32-le", 4, (2, 3)),
        ("utf-32-be", 4, (0, 1)),
        ("utf-16-le", 2, (1,)),
        ("utf-16-be", 2, (0,)),
    ):
        sample = beginning[: len(beginning) // width * width]
        if len(sample) < 4:  # noqa: PLR2004
            continue
        found = [sample[place::width].count(0) for place in range(width)]
        units = len(sample) // width
        # ASCII has NULs in all but one byte of each character, and letters of other scripts none in the first two bytes
        # of UTF-32. 80 % leave room for other letters, which half of the characters may be in UTF-16.
        least = 0.9 if width == 4 else 0.4  # noqa: PLR2004
        if all(found[place] >= least * units for place in zeros) and (
            width == 4 or sum(found) * 0.9 <= found[zeros[0]]  # noqa: PLR2004
        ):
            try:
                sample[: len(sample) - width].decode(name)
            except UnicodeDecodeError:
                continue
            label = name.upper().removesuffix("-LE").removesuffix("-BE")
            order = "little" if name.endswith("le") else "big"
            note = f"{path.name} is read as {label} ({order}-endian, without a byte-order mark), by its NUL bytes"
            return Encoding(name, note)
    if nuls * 100 > len(beginning):
        raise _binary(path)
    return None


def _raise_if_binary(beginning: bytes, path: Path) -> None:
    controls = sum(byte < 32 and byte not in b"\t\n\r" for byte in beginning)  # noqa: PLR2004 (C0 controls)
    if controls * 20 > len(beginning):
        raise _binary(path)


def _binary(path: Path) -> DataError:
    return DataError(f"{path} is a binary file, not text", hint="Give JSONL, JSON, CSV or Parquet.")


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = True
    for block in blocks:
        yield block.removeprefix(codecs.BOM_UTF8) if first else block
        first = False


def _transcoded(blocks: Iterator[bytes], encoding: Encoding, path: Path) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding.name)("strict")
    line = 1
    for block in chain(_pieces(blocks), (b"",)):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(encoding.name, "ignore").count("\n")
            raise _undecodable(path, encoding, line, error) from error
        line += text.count("\n")
        # A lone surrogate, which UTF-16 and UTF-32 can hold, has no bytes in UTF-8: the row it is in fails.
        yield text.encode("utf-8", "surrogatepass")


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), BLOCK_BYTES):
            yield block[start : start + BLOCK_BYTES]


def _undecodable(path: Path, encoding: Encoding, line: int, error: UnicodeDecodeError) -> DataError:
    shown = error.object[error.start : error.end].hex(" ")
    if encoding.guessed:
        what = f"{path} was taken for {encoding.name} by a part of it, but line {line:,} has the bytes {shown}"
        hint = 'Name its encoding with encoding = "…" (inspect: --encoding), or save the file as UTF-8.'
    else:
        what = f"{path} is not {encoding.name}: line {line:,} has the bytes {shown} ({error.reason})"
        hint = "Name another encoding, leave it out so that it is recognised, or save the file as UTF-8."
    return DataError(what, hint=hint)
