"""Readers of the folders of runs, groups and improvements in which one file is hostile; see `hostile_input`."""

import contextlib
import json
import os
from dataclasses import asdict
from typing import Any
from unittest import mock

from dpo_tui.advice.diagnose import as_event, diagnose
from dpo_tui.cli.run_summary_text import run_lines, table
from dpo_tui.data.pairs.hold_out_by_prompt import prompt_id
from dpo_tui.errors import DpoTuiError
from dpo_tui.groups import group_status, ranking
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_store import member_names
from dpo_tui.hardware.run_history import measurements
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import document, improvement_status
from dpo_tui.improve.report.report_figures import report_figures
from dpo_tui.improve.report.report_html import report_html
from dpo_tui.improve.report.report_markdown import report_markdown
from dpo_tui.judging.judging_session import Session
from dpo_tui.runs.comparison import compare
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import held_out_pairs, read_held_out
from dpo_tui.runs.launchers import slurm_refresh
from dpo_tui.runs.ranks import end_of_ranks, read_reports
from dpo_tui.runs.summary import summary
from dpo_tui.views import monitor_text
from dpo_tui.views.comparison_table import about_rows, comparison_page, result_rows
from dpo_tui.views.improvement_view import ImprovementReader
from dpo_tui.views.run_feed import RunFeed
from dpo_tui.views.run_list import _read_summary
from tests.support.hostile_bytes import NOW, Reader, fill, one_of_each, scratch_folder

ID = "20260102-030405-abcd"
_CONFIG = b'[model]\nmodel_name = "m"\n[data]\ndataset = "d.jsonl"\n[training]\nlearning_rate = 1e-6\nseed = 1\n'
_METRICS = b"".join(
    json.dumps({"step": step, "time": 1e9 + step, "epoch": step / 9, **values}).encode() + b"\n"
    for step in range(1, 40)
    for values in (
        {
            "loss": 0.7 - step / 99,
            "rewards/chosen": -0.1 * step,
            "rewards/rejected": -0.2 * step,
            "rewards/accuracies": 0.6,
            "rewards/margins": 0.1,
            "logps/chosen": -30.0 - step,
            "logps/rejected": -40.0 - step,
            "grad_norm": 1.0,
            "learning_rate": 1e-6,
            "step_seconds": 0.5,
            "tokens_per_second": 900.0,
            "vram_peak_gb": 1.5,
        },
        {"eval_loss": 0.69, "eval_rewards/accuracies": 0.6, "eval_kl": 0.1},
    )
    if step % 10 == 0 or "loss" in values
)
_RUN = {
    "state.json": json.dumps(
        {
            **{"id": ID, "name": "n", "status": "done", "attempt": 1, "devices": ["gpu:0"], "launcher": "local"},
            **{"created_at": 1e9, "queued_at": 1e9, "started_at": 1e9, "attempt_started_at": 1e9, "ended_at": 2e9},
            "group": {"id": "g", "kind": "sweep", "member": 1, "values": {"learning_rate": 1e-6}},
            "job": {"id": "17", "node": "n1", "restarts": 1},
            "device_request": {"candidates": ["gpu:0", "gpu:1"], "count": 1},
        }
    ).encode(),
    "config.toml": _CONFIG,
    "progress.json": b'{"phase": "training", "step": 39, "max_steps": 40, "unit": "steps", "time": 1.0, "epoch": 1.0}',
    "metrics.jsonl": _METRICS,
    "receipt.json": json.dumps(
        {
            **{
                "data": {"location": "d.jsonl", "sha256": "ab", "rows": 12, "unusable": 1, "train": 9, "held_out": 3},
                "ranks": 1,
            },
            "results": {
                "metrics": {"tokens_per_second": 9.0, "vram_peak_gb": 1.5},
                "best": {"step": 30, "metric": "x"},
            },
            "device": {"kind": "cuda", "name": "H100"},
            "memory_gb": {"estimated": 1.0, "measured": 1.5},
            "packages": {"torch": "2"},
            "shortcuts": {},
        }
    ).encode(),
    "events.jsonl": b'{"t": 1.0, "time": 1, "kind": "advice", "severity": "warning", "message": "x", "rule": "r"}\n',
    "supervisor.jsonl": b'{"t": 1.0, "kind": "started", "message": "x", "attempt": 1}\n',
    "samples.jsonl": b'{"step": 1, "prompt": [{"role": "user", "content": "a"}], "answer": "x", "reference": "y"}\n',
    "ranks/0.json": b'{"rank": 0, "host": "h", "node": "n", "pid": 1, "t": 1.0, "phase": "training", "step": 3}',
    "job.json": b'{"id": "17", "submitted_at": 1.0}',
    "job-status.json": b'{"id": "17", "state": "PENDING", "reason": "Priority", "start": 2e9, "t": 1.0, "error": ""}',
    "held_out.json": b'{"version": 1, "prompts": ["a"]}',
    "estimate.json": b'{"total": 1.5, "parts": {"weights": 1.0}}',
    "queue-place.json": b'{"place": 1.5, "queued_at": 1e9}',
    "name": b"a name",
}


