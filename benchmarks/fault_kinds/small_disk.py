"""Disks that refuse: a small one that is full, one that turns read-only, one that answers with an error of choice."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.fault_kinds.session import NotPossibleHere
from benchmarks.fault_kinds.stage import Stage

_NEW_MOUNTS = 0x00020000
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The error that $FAULTS_REFUSE_FILE holds as a number, for descriptors of files below $DPO_TUI_HOME; 0 for none. */
static int refused(int descriptor) {
  const char *path = getenv("FAULTS_REFUSE_FILE"), *home = getenv("DPO_TUI_HOME");
  char link[64], name[4096];
  int number = 0;
  if (!path || !home) return 0;
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (fscanf(file, "%d", &number) != 1) number = 0;
  fclose(file);
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 0) return 0;
  name[length] = 0;
  return strncmp(name, home, strlen(home)) ? 0 : number;
}

ssize_t write(int descriptor, const void *text, size_t size) {
  int number = refused(descriptor);
  if (number) { errno = number; return -1; }
  return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(descriptor, text, size);
}

ssize_t pwrite64(int descriptor, const void *text, size_t size, off_t place) {
  int number = refused(descriptor);
  if (number) { errno = number; return -1; }
  return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64"))(descriptor, text, size, place);
}

ssize_t pwrite(int descriptor, const void *text, size_t size, off_t place) {
  return pwrite64(descriptor, text, size, place);
}
"""


class SmallDisk:
    """A small file system of its own for a stage's home, seen by the processes of this fault alone.

    It goes away with the last of them: it is mounted in their own view of the file systems.

    Args:
        stage: whose home is put on it.
        megabytes: its size.

    Raises:
        NotPossibleHere: this user may not mount.
    """

    def __init__(self, stage: Stage, megabytes: float = 3.0) -> None:
        own_mounts()
        self._home = stage.home
        _mount("-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k,mode=700", "tmpfs", str(stage.home))
        (stage.home / "runs").mkdir(mode=0o700)
        stage.copy_bystander()

    def fill(self, spare: int = 0) -> None:
        """Take all room but so many bytes."""
        with open(self._home / "ballast", "wb", buffering=0) as stream:
            for size in (1 << 16, 1 << 12, 1 << 10, 1):
                try:
                    while True:
                        if stream.write(bytes(size)) < size:
                            break
                except OSError:
                    continue
        if spare:
            os.truncate(self._home / "ballast", max(0, (self._home / "ballast").stat().st_size - spare))

    def free(self) -> None:
        """Give the room back."""
        (self._home / "ballast").unlink(missing_ok=True)


class ReadOnlyHome:
    """A home that can be made read-only under its running processes, as a file system after an error is.

    Raises:
        NotPossibleHere: this user may not mount.
    """

    def __init__(self, stage: Stage) -> None:
        own_mounts()
        self._home = str(stage.home)

    def turn_read_only(self) -> None:
        """Every file that is opened from now on is on a read-only file system."""
        _mount("--bind", self._home, self._home)
        _mount("-o", "remount,bind,ro", self._home)

    def turn_writable(self) -> None:
        """As it was."""
        subprocess.run(["umount", "-l", self._home], check=True)


class RefusingDisk:
    """A home whose files refuse every write with an error of choice, by a library before the C library.

    Raises:
        NotPossibleHere: there is no C compiler.
    """

    def __init__(self, stage: Stage) -> None:
        self._switch = stage.folder / "refuse"
        os.environ["LD_PRELOAD"] = str(_shim())
        os.environ["FAULTS_REFUSE_FILE"] = str(self._switch)

    def refuse(self, number: int) -> None:
        """Refuse with this errno from now on."""
        self._switch.write_text(str(number), encoding="utf-8")

    def allow(self) -> None:
        """Refuse no more."""
        self._switch.unlink(missing_ok=True)


def own_mounts() -> None:
    """Give this process, and what it starts, its own view of the mounts.

    Raises:
        NotPossibleHere: this user may not.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_NEW_MOUNTS) != 0:
        raise NotPossibleHere("only root can mount file systems")
    _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossibleHere(f"cannot mount: {done.stderr.strip()}")


def _shim() -> Path:
    """The compiled library, made once a machine and user."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotPossibleHere("no C compiler")
    folder = Path(tempfile.mkdtemp(prefix="refuse-"))
    (folder / "refuse.c").write_text(_SHIM, encoding="utf-8")
    library = folder / "refuse.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "refuse.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
