"""Entry point of a JSON-lines child: ``python -P -m dpo_tui.processes.child DESCRIPTOR MODULE``.

It first starts the thread that ends the child with its parent, and then runs MODULE as ``python -m`` would. Importing
MODULE can take many seconds, in which the parent may already die.
"""

import os
import runpy
import signal
import sys
import threading


def end_with_parent(descriptor: int) -> None:
    """End this process and its process group when the parent has ended.

    Args:
        descriptor: the read end of a pipe to which nobody writes. Only the parent has the write end, so a read returns
            (with end of file) when the parent closes it or dies, by whatever signal.
    """
    os.set_inheritable(descriptor, False)  # processes that this child starts need not hold it
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


def main() -> None:
    """Start watching the parent, and run the module."""
    descriptor, module = sys.argv[1:]
    del sys.argv[1:]
    end_with_parent(int(descriptor))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