def run_pages(data: bytes) -> None:
    """A run as commands, lists, the monitor, comparisons, the rules of advice and forecasts read it."""
    with scratch_folder() as home, mock.patch.object(slurm_refresh, "refresh"):
        folder = RunFolder(home / ID)
        fill(folder.path, _RUN, data)
        found = summary(folder, now=NOW)
        json.dumps(found)
        run_lines(found, 80, NOW)
        table([found], 80, NOW)
        _read_summary(folder, NOW)
        feed = RunFeed(folder)
        feed.poll(NOW)
        monitor_text.header(feed)
        monitor_text.events_text(feed.events)
        monitor_text.samples_text(folder.samples)
        monitor_text.config_text(folder.config)
        monitor_text.receipt_text(folder.receipt)
        compared = compare([folder, folder])
        comparison_page(compared, compared.names(), 80)
        about_rows(compared)
        result_rows(compared)
        read_held_out(folder)
        held_out_pairs(folder)
        end_of_ranks(read_reports(folder), 2)
        for advice in diagnose(folder.path):
            json.dumps(as_event(advice))
        measurements(home)


_GROUP = {
    "plan.json": json.dumps(
        {
            **{"version": 1, "id": "g", "name": "n", "kind": "sweep", "settings": ["beta"], "at_most": 1},
            "members": [
                {
                    "number": n,
                    "name": f"r{n}",
                    "values": {"beta": n / 10},
                    "reads": "x",
                    "devices": ["gpu:0"],
                    "ranks": 1,
                }
                for n in (1, 2)
            ],
            "part_of": {"improvement": "i", "round": 1},
        }
    ).encode(),
    "state.json": json.dumps(
        {
            **{"status": "running", "driver_pid": 1, "driver_start": 2, "runs": {"1": ID}},
            "refused": {"2": "no"},
            "behind": {},
        }
    ).encode(),
}


def group_files(data: bytes) -> None:
    """A group as commands show and rank it."""
    with scratch_folder() as home, mock.patch.dict(os.environ, {"DPO_TUI_HOME": str(home)}):
        folder = GroupFolder(home / "groups" / "g")
        fill(folder.path, _GROUP, data)
        fill(home / "runs" / ID, {**_RUN, "unused": b""}, bytes([len(_RUN)]))
        member_names(folder)
        status = group_status.group_status(folder)
        json.dumps(group_status.document(status))
        ranking.rank(status).document()


