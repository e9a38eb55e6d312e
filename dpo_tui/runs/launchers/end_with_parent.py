"""Run a command so that it ends with the process that started it, without the command's cooperation.

    python -P -m dpo_tui.runs.launchers.end_with_parent COMMAND…

A launcher puts it before torchrun and the like. It requests the parent-death signal (PR_SET_PDEATHSIG), puts its pid
into the environment for the processes that the command will start (`dpo_tui.runs.process.set_pdeathsig`), and calls
exec: the request survives exec (of anything but a setuid program), and the pid stays the same. Standard library only.
"""

import os
import sys

from dpo_tui.runs.process import PARENT_PID_VARIABLE, set_pdeathsig


def main(argv: list[str]) -> int:
    """Exec the command; return only if it cannot be started, with the exit code that shells use for that."""
    set_pdeathsig()
    os.environ[PARENT_PID_VARIABLE] = str(os.getpid())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list of arguments, from a launcher
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
