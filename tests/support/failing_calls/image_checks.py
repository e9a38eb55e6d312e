"""What must hold in every image of a crash (:mod:`tests.support.failing_calls.crash_images`)."""

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from dpo_tui.errors import DpoTuiError
from dpo_tui.runs import run_lock, start_run, store
from dpo_tui.runs.atomic_files import read_json, read_last_json_lines
from dpo_tui.runs.checkpoint_checksums import newest_whole
from dpo_tui.runs.complete_checkpoints import step_of
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.status import status_of
from tests.support.failing_calls.crash_images import KILLED, VIEWS, Call, Files, Images, write_image
from tests.support.failing_calls.faked_training import STEPS, weights_after
from tests.support.failing_calls.one_case import WORKER
from tests.support.supervised_runs import until

_LOGS = ("metrics.jsonl", "events.jsonl", "supervisor.jsonl")
_MANY = 10_000


class ImageCheck:
    """Opens the images of one run, one after the other; equal ones once.

    Args:
        calls: the log of the run, which ended as done.
        below: the folder of all runs, in the log.
        place: where images are made.
    """

    def __init__(self, calls: list[Call], below: Path, place: Path) -> None:
        self._calls = calls
        self._images = Images(below)
        self._place = place
        self._seen: set[int] = set()
        self.violations: list[str] = []
        self.opened = self.resumed = 0

    def check(self, every: int, resume_every: int) -> None:
        """Go through the calls.

        Args:
            every: open the images after each so many calls.
            resume_every: resume the run in each so many of the images that were opened.
        """
        marked: list[int] = []
        deleted = False
        for index, call in enumerate(self._calls, 1):
            self._images.apply(call)
            if call.name == "rename" and call.other.endswith("/complete.json"):
                marked.append(step_of(Path(call.other).parent))
            deleted = deleted or (call.name == "unlink" and "/checkpoint-" in call.path)
            if index % every and index < len(self._calls):
                continue
            for view in VIEWS:
                files = self._images.files(view)
                key = hash(tuple(sorted((path, content) for path, content in files.items() if content is not None)))
                if key not in self._seen:
                    self._seen.add(key)
                    newest = max(marked, default=0)
                    where = f"call {index} ({call.role} {call.name} {Path(call.path).name}), {view}"
                    # Of a power cut the newest may be lost, for which one before it must be there until then.
                    needed = newest if view == KILLED else int(deleted)
                    self._open(where, files, needed, self.opened % resume_every == resume_every - 1)

    def _open(self, where: str, files: Files, needed: int, resumes: bool) -> None:
        home = self._place / str(self.opened)
        write_image(files, home / "runs")
        os.environ["DPO_TUI_HOME"] = str(home)
        self.opened += 1
        before = len(self.violations)
        for folder in store.all_runs():
            found = self._look(folder, files, needed)
            if not found and resumes:
                self.resumed += 1
                found = self._resume(folder, home)
            self.violations += [f"{where}: {one}" for one in found]
        if len(self.violations) == before:
            shutil.rmtree(home)

    def _look(self, folder: RunFolder, files: Files, needed: int) -> list[str]:
        found: list[str] = []
        try:
            status = status_of(folder)
        except DpoTuiError as error:
            return [f"no status: {error.message}"]
        if status.state is None:
            found.append(f"state.json: {status.reason}")
        elif status.live or (not status.over and status.state.attempt):
            found.append(f"status {status.status}, and nothing of it lives")
        elif status.status == "done":
            weights = (read_json(folder.adapter / "weights.json") or {}).get("weights")
            if weights != weights_after(STEPS):
                found.append(f"done, and its result has weights {weights}")
        if not folder.config.is_file() or not folder.config.read_text().strip("\0"):
            found.append("config.toml is empty")
        for name in _LOGS:
            self._look_at_lines(folder, name, files, found)
        whole, _, _ = newest_whole(folder.checkpoints)
        step = step_of(whole) if whole else 0
        if step < needed:
            found.append(f"whole is checkpoint {step}, and that of step {needed} or a later one must be")
        elif whole is not None and (read_json(whole / "weights.json") or {}).get("weights") != weights_after(step):
            found.append(f"{whole.name} has other weights")
        return found

    def _look_at_lines(self, folder: RunFolder, name: str, files: Files, found: list[str]) -> None:
        content = files.get(f"{folder.id}/{name}") or b""
        there = Counter(json.dumps(line) for line in read_last_json_lines(folder.path / name, _MANY))
        for line in content.splitlines():
            if line.strip(b"\0") and line.endswith(b"}") and there[json.dumps(json.loads(line.strip(b"\0")))] != 1:
                found.append(f"{name}: a line cannot be read: {line!r}")

    def _resume(self, folder: RunFolder, home: Path) -> list[str]:
        """The run goes on, and ends with the right weights and one line of metrics a step that was trained."""
        (home / "gate").touch()
        os.environ |= {"FAKED_TRUTH": str(home / "truth"), "FAKED_GATE": str(home / "gate")}
        before = Counter(line["step"] for line in read_last_json_lines(folder.metrics, _MANY))
        was_done = status_of(folder).status == "done"
        try:
            if not was_done:
                start_run.resume(folder, [sys.executable, "-S", "-P", str(WORKER), str(folder.path)])
        except DpoTuiError as error:
            return [f"cannot be resumed: {error.message}"]
        until(lambda: status_of(folder).over and run_lock.owner(folder.lock) is None, f"{folder.path} to end")
        status = status_of(folder)
        weights = (read_json(folder.adapter / "weights.json") or {}).get("weights")
        if status.status != "done" or weights != weights_after(STEPS):
            return [f"resumed, it is {status.status} with weights {weights}: {status.reason}"]
        trained = Counter(int(line.split()[1]) for line in _told(home) if line.startswith("trained "))
        after = Counter(line["step"] for line in read_last_json_lines(folder.metrics, _MANY))
        return [] if after == before + trained else [f"metrics: {dict(before)} + {dict(trained)} = {dict(after)}"]


def _told(home: Path) -> list[str]:
    return (home / "truth").read_text().splitlines() if (home / "truth").exists() else []
