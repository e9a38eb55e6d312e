"""Entry point of a child that ends with its parent.

    python -P -m dpo_tui.processes.child DESCRIPTOR MODULE      runs MODULE as ``python -m`` would
    python -I -S …/child.py DESCRIPTOR -- PROGRAM ARGUMENT…     runs a program of the user's, as a process of its own

It first starts the thread that ends the child with its parent: importing MODULE can take many seconds, in which the
parent may already die. Standard library only, and nothing of this package: it also runs as a plain file.
"""

import fcntl
import os
import runpy
import signal
import subprocess
import sys
import threading


def end_with_parent(descriptor: int) -> None:
    """End this process and its process group when the parent has ended.

    Args:
        descriptor: the read end of a pipe to which nobody writes. Only the parent has the write end, so a read returns
            (with end of file) when the parent closes it or dies, by whatever signal.
    """
    os.set_inheritable(descriptor, False)  # processes that this child starts need not hold it
    if sys.platform == "linux":
        # The kernel kills the group itself when the pipe's other end is closed: the thread below waits for as long as
        # one instruction of Python takes, which with a hostile chat template is without end.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp() if os.getpgrp() == os.getpid() else os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_end, args=(descriptor,), daemon=True, name="watch-parent").start()


def _wait_for_end(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    # Its own group holds the child and what it forked. If it does not lead one (it was started in another way), killing
    # the group would kill the processes beside it.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    # Not sys.exit, which would end this thread alone.
    os._exit(1)


def run_program(command: list[str]) -> int:
    """Run a program with this process's stdin and stdout, and return its exit code as a shell would give it.

    It is in this process's group, which :func:`end_with_parent` ends as a whole.
    """
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    # The program alone holds the pipes then: its end is the end of what it reads and writes.
    os.close(0)
    os.close(1)
    code = process.wait()
    return code if code >= 0 else 128 - code


def main() -> None:
    """Start watching the parent, and run the module or the program."""
    descriptor, module, *arguments = sys.argv[1:]
    del sys.argv[1:]
    end_with_parent(int(descriptor))
    if module == "--":
        # Not sys.exit, which would flush the streams that are closed.
        os._exit(run_program(arguments))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