_ANSWER = b'{"id": "p1", "number": 0, "text": "hello there", "cut": false, "tokens": 3}\n'
_IMPROVEMENT = {
    "plan.json": json.dumps(
        {
            **{"version": 1, "id": "i", "name": "n", "model": "m", "rounds": 2, "answers": 4, "source": "c.toml"},
            **{
                "judge": {"kind": "program", "command": "x"},
                "sweep": {"beta": [0.1, 0.2]},
                "target": 0.6,
                "argv": ["a"],
            },
        }
    ).encode(),
    "state.json": json.dumps(
        {
            **{"status": "running", "round": 2, "step": "samples", "done": 1, "total": 2},
            "seconds": {"train": 1.5},
            "joules": 5.0,
        }
    ).encode(),
    "prompts.jsonl": b'{"id": "p1", "messages": [{"role": "user", "content": "a"}], "held_out": true}\n',
    "start-answers.jsonl": _ANSWER,
    "person.jsonl": b'{"t": 1.0, "key": "k", "verdict": "left"}\n',
    "waiting.json": b'{"pairs": [{"id": "p1", "prompt": [{"content": "a"}], "left": "x", "right": ""}]}',
    "rounds/1/result.json": json.dumps({"run": ID, "runs": [ID], "group": "g", "without_result": {"r": "x"}}).encode(),
    "rounds/1/counts.json": json.dumps(
        {
            **{"prompts": 1, "answers": 4, "tokens": 9, "dropped": {"empty": 1}, "judgements": 4, "pairs": 1},
            **{"without_pair": {"tie": 1}, "chosen_longer": 1, "judge": {"kind": "program"}},
        }
    ).encode(),
    f"rounds/1/held-out/{ID}.answers.jsonl": _ANSWER,
    f"rounds/1/held-out/{ID}.verdicts.jsonl": (
        b'{"id": "p1", "role": "judge", "against": "start", "left": "tuned", "winner": "tuned"}\n'
    ),
}


def improvement_files(data: bytes) -> None:
    """An improvement as commands, its page and its report show it, judged by a program and by a person."""
    with scratch_folder() as home, mock.patch.dict(os.environ, {"DPO_TUI_HOME": str(home)}):
        folder = ImprovementFolder(home / "improvements" / "i")
        fill(folder.path, _IMPROVEMENT, data)
        fill(home / "runs" / ID, {**_RUN, "unused": b""}, bytes([len(_RUN)]))
        ImprovementReader(folder).read()
        _of_person(folder)
        with contextlib.suppress(DpoTuiError):
            status = improvement_status(folder)
            json.dumps(document(folder, status))
            figures = report_figures(folder, status.plan, status.state)
            report_html(report_markdown(figures), figures)


def _of_person(folder: ImprovementFolder) -> None:
    """Read it once more as if a person judged."""
    with contextlib.suppress(ValueError, RecursionError):
        plan = json.loads(folder.plan.read_bytes())
        if isinstance(plan, dict):
            folder.plan.write_text(json.dumps({**plan, "judge": {"kind": "person"}}), encoding="utf-8")
            ImprovementReader(folder).read()


_PROMPT: list[Any] = [{"role": "user", "content": "a"}]
_JUDGING = {
    "judge/plan.json": json.dumps(
        {
            **{"version": 2, "seed": "1", "max_new_tokens": 9, "held_out": True, "caution": "", "prompts": [_PROMPT]},
            "tools": {prompt_id(_PROMPT): [{"name": "f"}]},
        }
    ).encode(),
    "judge/answers.jsonl": b"".join(
        json.dumps({"id": prompt_id(_PROMPT), "who": who, "answer": who}).encode() + b"\n" for who in ("base", "tuned")
    ),
    "judge/verdicts.jsonl": json.dumps({"id": prompt_id(_PROMPT), "winner": "tuned", "by": "person"}).encode() + b"\n",
}


def judging_files(data: bytes) -> None:
    """What a judging has kept: its plan, answers and verdicts."""
    with scratch_folder() as home:
        folder = RunFolder(home / ID)
        fill(folder.path, _JUDGING, data)
        session = Session.existing(folder)
        if session is not None:
            session.next()
            session.tally()
            session.undo()
            json.dumps([session.verdicts(), session.pairs()])
            json.dumps([asdict(pair) for pair in session.waiting()])


FOLDER_READERS: dict[str, Reader] = {
    "run_pages": run_pages,
    "group_files": group_files,
    "improvement_files": improvement_files,
    "judging_files": judging_files,
}
FOLDER_SEEDS: dict[str, list[bytes]] = {
    "run_pages": one_of_each(_RUN),
    "group_files": one_of_each(_GROUP),
    "improvement_files": one_of_each(_IMPROVEMENT),
    "judging_files": one_of_each(_JUDGING),
}
