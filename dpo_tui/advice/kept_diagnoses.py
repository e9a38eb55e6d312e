"""Diagnoses of runs that are over, kept from one list of all runs to the next: making one takes 2 ms.

They lie in the cache folder, with the states of the files that each is made from and of the rules.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_tui import __version__, paths
from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.text.plain_documents import parse_json

READ = (
    "state.json",
    "progress.json",
    "config.toml",
    "metrics.jsonl",
    "receipt.json",
    "supervisor.jsonl",
    "events.jsonl",
)
"""The files that `dpo_tui.advice.evidence.read_evidence` reads."""


class KeptDiagnoses:
    """Gives the diagnosis of a run as an event, from the cache where nothing has changed; `save` keeps the new ones."""

    def __init__(self) -> None:
        self._path = paths.cache() / "diagnoses.json"
        self._rules = _rules_state()
        self._kept: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._is_new = False
        try:
            document = parse_json(self._path.read_bytes())
            if document["rules"] == self._rules and isinstance(document["runs"], dict):
                self._kept = document["runs"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not kept yet, by another version, or damaged: all are made anew

    def event_of(self, folder: Path) -> Mapping[str, Any]:
        """The diagnosis of a run that is over."""
        files = [_state_of(folder / name) for name in READ]
        kept = self._kept.get(str(folder))
        if isinstance(kept, dict) and kept.get("files") == files and isinstance(kept.get("event"), dict):
            event: dict[str, Any] = kept["event"]
        else:
            event, self._is_new = as_event(diagnose(folder)[0]), True
        self._asked[str(folder)] = {"files": files, "event": event}
        return event

    def save(self) -> None:
        """Keep what was asked for, and forget the rest; without room or a right to write nothing is kept."""
        if not self._is_new:
            return
        try:
            paths.make_private(self._path.parent)
            write_json_atomic(self._path, {"rules": self._rules, "runs": self._asked})
        except (OSError, TypeError, ValueError):
            return


def _state_of(path: Path) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size]


def _rules_state() -> list[Any]:
    """The version, and the state of the modules of the rules, which change without it in a checkout."""
    folder = Path(__file__).parent
    return [__version__, *([path.name, *_state_of(path)] for path in sorted(folder.glob("*.py")))]
