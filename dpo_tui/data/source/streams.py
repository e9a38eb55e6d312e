"""Bytes of a file as a bounded stream of UTF-8 blocks: unpacked, transcoded, and guarded against archive bombs."""

import codecs
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dpo_tui.data.source.source import DataFile
from dpo_tui.errors import DataError

BLOCK = 1 << 20
"""Bytes read at a time."""
# Deflate cannot exceed 1032:1 (zlib's documentation), JSON of real pairs packs 2:1 to 10:1, and one line repeated for
# ever about 300:1. More than 200:1 after 64 MB is no dataset.
BOMB_RATIO = 200
BOMB_BYTES = 64 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes, path: Path) -> str:
    """Tell the encoding of a text from its beginning: its byte-order mark, where its NULs stand, or what fits.

    Raises:
        DataError: it is no text.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    nuls = head.count(0)
    if nuls:
        sample = head[: len(head) // 2 * 2]
        # ASCII text in UTF-16 has a NUL in every other byte, always on the same side.
        if len(sample) >= 4 and nuls * 5 >= len(sample) * 2:  # noqa: PLR2004
            odd = sample[1::2].count(0)
            if odd * 10 >= nuls * 9:
                return "utf-16-le"
            if odd * 10 <= nuls:
                return "utf-16-be"
        if nuls * 100 > len(head):
            raise DataError(f"{path} is a binary file, not text", hint="Give JSONL, JSON, CSV or Parquet.")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        controls = sum(byte < 32 and byte not in b"\t\n\r" for byte in head)  # noqa: PLR2004 (C0 controls)
        if controls * 20 > len(head):
            raise DataError(f"{path} is a binary file, not text", hint="Give JSONL, JSON, CSV or Parquet.") from None
        # One broken line in a UTF-8 file is that line's problem; text full of Latin letters is another encoding.
        good = len(head[: error.start].decode("utf-8", "ignore"))
        multibyte = any(byte >= 0xC2 for byte in head[: error.start])  # noqa: PLR2004 (first lead byte of UTF-8)
        return "utf-8" if multibyte and good else "cp1252"
    return "utf-8"


def head_of(file: DataFile, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, unpacked."""
    parts: list[bytes] = []
    for block in unpacked(file):
        parts.append(block)
        if sum(map(len, parts)) >= size:
            break
    return b"".join(parts)[:size]


def unpacked(file: DataFile) -> Iterator[bytes]:
    """The bytes of a file in blocks, unpacked, in constant memory.

    Raises:
        DataError: the archive is damaged, or is a bomb.
    """
    try:
        with file.path.open("rb") as raw:
            if file.packed == "gz":
                yield from _guard(_gunzip(raw, file.path), raw, file.path)
            elif file.packed == "zst":
                yield from _guard(_unzstd(raw, file.path), raw, file.path)
            else:
                while block := raw.read(BLOCK):
                    yield block
    except OSError as error:
        raise DataError(f"{file.path} cannot be read: {error.strerror or error}") from error


def text(file: DataFile) -> tuple[str, Iterator[bytes]]:
    """The encoding of a text file, and its content as UTF-8 blocks without a byte-order mark.

    Bytes that the encoding does not allow stay as they are in UTF-8, so that the row they are in is the one that fails.
    """
    encoding = encoding_of(head_of(file), file.path)
    blocks = unpacked(file)
    if encoding == "utf-8":
        return encoding, blocks
    return encoding, _transcoded(blocks, encoding)


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


def _gunzip(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    pending = b""
    begun = False
    try:
        while True:
            block = pending or raw.read(BLOCK)
            if not block:
                break
            begun = True
            if out := unpacker.decompress(block, BLOCK):
                yield out
            pending = unpacker.unconsumed_tail
            if unpacker.eof:  # another member may follow, as `cat a.gz b.gz` makes
                pending = unpacker.unused_data.lstrip(b"\0")
                unpacker = zlib.decompressobj(wbits=31)
                begun = False
        if begun:
            yield unpacker.flush()
            raise DataError(f"{path} is cut short: the gzip data ends early", hint="Copy or download it again.")
    except zlib.error as error:
        raise DataError(f"{path} is damaged: {error}", hint="Check it with `gzip -t`, or download it again.") from error


def _unzstd(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        with unpacker.stream_reader(raw, read_across_frames=True, closefd=False) as stream:
            while block := stream.read(BLOCK):
                yield block
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is damaged: {error}", hint="Check it with `zstd -t`, or download it again.") from error


def _guard(blocks: Iterator[bytes], raw: BinaryIO, path: Path) -> Iterator[bytes]:
    out = 0
    for block in blocks:
        out += len(block)
        if out > BOMB_BYTES and out > BOMB_RATIO * max(raw.tell(), 1):
            raise DataError(
                f"{path} unpacks to more than {BOMB_RATIO} times its size: it looks like an archive bomb",
                hint="If it is real, unpack it yourself and give the plain file.",
            )
        yield block
