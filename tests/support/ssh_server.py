"""A real sshd for tests: as the user of the tests, on a free port of this machine, with keys of its own.

Debian's packages `openssh-server` and `openssh-client` have the programs. A process of sshd serves each connection, as
under inetd, so that the port is one that the kernel gives and no configuration has to name it.
"""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.terminal import ROOT, Terminal

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_PRIVILEGE_SEPARATION = Path("/run/sshd")
"""The folder that an sshd of root insists on; init scripts make it."""
CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
ClientAliveInterval {alive}
ClientAliveCountMax 2
SetEnv DPO_TUI_HOME="{home}" PYTHONPATH="{root}" LANG=C.UTF-8 COLORTERM=truecolor
"""


def require_ssh() -> None:
    """Skip the test where there is no OpenSSH, or its server cannot serve this user."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if shutil.which(name, path=_PATH) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (Debian: openssh-server, openssh-client)")
    if os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.is_dir():
        try:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        except OSError as error:
            pytest.skip(f"sshd needs {_PRIVILEGE_SEPARATION}: {error}")


class SshServer:
    """Serves logins of this user. Use it as a context manager.

    Args:
        folder: for keys and logs.
        home: ``$DPO_TUI_HOME`` of whoever logs in.
        alive: seconds of silence after which a client is asked whether it is there; after two, it is gone.

    Attributes:
        port: of the server.
    """

    def __init__(self, folder: Path, home: Path, alive: int = 0) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (folder / "sshd_config").write_text(CONFIG.format(folder=folder, home=home, root=ROOT, alive=alive))
        self._serving: list[subprocess.Popen[bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def command(self, port: int, command: str) -> list[str]:
        """The client's command for a terminal in which a shell command runs; ``port`` may be that of a slow line."""
        key = (self._folder / "host_key.pub").read_text().strip()
        known = self._folder / "known_hosts"
        known.write_text(f"test-host {key}\n")
        options = [f"UserKnownHostsFile={known}", "HostKeyAlias=test-host", "StrictHostKeyChecking=yes"]
        options += ["IdentitiesOnly=yes", "BatchMode=yes", "LogLevel=ERROR", f"IdentityFile={self._folder}/user_key"]
        flags = [part for option in options for part in ("-o", option)]
        program = str(shutil.which("ssh", path=_PATH))
        return [program, "-tt", "-F", "none", *flags, "-p", str(port), f"{getpass.getuser()}@127.0.0.1", command]

    def login(self, command: str, *, port: int | None = None) -> Terminal:
        """Log in from a terminal of 80×24, to run a command."""
        program, *arguments = self.command(port or self.port, command)
        return Terminal(arguments, self._folder, (80, 24), program=(program,))

    def close(self) -> None:
        """End every session."""
        self._listening.close()
        for one in self._serving:
            one.terminate()
            one.wait()

    def __enter__(self) -> "SshServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        sshd = str(shutil.which("sshd", path=_PATH))
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, (self._folder / "sshd.log").open("ab") as log:
                    command = [sshd, "-i", "-e", "-f", str(self._folder / "sshd_config")]
                    self._serving.append(subprocess.Popen(command, stdin=connection, stdout=connection, stderr=log))


def noting_its_pid(command: list[str], file: Path) -> str:
    """A shell command that writes the pid of a program into a file and becomes the program."""
    return f"echo $$ > {shlex.quote(str(file))}; exec {shlex.join(command)}"
