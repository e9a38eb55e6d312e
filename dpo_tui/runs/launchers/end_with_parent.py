"""Run a command that ends when the process that started it does, though the command knows nothing of that.

    python -P -m dpo_tui.runs.launchers.end_with_parent COMMAND…

A launcher puts it before torchrun and the like. It asks for the death signal, leaves its pid for the processes that the
command will start (`dpo_tui.runs.process.set_pdeathsig`), and becomes the command: the request outlasts exec, and the
pid stays the same. Standard library only.
"""

import os
import sys

from dpo_tui.runs.process import PARENT_PID_VARIABLE, set_pdeathsig


def main(argv: list[str]) -> int:
    """Become the command; returns only if it cannot be started, with a shell's exit code for that."""
    set_pdeathsig()
    os.environ[PARENT_PID_VARIABLE] = str(os.getpid())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list of arguments, from a launcher
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
