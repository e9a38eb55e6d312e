"""Files that a crash, a full disk or a bad sector has torn: lines, checkpoints, state.json, progress.json."""

import json
import os
import signal
from pathlib import Path

from benchmarks.fault_kinds import checks
from benchmarks.fault_kinds.follow_up import check_done, finish, go_on, look
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.processes import send
from benchmarks.fault_kinds.stage import Stage
from dpo_tui.runs.folder import RunFolder


def ended_at(stage: Stage, step: int, **options: object) -> RunFolder:
    """A run that was killed at a step, its supervisor having recorded that."""
    run = stage.started_at(step, **options)
    send(stage.worker_pid(run), signal.SIGKILL)
    look(stage, run, ["failed"])
    return run


@fault_kind("torn-last-line", "the last line of metrics, events or the supervisor's log is cut", short=True)
def torn_last_line(stage: Stage) -> None:
    """The torn line is passed over, and the next one is whole."""
    run = ended_at(stage, stage.rng.randint(4, 11))
    path = stage.rng.choice((run.metrics, run.metrics, run.events, run.supervisor_log))
    text = path.read_bytes()
    last = len(text) - text.rstrip(b"\n").rfind(b"\n") - 1
    torn = checks.steps_in(checks.whole_lines(path)[-1:]) if path == run.metrics else []
    path.write_bytes(text[: len(text) - stage.rng.randint(2, last - 1)])
    look(stage, run, ["failed"])
    go_on(stage, run, options={}, destroyed=torn)
    finish(stage)


@fault_kind("zeroed-tail", "a power cut left zeros at the end of metrics or events")
def zeroed_tail(stage: Stage) -> None:
    """What follows them is read."""
    run = ended_at(stage, stage.rng.randint(4, 11))
    with open(stage.rng.choice((run.metrics, run.events)), "ab") as stream:
        stream.write(bytes(stage.rng.choice((1, 100, 4096))))
    look(stage, run, ["failed"])
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("damaged-checkpoint", "a file of the newest checkpoint is cut, gone, or changed at its size", short=True)
def damaged_checkpoint(stage: Stage) -> None:
    """An older whole one is named, and gone on from."""
    run = ended_at(stage, stage.rng.randint(7, 11))
    steps = [0, *checks.whole_checkpoints(run.checkpoints)]
    damage(stage, run.checkpoints / f"checkpoint-{steps[-1]}")
    go_on(stage, run, options={}, right=[steps[-2]])
    finish(stage)


@fault_kind("all-checkpoints-damaged", "every checkpoint is damaged, each in another way, or deleted")
def all_checkpoints_damaged(stage: Stage) -> None:
    """The run starts from the beginning, and says so."""
    run = ended_at(stage, stage.rng.randint(7, 11))
    for step in checks.whole_checkpoints(run.checkpoints):
        damage(stage, run.checkpoints / f"checkpoint-{step}")
    go_on(stage, run, options={}, right=[0])
    finish(stage)


