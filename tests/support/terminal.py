"""The app in a pseudo-terminal, whose other end reads and counts what an SSH connection would carry."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from dpo_tui.cli import main; main()"
TICKS = os.sysconf("SC_CLK_TCK")
NOISE = re.compile(
    rb"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\\\)|\x1b[()][A-Z0-9]|\x1b[=>]|\x1bP[^\x1b]*\x1b\\\\"
)
"""Escape sequences, to be taken out before looking for words."""


class Terminal:
    """The app in a pty.

    Args:
        arguments: of ``dpo-tui``.
        home: ``$DPO_TUI_HOME``.
        size: columns and rows.
        environment: on top of a usual one.
        program: another program's command, for comparison.
    """

    def __init__(
        self,
        arguments: list[str],
        home: Path,
        size: tuple[int, int],
        environment: dict[str, str] | None = None,
        program: tuple[str, ...] = (sys.executable, "-c", MAIN),
    ) -> None:
        self.started = time.monotonic()
        self.bytes = 0
        self.text = b""
        self.open = True
        self.ended = False
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            plain = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "NO_COLOR"))}
            plain |= {"DPO_TUI_HOME": str(home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
            plain |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})}
            os.execve(program[0], [*program, *arguments], plain)  # noqa: S606
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Take what the app writes for some seconds, or until something holds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], min(left, 0.05))[0]:
                try:
                    data = os.read(self.descriptor, 1 << 16)
                except OSError:
                    return False
                self.bytes += len(data)
                self.text = (self.text + data)[-(1 << 20) :]
            if until():
                return True
        return False

    def shows(self, words: str) -> bool:
        """Whether the words were written, whatever colours came between."""
        return words.encode() in NOISE.sub(b"", self.text)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.descriptor, keys.encode())

    def wait(self, seconds: float) -> int | None:
        """The app's exit status when it ends within some seconds, negative for a signal; None when it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.ended = True
                return os.waitstatus_to_exitcode(status)
            if self.open:
                self.read(0.1)
            else:
                time.sleep(0.05)
        return None

    def hang_up(self) -> None:
        """Let the connection break: the terminal goes away."""
        os.close(self.descriptor)
        self.open = False

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """Megabytes resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1000
        return 0.0

    def close(self) -> None:
        """End the app."""
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.open:
            os.close(self.descriptor)
