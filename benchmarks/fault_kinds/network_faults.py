"""The network goes: the hub, the endpoint of a model, the address of a webhook. On the real sockets of this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fault_kinds.broken_server import MODES
from benchmarks.fault_kinds.commands import in_child
from benchmarks.fault_kinds.follow_up import check_done, finish
from benchmarks.fault_kinds.kind import fault_kind
from benchmarks.fault_kinds.stage import Stage

_SCORES = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"id": asked["id"], "score": len(asked["answer"])}), flush=True)
"""


@contextmanager
def server(mode: str, good: int = 0, port: int = 0) -> Iterator[int]:
    """A server that breaks after so many good answers; gives its port."""
    path = Path(__file__).with_name("broken_server.py")
    process = subprocess.Popen(
        [sys.executable, str(path), mode, str(good), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None:
            raise OSError("the server has no output")
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@fault_kind("hub-lost", "the hub refuses, resets, answers garbage or an error while a command asks it")
def hub_lost(stage: Stage) -> None:
    """The command ends with words about the hub or the network, and a run that trains does not notice."""
    run = stage.started_at(3)
    mode = stage.rng.choice([mode for mode in MODES if mode not in {"silent", "good"}])
    stage.notes.append(mode)
    config = stage.folder / "config.toml"
    config.write_text(stage.config_text(model_name="somebody/model"), encoding="utf-8")
    commands = (("train", str(config), "--detach"), ("inspect", "somebody/data"), ("estimate", str(config)))
    argv = stage.rng.choice(commands)
    os.environ.pop("HF_HUB_OFFLINE", None)
    with server(mode) as port:
        ended = stage.call_fresh(
            *argv, environment={"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(stage.folder / "hf")}
        )
    if ended.code == 0:
        stage.wrong([f"output: `{argv[0]}` ended with 0 without the hub"])
    said = ended.err.lower()
    if not any(word in said for word in ("hub", "hugging", "network", "connect", "somebody/")):
        stage.wrong([f"reason: `{argv[0]}` does not name the hub: {ended.err.strip()[-300:]}"])
    check_done(stage, run)
    stage.adopt_runs()
    finish(stage)


@fault_kind("endpoint-lost", "the endpoint that answers dies or breaks in the middle of `pairs`, and comes back")
def endpoint_lost(stage: Stage) -> None:
    """The command says so or is interrupted; the same command goes on, and keeps what was answered."""
    prompts, out = stage.folder / "prompts.txt", stage.folder / "pairs.jsonl"
    count = 6
    prompts.write_text("".join(f"question {number}\n" for number in range(count)), encoding="utf-8")
    score = stage.folder / "score.py"
    score.write_text(_SCORES, encoding="utf-8")
    mode = stage.rng.choice([mode for mode in MODES if mode != "good"])
    good = stage.rng.randint(0, 2 * count - 1)
    stage.notes.append(f"{mode} after {good}")

    def argv(port: int) -> tuple[str, ...]:
        where = ("--answers-from", f"http://127.0.0.1:{port}/v1", "--answers-model", "m", "-n", "2", "-o", str(out))
        return ("pairs", str(prompts), *where, "--judge-command", f"{sys.executable} {score}")

    with server(mode, good) as port:
        command = stage.launch(*argv(port))
        time.sleep(1 + stage.rng.random() * 3)
        # Retries take half a minute: nobody waits for them here, as few people would.
        if stage.rng.random() < 0.8:
            os.kill(command.pid, stage.rng.choice((signal.SIGINT, signal.SIGKILL)))
        stage.check(command.wait(180), {0, 1, 2, 130, -9})
    kept = _answers(stage)
    with server("good", port=port) as again:
        stage.call(*argv(again), seconds=120, codes={0})
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []
    found = _answers(stage)
    if len(rows) > count or found < kept:
        stage.wrong([f"pairs: {len(rows)} rows of {count} prompts, {found} answers of {kept} kept"])
    if found != 2 * count:
        stage.wrong([f"pairs: {found} answers are kept of {2 * count}"])
    finish(stage)


def _answers(stage: Stage) -> int:
    """How many answers `pairs` has kept."""
    return sum(path.read_bytes().count(b"\n") for path in stage.folder.rglob("answers.jsonl"))


@fault_kind("webhook-lost", "the webhook's address is closed, resets, breaks off, redirects or answers without end")
def webhook_lost(stage: Stage) -> None:
    """The notification fails within its time, as an error that the app shows; nothing else happens."""
    mode = stage.rng.choice([mode for mode in MODES if mode != "good"])
    stage.notes.append(mode)

    def post(port: int) -> str:
        from dpo_tui.views.notifications import Notification, post

        try:
            post(f"http://127.0.0.1:{port}/hook", Notification("20260101-000000-0000", "n", "failed", "x"))
        except OSError as error:
            return f"OSError: {error}"
        return ""

    with server(mode) as port:
        began = time.monotonic()
        said = in_child(lambda: post(port), 60)
    if not said and mode not in {"not json"}:
        stage.wrong([f"webhook: no error where the address is {mode}"])
    if time.monotonic() - began > 40:
        stage.wrong([f"webhook: {time.monotonic() - began:.0f} s where ten are its limit"])
    finish(stage)
