"""PR_SET_PDEATHSIG: the signal that the kernel sends a process when its parent dies, set by prctl(2) (Linux only)."""

import sys

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def request_death_signal(number: int) -> bool:
    """Ask the kernel to send this process a signal when its parent dies.

    "Parent" means the *thread* that forked this process (prctl(2)): only for a child whose parent starts it from its
    main thread, or from one that lives as long as the process. A parent that died before this call sends nothing, so
    the caller compares ``os.getppid()`` afterwards.

    Args:
        number: the signal.

    Returns:
        Whether the kernel will do so.
    """
    return prctl(_PR_SET_PDEATHSIG, number)


def prctl(option: int, value: int) -> bool:
    """Set an attribute of this process; return whether it succeeded, False where there is no such call."""
    if sys.platform != "linux":
        return False
    import ctypes  # slow to load, and listing runs must be fast

    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False
