"""What a crash would have left after each call that a run made: folders made again from the log of its calls.

The log is that of ``failing_calls.c``. Of each prefix of it there are four images: `KILLED` has everything that was
done. The others are those of a power cut, strictest first: `SYNCED` has the entries of a folder as they were when that
was last synced, and of a file what was synced of it; `SHORT` has all entries, and of a file what was synced;
`ZEROS` has all entries and all sizes, and zeros where nothing was synced.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KILLED, SYNCED, SHORT, ZEROS = "killed", "synced", "short", "zeros"
Files = dict[str, bytes | None]
"""The content of each file, None for a folder, by their paths."""

VIEWS = (KILLED, SYNCED, SHORT, ZEROS)


@dataclass(eq=False)
class _File:
    content: bytes = b""
    synced: bytes = b""

    def seen_in(self, view: str) -> bytes:
        if view == KILLED:
            return self.content
        if view == ZEROS:
            return self.synced[: len(self.content)].ljust(len(self.content), b"\0")
        return self.synced


@dataclass(eq=False)
class _Folder:
    entries: dict[str, "_File | _Folder"] = field(default_factory=dict)
    synced: dict[str, "_File | _Folder"] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One line of the log."""

    role: str
    number: int
    name: str
    path: str
    other: str
    place: int
    data: bytes
    done: bool


def read_calls(log: Path) -> list[Call]:
    """The calls of a log, in order."""
    found: list[Call] = []
    for line in log.read_text().splitlines():
        role, _, number, name, path, other, place, data, result = line.split("\t")
        found.append(
            Call(role, int(number), name, path, other, int(place), bytes.fromhex(data), result in {"ok", "short"})
        )
    return found


class Images:
    """The files below a folder, as calls change them.

    Args:
        below: the folder.
    """

    def __init__(self, below: Path) -> None:
        self._below = below
        self._root = _Folder()

    def apply(self, call: Call) -> None:
        """Change the files as a call has done."""
        if not call.done or call.path.endswith(" (deleted)"):
            return
        if call.name == "fsync" and Path(call.path) == self._below:
            self._root.synced = dict(self._root.entries)
            return
        if Path(call.path) == self._below:
            return
        folder, name = self._entry(call.path)
        found = folder.entries.get(name)
        if call.name == "mkdir":
            folder.entries[name] = _Folder()
        elif call.name == "open" and (found is None or call.other == "new"):
            folder.entries[name] = _File()
        elif call.name in {"unlink", "rmdir"}:
            del folder.entries[name]
        elif call.name == "rename":
            target, new_name = self._entry(call.other)
            target.entries[new_name] = folder.entries.pop(name)
        elif isinstance(found, _Folder):
            found.synced = dict(found.entries)  # the only call on a folder that is left is fsync
        elif found is not None:
            self._change(found, call)

    def _change(self, file: _File, call: Call) -> None:
        if call.name == "open" and call.other == "truncated":
            file.content = b""
        elif call.name == "write":
            file.content = file.content[: call.place] + call.data + file.content[call.place + len(call.data) :]
        elif call.name == "fsync":
            file.synced = file.content

    def files(self, view: str) -> Files:
        """What is there in a view."""
        return dict(_files(self._root, view, ""))

    def _entry(self, path: str) -> tuple[_Folder, str]:
        *parents, name = Path(path).relative_to(self._below).parts
        folder = self._root
        for parent in parents:
            below = folder.entries[parent]
            assert isinstance(below, _Folder)
            folder = below
        return folder, name


def _files(folder: _Folder, view: str, prefix: str) -> Iterator[tuple[str, bytes | None]]:
    for name, entry in (folder.synced if view == SYNCED else folder.entries).items():
        path = f"{prefix}{name}"
        if isinstance(entry, _File):
            yield path, entry.seen_in(view)
        else:
            yield path, None
            yield from _files(entry, view, f"{path}/")


def write_image(files: Files, folder: Path) -> None:
    """Make the files of an image."""
    folder.mkdir(parents=True)
    for path, content in files.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
