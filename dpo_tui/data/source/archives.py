"""Unpack gzip and zstd files as a stream of blocks, in constant memory and guarded against archive bombs."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dpo_tui.data.source.source import DataFile
from dpo_tui.errors import DataError

BLOCK_BYTES = 1 << 20
"""Bytes read at a time."""
# Deflate cannot exceed 1032:1 (zlib's documentation), JSON of real pairs packs 2:1 to 10:1, and one line repeated for
# ever about 300:1. More than 200:1 after 64 MB is no dataset.
BOMB_RATIO = 200
BOMB_BYTES = 64 << 20
_GZIP_WINDOW = 31  # wbits: the largest window (15), and a gzip header instead of zlib's (16 more)
_ZSTD_WINDOW = 1 << 27
"""Bytes. A zstd frame names the window that its decoder must allocate; `zstd` itself takes 128 MB without --long."""


def unpacked(file: DataFile) -> Iterator[bytes]:
    """The bytes of a file in blocks, unpacked if it is packed.

    Raises:
        DataError: the file cannot be read, or the archive is damaged or is a bomb.
    """
    try:
        with file.path.open("rb") as raw:
            if file.packed == "gz":
                yield from _stop_at_bomb(_gunzip(raw, file.path), raw, file.path)
            elif file.packed == "zst":
                yield from _stop_at_bomb(_unzstd(raw, file.path), raw, file.path)
            else:
                while block := raw.read(BLOCK_BYTES):
                    yield block
    except OSError as error:
        raise DataError(f"{file.path} cannot be read: {error.strerror or error}") from error


def head_of(file: DataFile, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, unpacked if it is packed."""
    parts: list[bytes] = []
    for block in unpacked(file):
        parts.append(block)
        if sum(map(len, parts)) >= size:
            break
    return b"".join(parts)[:size]


def _gunzip(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
    pending = b""
    inside_member = False
    try:
        while True:
            block = pending or raw.read(BLOCK_BYTES)
            if not block:
                break
            inside_member = True
            # Bounded, since a block of input may unpack to a thousand; the rest of it stays in unconsumed_tail.
            if out := unpacker.decompress(block, BLOCK_BYTES):
                yield out
            pending = unpacker.unconsumed_tail
            if unpacker.eof:  # another member may follow, as `cat a.gz b.gz` makes; NULs between them are padding
                pending = unpacker.unused_data.lstrip(b"\0")
                unpacker = zlib.decompressobj(wbits=_GZIP_WINDOW)
                inside_member = False
        if inside_member:
            yield unpacker.flush()
            raise DataError(f"{path} is cut short: the gzip data ends early", hint="Copy or download it again.")
    except zlib.error as error:
        raise DataError(f"{path} is damaged: {error}", hint="Check it with `gzip -t`, or download it again.") from error


def _unzstd(raw: BinaryIO, path: Path) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with unpacker.stream_reader(raw, read_across_frames=True, closefd=False) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is damaged: {error}", hint="Check it with `zstd -t`, or download it again.") from error


def _stop_at_bomb(blocks: Iterator[bytes], raw: BinaryIO, path: Path) -> Iterator[bytes]:
    """Pass blocks on, and raise once they exceed what the packed bytes read so far can honestly hold."""
    out = 0
    for block in blocks:
        out += len(block)
        if out > BOMB_BYTES and out > BOMB_RATIO * max(raw.tell(), 1):
            raise DataError(
                f"{path} unpacks to more than {BOMB_RATIO} times its size: it looks like an archive bomb",
                hint="If it is real, unpack it yourself and give the plain file.",
            )
        yield block