def damage(stage: Stage, checkpoint: Path) -> None:
    """Damage a checkpoint in one of the ways that a crash or a bad disk has."""
    how = stage.rng.choice(("cut", "gone", "changed", "no marker", "torn marker", "empty marker", "wrong marker"))
    name = stage.rng.choice(("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"))
    file, marker = checkpoint / name, checkpoint / "complete.json"
    stage.notes.append(f"{checkpoint.name}: {how} {name}")
    if how == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif how == "gone":
        file.unlink()
    elif how == "changed":
        text = bytearray(file.read_bytes())
        place = stage.rng.randrange(len(text))
        text[place] ^= 0xFF
        file.write_bytes(bytes(text))
    elif how == "no marker":
        marker.unlink()
    elif how == "torn marker":
        os.truncate(marker, marker.stat().st_size // 2)
    elif how == "empty marker":
        os.truncate(marker, 0)
    else:
        marker.write_text(stage.rng.choice(('{"files": 5}', "[]", '{"files": {"a": "b"}}', '{"files": null}', "1e999")))


_WRONG_STATES = (
    "",
    "{",
    "[]",
    "5",
    "null",
    "{}",
    '{"id": "x", "name": "n", "status": "running", "queued_at": "soon", "attempt": 0}',
    '{"id": "x", "name": 5, "status": ["running"], "attempt": "one"}',
    '{"id": "x", "name": "n", "status": "running", "worker_pid": "12", "devices": 5}',
    '{"id": "x", "name": "n", "status": "running", "devices": [["a"]], "ended_at": 1e999}',
    '{"id": "x", "name": "n", "version": 99, "status": "running"}',
    "[" * 100_000,
    '{"id": "\\u001b]52;c;x\\u0007", "name": "\\u001b[31m", "status": "\\u009b2J", "reason": 7}',
    '{"id": "x", "name": "n", "status": "failed", "reason": "\\u001b[2J\\u202e\\u200b", "supervisor_pid": -1}',
    '{"id": "x", "name": "n", "status": "done", "started_at": NaN, "queued_at": Infinity}',
    '{"id": "x", "name": "n", "status": "queued", "ranks": -5, "launcher": "../../bin/sh"}',
)


@fault_kind("wrong-state-ended", "state.json of a run that is over is torn, or has values of wrong types", short=True)
def wrong_state_of_ended_run(stage: Stage) -> None:
    """The other runs are listed as before; this one can be deleted."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    text = stage.rng.choice(_WRONG_STATES)
    stage.notes.append(text[:100])
    run.state.write_text(text, encoding="utf-8")
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("status", run.id, "--json"), ("compare",)):
        stage.call(*command)
    for command in (("resume", run.id), ("stop", run.id), ("logs", run.id), ("queue",), ("rename", run.id, "x")):
        stage.call(*command)
    stage.bystander_is_unharmed()
    # What some resume may have begun with it must end by itself.
    stage.until(lambda: not stage.processes(), "all processes to end")
    removed = stage.call("rm", "--yes", run.id)
    newer = '"version": 99' in text
    if run.path.exists() and not newer:
        stage.wrong([f"rm: the run cannot be deleted: {removed.text.strip()[:200]}"])
    finish(stage, over=[])


@fault_kind("wrong-state-live", "state.json of a run that trains is torn, wrong or gone")
def wrong_state_of_live_run(stage: Stage) -> None:
    """It can still be stopped, and its supervisor writes the file again."""
    run = stage.started_at(stage.rng.randint(1, 11))
    text = None if stage.rng.random() < 0.25 else stage.rng.choice(_WRONG_STATES)
    if text is None:
        run.state.unlink()
    else:
        stage.notes.append(text[:100])
        run.state.write_text(text, encoding="utf-8")
    for command in (("runs",), ("runs", "--json"), ("status", run.id), ("status", run.id, "--json"), ("queue",)):
        stage.call(*command)
    stage.bystander_is_unharmed()
    refused = stage.call("rm", "--yes", run.id)
    if refused.code == 0:
        stage.wrong(["rm: a run that trains was deleted"])
    if text is not None and '"version": 99' in text:
        _leave_to_its_version(stage, run)
    else:
        stage.call("stop", run.id, codes={0})
        if stage.rng.random() < 0.5:
            stage.call("stop", "--now", run.id)
        stage.until(lambda: stage.worker(run) is None, "the worker to stop", 30)
        look(stage, run, ["stopped"])
        go_on(stage, run, options={})
    finish(stage)


def _leave_to_its_version(stage: Stage, run: RunFolder) -> None:
    """A state of a newer version is not acted on, in words; the run goes on, and its supervisor replaces it."""
    refused = stage.call("stop", run.id)
    if refused.code != 1 or "newer" not in refused.err:
        stage.wrong([f"stop: a state of a newer version was not refused in words: {refused.err.strip()[:200]}"])
    check_done(stage, run)


@fault_kind("wrong-progress", "progress.json, metrics.jsonl or events.jsonl of a run that trains has hostile content")
def wrong_progress(stage: Stage) -> None:
    """It is passed over; the worker writes on."""
    run = stage.started_at(stage.rng.randint(1, 11))
    texts = (
        "",
        "{",
        '{"t": "now", "step": "five", "phase": 5, "done": [], "total": {}}',
        '{"t": 1e999, "step": NaN, "phase": "\\u001b[2J", "unit": "\\u202e", "detail": "\\u009b1m"}',
        '{"step": 1' + "0" * 5000 + "}",
        '{"t": 5, "kind": "failed", "message": ["\\u001b]0;x\\u0007"], "hint": 5}',
        '{"t": 5, "kind": ["warning"], "message": "\\u001b]52;c;aGk=\\u0007\\u200b[red]x[/]"}',
        '{"loss": "low", "grad_norm": null, "t": {}}',
        "\x00\xff\xfe",
        '{"step": 3, "loss": 1e400, "eval_loss": -Infinity}',
    )
    path = stage.rng.choice((run.progress, run.metrics, run.events))
    text = stage.rng.choice(texts)
    stage.notes.append(f"{path.name}: {text[:80]}")
    before = checks.whole_lines(run.metrics)
    if path == run.progress:
        path.write_text(text, encoding="latin-1")
    else:
        with open(path, "ab") as stream:
            stream.write(text.encode("latin-1") + b"\n")
    for command in (("status", run.id), ("status", run.id, "--json"), ("runs",), ("runs", "--json"), ("logs", run.id)):
        stage.call(*command)
    stage.let_go()
    look(stage, run, ["done"])
    stage.wrong(checks.no_line_lost(before, checks.whole_lines(run.metrics)))
    finish(stage)


@fault_kind("wrong-config", "config.toml of a run that is over is empty, torn or of other types")
def wrong_config(stage: Stage) -> None:
    """Resume fails and names the file; with the file back it goes on."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    whole = run.config.read_bytes()
    text = stage.rng.choice((b"", whole[: len(whole) // 2], b"\x00" * 500, b"max_steps = []", b"\xff\xfe", b"= 5\n"))
    run.config.write_bytes(text)
    command = stage.call("resume", run.id)
    if command.code == 0:
        status = look(stage, run, ["failed"], ("config.toml",))
        stage.notes.append(str(status.get("reason")))
    elif "config.toml" not in command.err:
        stage.wrong([f"reason: `resume` does not name config.toml: {command.err.strip()[:200]}"])
    run.config.write_bytes(whole)
    stage.until(lambda: not stage.processes(), "all processes to end")
    go_on(stage, run, options={})
    finish(stage)


@fault_kind("torn-receipt", "receipt.json, estimate.json or held_out.json of a run that is over is torn")
def torn_receipt(stage: Stage) -> None:
    """They are looked at, and nothing depends on them."""
    run = ended_at(stage, stage.rng.randint(1, 11))
    path = stage.rng.choice((run.receipt, run.estimate, run.held_out, run.given_name, run.queue_place))
    texts = ("", "{", '{"data": 5}', '{"data": {"sha256": []}}', "[]", json.dumps({"name": "\x1b[2J"}), "\x1b]0;x\x07")
    path.write_text(stage.rng.choice(texts), encoding="utf-8")
    look(stage, run, ["failed"])
    go_on(stage, run, options={})
    finish(stage)
