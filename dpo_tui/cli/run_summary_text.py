"""Run summaries as text, for `dpo-tui runs`, `dpo-tui status` and whatever follows a run; from 80 columns on."""

import json
import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process_text import job_text, processes_text, silence_of
from dpo_tui.runs.status_names import EXPLAINED, GLYPHS, LIVE, PHASES
from dpo_tui.text.durations import ago, duration
from dpo_tui.text.numbers import plain_number, whole_percent
from dpo_tui.text.printable import printable

# Where the terminal has no UTF-8.
_ASCII_GLYPHS = {
    "queued": ".",
    "starting": "~",
    "running": "*",
    "stalled": "!",
    "stopping": "~",
    "done": "+",
    "failed": "x",
    "stopped": "#",
    "lost": "!",
}

# Widths of the table's columns; the last one, the note, takes the rest of the terminal.
_STATUS, _ID, _NAME, _STEP = 10, 20, 12, 11
_NAME_WIDE = 28
_WIDE = 110
_UNLIMITED = 1 << 20
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")

_FIGURES = (("loss", "loss"), ("accuracy", "rewards/accuracies"), ("margin", "rewards/margins"))
_HELD_OUT = tuple((label, f"eval_{name}") for label, name in _FIGURES)


def glyph(status: str) -> str:
    """The sign of a status; always shown beside the status's word, since neither sign nor colour is enough alone."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
    return (GLYPHS if utf8 else _ASCII_GLYPHS).get(status, "?")


def table(summaries: list[dict[str, Any]], width: int | None, now: float | None = None) -> list[str]:
    """Lay out runs as lines of at most ``width`` columns, the head first.

    Args:
        summaries: as `dpo_tui.runs.store.summary` makes them.
        width: columns of the terminal; None for a file or a pipe, where nothing is cut.
        now: Unix time; the present by default.
    """
    now = time.time() if now is None else now
    if width is None:
        names = (printable(str(run.get("name", "")), single_line=True) for run in summaries)
        width, name = _UNLIMITED, max([_NAME_WIDE, *map(columns, names)])
    else:
        name = _NAME_WIDE if width >= _WIDE else _NAME
    sizes = (_STATUS, _ID, name, _STEP)
    room = width - sum(sizes) - len(sizes)
    rows = [("status", "id", "name", "step", "")]
    rows += [
        (_status(run), str(run["id"]), str(run.get("name", "")), _steps(run), note(run, now, room)) for run in summaries
    ]
    lines = []
    for *cells, last in rows:
        head = " ".join(fit(cell, size) for cell, size in zip(cells, sizes, strict=True))
        lines.append(f"{head} {clip(last, room)}".rstrip())
    return lines


def note(run: dict[str, Any], now: float, room: int) -> str:
    """The last column of the table: why a run waits or failed, else its loss and its time left or end.

    The loss is left out where both are wider than ``room`` columns, since a time that is cut off would be wrong. Job
    and number of processes of a run that goes on come last, as far as there is room.
    """
    if run["status"] in EXPLAINED and run.get("reason"):
        return str(run["reason"])
    loss = _number(run.get("metrics", {}).get("loss"))
    parts = [f"loss {loss:.3g}"] if loss is not None else []
    if run.get("eta_seconds") is not None:
        parts.append(f"ETA {duration(run['eta_seconds'])}")
    elif run.get("ended_at"):
        parts.append(ago(run["ended_at"], now))
    elif run["status"] in ("starting", "running") and run.get("phase"):
        parts.append(_phase(run))
    both = " · ".join(parts)
    text = both if columns(both) <= room else parts[-1]
    if run["status"] in LIVE:
        for more in filter(None, (job_text(run), processes_text(run))):
            longer = f"{text} · {more}" if text else more
            text = longer if columns(longer) <= room else text
    return text


def run_lines(run: dict[str, Any], width: int, now: float | None = None) -> list[str]:
    """Describe one run in a few lines: status, progress, figures, times, advice and result.

    Args:
        run: as `dpo_tui.runs.store.summary` makes it.
        width: columns of the terminal; only paths may be longer, so that they can be copied.
        now: Unix time; the present by default.
    """
    now = time.time() if now is None else now
    name = printable(str(run.get("name", "")), single_line=True)
    lines = [clip(f"{_status(run)}  {name}  {run['id']}", width)]
    lines += _wrap(str(run.get("reason") or ""), width)
    lines += _wrap(_progress(run), width)
    metrics = run.get("metrics", {})
    lines += _wrap(_figures(metrics), width)
    lines += _wrap(_held_out(metrics), width)
    lines += _wrap(_work(run), width)
    lines += _wrap(_times(run, now), width)
    if run["status"] in LIVE - {"queued", "starting"}:  # else the reports are those of an earlier attempt
        lines += _wrap(_ranks(run, now), width)
    advice = run.get("advice")
    if advice:
        lines += _wrap(f"advice: {advice.get('message', '')}", width)
        lines += _wrap(_remedy(advice), width)
    if run["status"] == "done":
        lines += _wrap(result_text(Path(run["dir"])), width)
    lines.append(f"  {printable(str(run['dir']), single_line=True)}")
    return lines


def result_text(folder: Path) -> str:
    """Which results a run folder holds, of which step, and whether they can be merged; empty where it holds none."""
    return " ".join(filter(None, (_kind_of_result(folder), _best_step_text(folder))))


def _kind_of_result(folder: Path) -> str:
    adapter, merged = (folder / "adapter").is_dir(), (folder / "merged").is_dir()
    if adapter and merged:
        return "Result: merged/ is the whole model, base and adapter in one; adapter/ is what was trained."
    if adapter:
        base = _base_model_text(folder)
        return f"Result: adapter/ is what was trained; it works with its base{base}, or merged into it."
    if merged:
        return "Result: merged/ is the whole model; every weight was trained, and there is nothing to merge."
    return ""


def _best_step_text(folder: Path) -> str:
    """Of which step the results are, where the best was kept, and why training ended early; empty for other runs."""
    try:
        best = (read_json(folder / "receipt.json") or {})["results"]["best"]
        chosen = f"the best of {best['evaluations']} evaluations by {best['metric']} ({best['value']:.4g})"
        text = f"It is that of step {best['step']} of {best['last_step']}, {chosen}."
        return f"{text} {best['ended']}." if best["ended"] else text
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _base_model_text(folder: Path) -> str:
    """The name of an adapter's base model after a space; empty where the adapter does not name it."""
    try:
        settings = read_json(folder / "adapter" / "adapter_config.json") or {}
        return f" {settings['base_model_name_or_path']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def next_steps(run: dict[str, Any]) -> list[str]:
    """The commands that make sense in the run's status, each with its purpose, one a line.

    Args:
        run: as `dpo_tui.runs.store.summary` makes it; ``id``, ``status``, ``dir`` and ``advice`` are read.
    """
    key, status = run["id"], run["status"]
    follow = (f"dpo-tui logs -f {key}", "watch it")
    stop = (f"dpo-tui stop {key}", "save a checkpoint and stop")
    at_once = (f"dpo-tui stop --now {key}", "stop at once")
    resume = (f"dpo-tui resume {key}", _resume_purpose(run.get("dir")))
    logs = (f"dpo-tui logs {key}", "what it printed")
    judge = (f"dpo-tui judge {key}", "better than its base?")
    export = (f"dpo-tui export {key} --to DIR --merge", "a folder to serve")
    choices = {
        "queued": [follow, stop],
        "starting": [follow, stop],
        "running": [follow, stop],
        "stalled": [logs, at_once],
        "stopping": [follow, at_once],
        "failed": [logs, resume],
        "stopped": [resume, logs],
        "lost": [resume, logs],
        "done": [judge, export, logs],
    }.get(status, [logs])
    if _remedy(run.get("advice") or {}):
        choices = [*choices, (f"dpo-tui config fix {key}", "that advice as a config")]
    size = max(len(command) for command, _ in choices)
    return [f"  {command.ljust(size)}  {purpose}" for command, purpose in choices]


