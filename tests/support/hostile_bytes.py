"""What readers of hostile bytes share: a folder in memory, and a first byte that chooses."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Reader = Callable[[bytes], object]
NOW = 1.8e9
"""Unix time at which folders are read."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder, in memory where there is one."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (a folder of its own in it)
    with tempfile.TemporaryDirectory(dir=place, prefix="hostile-") as folder:
        yield Path(folder)


def choice(data: bytes, kinds: tuple[str, ...]) -> tuple[str, bytes]:
    """The kind that the first byte chooses, and the others."""
    return kinds[data[0] % len(kinds)] if data else kinds[0], data[1:]


def fill(folder: Path, whole: Mapping[str, bytes], data: bytes) -> None:
    """Write files as they should be, but for one: the first byte chooses which, and the others are its content."""
    name, content = choice(data, tuple(whole))
    for file, text in {**whole, name: content}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(text)


def one_of_each(whole: Mapping[str, bytes]) -> list[bytes]:
    """Seeds for `fill`: each file as it should be."""
    return [bytes([number]) + content for number, content in enumerate(whole.values())]
