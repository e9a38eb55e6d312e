"""A file appears whole or not at all, and what a killed writer left is removed by the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui.data.repair.replaced_file import replaced_file

WRITER = """
import sys, time
from pathlib import Path
from dpo_tui.data.repair.replaced_file import replaced_file
with replaced_file(Path(sys.argv[1]), 0o600) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(600)
"""


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_writer_left_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "fixed.jsonl"
    writers = []
    for _ in range(2):
        command = [sys.executable, "-c", WRITER, str(out)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout and writers[-1].stdout.readline() == "writing\n"
    killed, living = writers
    try:
        before = hidden(tmp_path)
        assert len(before) == 2, "neither takes the other's for left over"
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        kept = [".fixed.jsonl.backup", ".fixed.jsonl.0123456g", ".other.jsonl.01234567", "..fixed.jsonl.01234567"]
        for name in kept:
            (tmp_path / name).write_text("the user's")
        os.mkfifo(tmp_path / ".fixed.jsonl.00000000")
        (tmp_path / ".fixed.jsonl.11111111").symlink_to(tmp_path / kept[0])
        with replaced_file(out, 0o600) as file:
            assert file is not None
            file.write(b"whole")
        left = set(hidden(tmp_path)) - {*kept, ".fixed.jsonl.00000000", ".fixed.jsonl.11111111"}
        assert len(left) == 1 and left < set(before)
        assert set(kept) <= set(hidden(tmp_path)) and out.read_bytes() == b"whole"
    finally:
        living.kill()
        living.communicate()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "fixed.jsonl"
    out.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replaced_file(out, 0o600) as file:
        assert file is not None
        file.write(b"new")
        raise RuntimeError("half way")
    assert out.read_text() == "old" and os.listdir(tmp_path) == ["fixed.jsonl"]