def _resume_purpose(folder: str | None) -> str:
    """From where a resume would go on; a run that ended before its first checkpoint begins again."""
    if folder is not None and newest_complete(RunFolder(Path(folder)).checkpoints)[0] is None:
        return "train from the beginning: there is no checkpoint"
    return "go on from the last checkpoint"


def fit(text: str, width: int) -> str:
    """Clip or pad to exactly ``width`` columns."""
    text = clip(text, width)
    return text + " " * (width - columns(text))


def clip(text: str, width: int) -> str:
    """A text as one line without control characters, cut with an ellipsis if it has more than ``width`` columns."""
    text = printable(text, single_line=True)
    if columns(text) <= width:
        return text
    clipped, used = "", 0
    for character in text:
        used += columns(character)
        if used > width - 1:
            break
        clipped += character
    return clipped + "…" if width > 0 else ""


def columns(text: str) -> int:
    """The columns that a text takes in a terminal: two for wide East Asian characters, none for combining marks."""
    if text.isascii():
        return len(text)
    # Most of a line is ASCII also where a glyph is in it.
    others = _NOT_ASCII.findall(text)
    return (
        len(text)
        - len(others)
        + sum(
            0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
            for character in others
        )
    )


def _status(run: dict[str, Any]) -> str:
    return f"{glyph(run['status'])} {run['status']}"


def _steps(run: dict[str, Any]) -> str:
    step, last = _number(run.get("step")), _number(run.get("max_steps"))
    if step is None:
        return ""
    return f"{step:,.0f}/{last:,.0f}" if last else f"{step:,.0f}"


def _progress(run: dict[str, Any]) -> str:
    step, last, epoch = (_number(run.get(key)) for key in ("step", "max_steps", "epoch"))
    parts = [_phase(run)] if run.get("phase") and run["status"] in LIVE else []
    if step is not None and last:
        parts.append(f"step {step:,.0f} of {last:,.0f} ({whole_percent(step / last)} %)")
    if epoch is not None:
        parts.append(f"epoch {epoch:.2f}")
    if run.get("eta_seconds") is not None:
        parts.append(f"ETA {duration(run['eta_seconds'])}")
    return " · ".join(parts)


