"""Doctor checks of the login session, the terminal, and access to the hub."""

import getpass
import os
import re
import shutil
from pathlib import Path

from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.text.printable import printable

_LOGIND = (Path("/etc/systemd/logind.conf"), Path("/etc/systemd/logind.conf.d"), Path("/usr/lib/systemd/logind.conf.d"))
_SMALLEST = (80, 24)
_NETWORK_REASONS = {
    "ConnectError": "no connection",
    "ConnectionError": "no connection",
    "ConnectTimeout": "no answer in time",
    "ReadTimeout": "no answer in time",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
}
"""Explanations of exceptions by their names: requests, httpx and huggingface_hub have classes of these names."""


@check
def user_processes(facts: MachineFacts) -> DoctorFinding | None:
    """Whether systemd-logind kills a user's processes at logout (``KillUserProcesses``)."""
    if not Path("/run/systemd/system").exists():
        return None
    if not kills_user_processes(_logind_text()):
        return DoctorFinding("user-processes", "ok", "runs go on after you log out")
    user = _user()
    if Path(f"/var/lib/systemd/linger/{user}").exists():
        message = "KillUserProcesses=yes, but lingering is on: start dpo-tui with systemd-run --user --scope"
        return DoctorFinding("user-processes", "warn", message, "systemd-run --user --scope dpo-tui")
    message = "KillUserProcesses=yes: logging out kills your runs."
    return DoctorFinding(
        "user-processes", "fail", message, f"loginctl enable-linger {user} && systemd-run --user --scope dpo-tui"
    )


@check
def terminal(facts: MachineFacts) -> DoctorFinding:
    """The terminal: TERM, colours, UTF-8, tmux and size."""
    term = facts.environ.get("TERM", "")
    if term in ("", "dumb"):
        shown = "TERM is not set" if not term else "TERM=dumb"
        return DoctorFinding(
            "terminal", "warn", f"{shown}: the app needs a terminal, the commands do not.", "export TERM=xterm-256color"
        )
    notes = []
    locale = facts.environ.get("LC_ALL") or facts.environ.get("LC_CTYPE") or facts.environ.get("LANG") or ""
    if "utf" not in locale.lower():
        notes.append("no UTF-8 locale: charts are drawn in ASCII")
    true_colour = facts.environ.get("COLORTERM", "") in ("truecolor", "24bit")
    colours = "true colour" if true_colour else "256 colours" if "256" in term else "16 colours"
    size = shutil.get_terminal_size((0, 0))
    if 0 < size.columns < _SMALLEST[0] or 0 < size.lines < _SMALLEST[1]:
        notes.append(f"{size.columns}×{size.lines} is small; 80×24 shows everything")
    inside = " in tmux" if facts.environ.get("TMUX") else ""
    shown = f"{printable(term)}{inside}, {colours}"
    if notes:
        return DoctorFinding(
            "terminal", "warn", f"{shown}; {'; '.join(notes)}", "export LANG=C.UTF-8" if "UTF-8" in notes[0] else ""
        )
    return DoctorFinding("terminal", "ok", shown)


@check
def hub_access(facts: MachineFacts) -> DoctorFinding | None:
    """Whether the hub lets this machine's token download the planned model. The token is never shown."""
    model = facts.options.model
    if model is None:
        return None
    shown = printable(model, single_line=True)
    from huggingface_hub import HfApi, get_token

    has_token = "with your token" if get_token() else "without a token"
    try:
        HfApi().auth_check(model)
    except Exception as error:
        return _access_error(shown, has_token, error)
    return DoctorFinding("hub-access", "ok", f"{shown} can be downloaded {has_token}")


def _access_error(shown: str, has_token: str, error: Exception) -> DoctorFinding:
    """The finding for a failed access check; without the error's own text, which can contain the token."""
    kind = type(error).__name__
    if kind == "GatedRepoError":
        message = f"{shown} is gated, and {has_token} it cannot be downloaded."
        fix = "accept its licence on its page on the hub, then: hf auth login"
        return DoctorFinding("hub-access", "fail", message, fix)
    if kind in ("RepositoryNotFoundError", "HFValidationError"):
        message = f"the hub has no {shown}, or it is private and {has_token} not shown."
        return DoctorFinding("hub-access", "fail", message, "check the spelling, then: hf auth login")
    return DoctorFinding(
        "hub-access",
        "warn",
        f"the hub could not be asked about {shown}: {_NETWORK_REASONS.get(kind, kind)}",
        "check the network, or use a local folder",
    )


def kills_user_processes(text: str) -> bool:
    """Whether a logind configuration sets ``KillUserProcesses``; the last line counts, and the default is no."""
    found = re.findall(r"^\s*KillUserProcesses\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return bool(found) and found[-1].lower() in ("yes", "true", "1", "on")


def _logind_text() -> str:
    texts = []
    for place in _LOGIND:
        files = sorted(place.glob("*.conf")) if place.is_dir() else [place]
        for file in files:
            try:
                texts.append(file.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                continue
    return "\n".join(texts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
