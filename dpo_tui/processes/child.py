"""Entry point of a JSON-lines child: ``python -P -m dpo_tui.processes.child DESCRIPTOR MODULE``.

It watches the parent from the first moment, before MODULE and what it imports are loaded, and then runs MODULE as
``python -m`` would.
"""

import os
import runpy
import signal
import sys
import threading


def end_with_parent(descriptor: int) -> None:
    """End this process and its process group when the parent is gone.

    Args:
        descriptor: the reading end of a pipe to which nobody writes. Only the parent has the writing end, so reading
            returns when the parent closed it or died, in whatever way.
    """
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait_for_end, args=(descriptor,), daemon=True, name="watch-parent").start()


def _wait_for_end(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    # The group is this child and what it forked. Without a group of its own it would take its siblings along.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Watch the parent and run the module."""
    descriptor, module = sys.argv[1:]
    del sys.argv[1:]
    end_with_parent(int(descriptor))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