def _phase(run: dict[str, Any]) -> str:
    return PHASES.get(str(run["phase"]), str(run["phase"]))


def _figures(metrics: Mapping[str, Any], chosen: Iterable[tuple[str, str]] = _FIGURES) -> str:
    figures = [(label, _number(metrics.get(key))) for label, key in chosen]
    return " · ".join(f"{label} {value:.3g}" for label, value in figures if value is not None)


def _held_out(metrics: Mapping[str, Any]) -> str:
    """The latest evaluation and KL estimate; empty before the first."""
    kl, stderr = _number(metrics.get("eval_kl")), _number(metrics.get("eval_kl_stderr"))
    spread = f" ± {stderr:.2g}" if stderr is not None else ""
    parts = [_figures(metrics, _HELD_OUT), f"KL {kl:.2g}{spread} nats an answer" if kl is not None else ""]
    found = " · ".join(filter(None, parts))
    return f"held out: {found}" if found else ""


def _work(run: Mapping[str, Any]) -> str:
    """Speed while it trains, the peak of GPU memory, and the batch."""
    speed, peak = (_number(run.get("metrics", {}).get(key)) for key in ("tokens_per_second", "vram_peak_gb"))
    parts = [f"{speed:,.0f} tokens a second"] if speed is not None and run["status"] in LIVE else []
    if peak:
        parts.append(f"peak {peak:.1f} GB of GPU memory")
    from dpo_tui.runs.out_of_memory_retry import BATCH_KEYS, MicroBatch, configured  # not needed by `dpo-tui runs`

    micro, accumulation = (run.get(key) for key in BATCH_KEYS)
    batch = MicroBatch(micro, accumulation) if micro and accumulation else configured(RunFolder(Path(run["dir"])))
    if batch is not None:
        ranks = int(run.get("ranks") or 1)
        shared = f" × {ranks} processes" if ranks > 1 else ""
        parts.append(f"batch {batch}{shared} = {batch.effective * ranks}")
    return " · ".join(parts)


def _remedy(advice: Mapping[str, Any]) -> str:
    """The settings that advice proposes, as text; empty where it proposes none."""
    changes = advice.get("remedy")
    if not isinstance(changes, Mapping) or not changes:
        return ""
    return "try: " + ", ".join(f"{name} = {_setting(value)}" for name, value in changes.items())


def _setting(value: object) -> str:
    if value is None:
        return "left out"
    return plain_number(value) if isinstance(value, float) else json.dumps(value)


def _times(run: dict[str, Any], now: float) -> str:
    parts = []
    if run.get("ended_at"):
        parts.append(f"ended {ago(run['ended_at'], now)}")
    elif run.get("started_at"):
        parts.append(f"started {ago(run['started_at'], now)}")
    elif run.get("created_at"):
        parts.append(f"made {ago(run['created_at'], now)}")
    if processes := processes_text(run):
        parts.append(processes)
    if (run.get("attempt") or 0) > 1:
        parts.append(f"attempt {run['attempt']}")
    if job := job_text(run):
        parts.append(job)
    if run.get("devices"):
        parts.append("on " + ", ".join(map(str, run["devices"])))
    elif run["status"] == "queued" and run.get("device_request"):
        parts.append(_requested_devices(run["device_request"]))
    if run.get("per_device_train_batch_size"):
        # After an out-of-memory, or a resume on another number of processes.
        batch = f"batch {run['per_device_train_batch_size']} × {run['gradient_accumulation_steps']}"
        parts.append(f"{batch} instead of the config's")
    return " · ".join(parts)


def _ranks(run: dict[str, Any], now: float) -> str:
    """What each of several processes is doing, and for how long one has given no sign of life."""
    parts = []
    for report in run.get("rank_reports") or ():
        step = "" if (made := _number(report["step"])) is None else f", step {made:,.0f}"
        memory = f", {peak:.1f} GB" if (peak := _number(report.get("memory_gb"))) else ""
        late = f", {silence}" if (silence := silence_of(report, now)) else ""
        where = f" on {report['node']}" if report.get("node") else ""
        phase = PHASES.get(report["phase"], report["phase"]).lower()
        parts.append(f"rank {report['rank']}{where}: {phase}{step}{memory}{late}")
    return " · ".join(parts)


def _requested_devices(request: Mapping[str, Any]) -> str:
    """The devices among which a queued run takes free ones."""
    count, candidates = request.get("count", 1), ", ".join(map(str, request.get("candidates", [])))
    return f"on any free GPU of {candidates}" if count == 1 else f"on {count} free GPUs of {candidates}"


def _wrap(text: str, width: int) -> list[str]:
    import textwrap  # not needed by `dpo-tui runs`, which shall start fast

    lines: list[str] = []
    for line in printable(text).splitlines():
        lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
