"""Find the encoding of a text file, and read it as a stream of UTF-8 blocks."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from dpo_tui.data.source.archives import head_of, unpacked
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


def utf8_blocks(file: DataFile) -> tuple[str, Iterator[bytes]]:
    """The encoding of a text file, and its content as UTF-8 blocks without a byte-order mark.

    Bytes that are invalid in UTF-8 are passed on, so that only the row they are in fails; in another encoding each
    becomes U+FFFD.

    Raises:
        DataError: it is no text; while reading, what :func:`dpo_tui.data.source.archives.unpacked` raises.
    """
    encoding = encoding_of(head_of(file), file.path)
    blocks = unpacked(file)
    if encoding == "utf-8":
        return encoding, blocks
    return encoding, _transcoded(blocks, encoding)


def encoding_of(beginning: bytes, path: Path) -> str:
    """Find the encoding of a text by its beginning.

    A byte-order mark decides; without one, NUL bytes in every second place mean UTF-16, and bytes that are not UTF-8
    mean Windows-1252.

    Args:
        beginning: the first bytes of the file.
        path: the file, for the error.

    Raises:
        DataError: it is no text.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if beginning.startswith(mark):
            return name
    nuls = beginning.count(0)
    if nuls:
        sample = beginning[: len(beginning) // 2 * 2]
        # ASCII text in UTF-16 has a NUL in every other byte, always on the same side. 40 % of NULs leave room for
        # other letters, and nine in ten on one side for the few letters whose code is a multiple of 256.
        if len(sample) >= 4 and nuls * 5 >= len(sample) * 2:  # noqa: PLR2004
            odd = sample[1::2].count(0)
            if odd * 10 >= nuls * 9:
                return "utf-16-le"
            if odd * 10 <= nuls:
                return "utf-16-be"
        if nuls * 100 > len(beginning):
            raise _binary(path)
    try:
        # Incremental, since the beginning may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError as error:
        controls = sum(byte < 32 and byte not in b"\t\n\r" for byte in beginning)  # noqa: PLR2004 (C0 controls)
        if controls * 20 > len(beginning):
            raise _binary(path) from None
        # With valid multi-byte characters before the error it is UTF-8 with one damaged line, which fails by itself.
        valid = len(beginning[: error.start].decode("utf-8", "ignore"))
        multibyte = any(byte >= 0xC2 for byte in beginning[: error.start])  # noqa: PLR2004 (first lead byte of UTF-8)
        return "utf-8" if multibyte and valid else "cp1252"
    return "utf-8"


def _binary(path: Path) -> DataError:
    return DataError(f"{path} is a binary file, not text", hint="Give JSONL, JSON, CSV or Parquet.")


def _transcoded(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    if encoding == "utf-8-sig":
        first = True
        for block in blocks:
            yield block.removeprefix(codecs.BOM_UTF8) if first else block
            first = False
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")
