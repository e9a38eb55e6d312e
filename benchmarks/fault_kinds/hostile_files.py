"""What others may leave in a run's folder: control entries of every kind, and text that is meant for the terminal."""

import json
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.fault_kinds.checks import whole_checkpoints
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.stage import Stage
from benchmarks.fault_kinds.torn_files import ended_at

_HOSTILE = (
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[2J\x1b[1;1Hforged",
    "\x9b31m\x9d0;title\x9c",
    "\u202egnp.exe",
    "a\u200bb\ufeffc\u2028d",
    "[red]x[/red] [@click=app.quit]y[/]",
    "\x00\x01\x7f",
    "line\nforged: 20261111-111111-1111 done",
    "x" * 3_000_000,
    "\ud83d",
    "%s %n {0} ${HOME} `id`",
    "../../../../etc/passwd",
)


@fault_kind("hostile-control", "an entry of control/ is a folder, a link, a pipe, a socket, or another user's file")
def hostile_control(stage: Stage) -> None:
    """What is no file is no request, and is said to be in the way; nothing that a link names is touched."""
    step = stage.rng.randint(1, 10)
    run = stage.started_at(step)
    request = stage.rng.choice(("stop", "checkpoint", "stop-now"))
    outside = stage.folder / "outside"
    outside.write_text("not ours")
    entry = run.control / request
    how = stage.rng.choice(("folder", "full folder", "link", "link to nothing", "pipe", "socket", "foreign"))
    stage.notes.append(f"{request}: {how}")
    _make(entry, how, outside)
    is_request = how in {"link", "foreign"}
    if is_request and request == "checkpoint":
        stage.until(lambda: step in whole_checkpoints(run.checkpoints), "the checkpoint", 30)
    if is_request and request != "checkpoint":
        look(stage, run, ["stopped"], ("stopped",))
        go_on(stage, run, options={})
    else:
        if not is_request and how != "link to nothing":
            command = ("checkpoint",) if request == "checkpoint" else ("stop", "--now") if "-" in request else ("stop",)
            refused = stage.call(*command, run.id)
            if refused.code == 0 or "control" not in refused.err:
                stage.wrong([f"reason: `{command[0]}` does not say what is in the way: {refused.err.strip()[:200]}"])
        check_done(stage, run)
    if outside.read_text() != "not ours":
        stage.wrong(["other file: what a link in control/ names was changed"])
    if not is_request:
        _remove(entry)
    finish(stage)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


@fault_kind("no-control", "control/ is a file, a link to another folder, or gone")
def no_control(stage: Stage) -> None:
    """The run trains on; `stop` says what is in the way, or works."""
    run = stage.started_at(stage.rng.randint(1, 11))
    how = stage.rng.choice(("file", "gone", "read-only"))
    run.control.rmdir()
    if how == "file":
        run.control.write_text("")
    elif how == "read-only":
        run.control.mkdir(mode=0o500)
    stopped = stage.call("stop", run.id)
    if stopped.code == 0:
        look(stage, run, ["stopped"])
        go_on(stage, run, options={})
    else:
        if "control" not in stopped.err:
            stage.wrong([f"reason: `stop` does not name control: {stopped.err.strip()[:200]}"])
        check_done(stage, run)
    finish(stage)


@fault_kind(
    "hostile-text", "control sequences, bidi, markup and megabytes in name, log, events, file names", short=True
)
def hostile_text(stage: Stage) -> None:
    """No command prints a raw control character, and none fails."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    text = stage.rng.choice(_HOSTILE)
    stage.notes.append(repr(text[:40]))
    encoded = text.encode("utf-8", "surrogatepass")
    run.given_name.write_bytes(encoded + b"\n")
    with open(run.train_log, "ab") as log:
        log.write(encoded + b"\n")
    with open(run.events, "ab") as events:
        line = {"t": 5.0, "kind": "warning", "message": text, "rule": text, "step": 1}
        events.write(json.dumps(line).encode() + b"\n")
    with open(run.supervisor_log, "ab") as events:
        events.write(json.dumps({"t": 5.0, "kind": text[:50], "message": text}).encode() + b"\n")
    with suppress(OSError, ValueError, UnicodeEncodeError):
        (run.path / text[:60].replace("/", "_")).write_text("")
        (run.control / text[:60].replace("/", "_")).write_text("")
        (run.path.parent / text[:60].replace("/", "_")).mkdir()
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("status", run.id, "--json")):
        stage.call(*command)
    for command in (
        ("logs", run.id),
        ("queue",),
        ("compare", run.id, run.id),
        ("status", text[:60]),
        ("rm", text[:60]),
    ):
        if "\0" not in "".join(command):
            stage.call(*command)
    look(stage, run, ["failed"])
    if "\0" not in text and len(text) < 1000:
        stage.call("rename", run.id, text)
    for path in (*run.path.parent.iterdir(), *run.control.iterdir()):
        if path.name[0] != "2" and path.name != ".turn.lock":
            path.rmdir() if path.is_dir() else path.unlink()
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("hostile-run-folder", "files of a run are links, pipes and devices")
def hostile_run_folder(stage: Stage) -> None:
    """No command waits for ever or reads without end; the other runs are listed."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    name = stage.rng.choice(
        ("metrics.jsonl", "events.jsonl", "progress.json", "train.log", "samples.jsonl", "supervisor.jsonl", "name")
    )
    how = stage.rng.choice(("pipe", "link to zero", "link to itself", "folder", "socket"))
    stage.notes.append(f"{name}: {how}")
    path = run.path / name
    kept = path.with_name("kept")
    if path.exists():
        path.rename(kept)
    if how == "link to zero":
        path.symlink_to("/dev/zero")
    elif how == "link to itself":
        path.symlink_to(path)
    else:
        _make(path, how, stage.folder / "outside")
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("status", run.id, "--json"), ("queue",)):
        stage.call(*command, seconds=30)
    stage.call("logs", run.id, seconds=30)
    stage.bystander_is_unharmed()
    path.rmdir() if how == "folder" else path.unlink()
    if kept.exists():
        kept.rename(path)
    go_on(stage, run, options={})
    finish(stage)


def _make(entry: Path, how: str, outside: Path) -> None:
    if how == "folder":
        entry.mkdir()
    elif how == "full folder":
        entry.mkdir()
        (entry / "file").write_text("x")
    elif how == "link":
        entry.symlink_to(outside)
    elif how == "link to nothing":
        entry.symlink_to(outside.with_name("nothing"))
    elif how == "pipe":
        os.mkfifo(entry)
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            # A short name: the path of a socket has at most 107 bytes.
            short = Path(tempfile.gettempdir()) / f"s-{os.getpid()}"
            bound.bind(str(short))
            short.rename(entry)
    else:
        entry.write_text("")
        with suppress(PermissionError):
            os.chown(entry, 12345, 12345)
