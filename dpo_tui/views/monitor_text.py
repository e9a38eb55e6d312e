"""Text of the monitor screen: the title row of a run, its events, samples, config and receipt."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_tui.groups.sweep_values import label
from dpo_tui.runs.atomic_files import only_regular, read_json, read_last_json_lines
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process_text import job_text, processes_text, silent_process
from dpo_tui.runs.status_names import LIVE
from dpo_tui.text.durations import ago, duration
from dpo_tui.text.numbers import short_number
from dpo_tui.text.printable import printable
from dpo_tui.views.axes import grouped_number
from dpo_tui.views.run_feed import Feed, RunFeed, finite_number
from dpo_tui.views.status_labels import status_label
from dpo_tui.views.styled_text import Paragraph, StyledRow

if TYPE_CHECKING:
    from dpo_tui.runs.out_of_memory_retry import MicroBatch

SAMPLES_READ = 400
"""Samples that are read from the end of ``samples.jsonl``."""
THOUSAND = 1000
MINUTE, FEW_MINUTES = 60.0, 300.0
EVENTS_SHOWN = 500
_EVENT_ROLES = {"failed": "bad", "error": "bad", "warning": "warn", "advice": "accent", "checkpoint": "good"}


def header(feed: Feed) -> list[StyledRow]:
    """The parts of the title row, the most important first: name and status, step, ETA, epoch, speed, memory, batch."""
    about = feed.about
    label = status_label(str(about.get("status", "")))
    doing = phase_text(feed)
    state = f"{label.glyph} {doing}" if doing else label.text
    parts: list[StyledRow] = [[(feed.title, "title"), ("  ", "muted"), (state, label.role)]]
    step, last = finite_number(about.get("step")), finite_number(about.get("max_steps"))
    if step is not None:
        of = f"/{grouped_number(last)}" if last else ""
        parts.append([("step ", "muted"), (f"{grouped_number(step)}{of}", "value")])
    if belongs := group_text(about):
        parts.append([(belongs, "accent")])
    if about.get("status") in LIVE:
        if silent := silent_process(about, time.time()):
            parts.append([(silent, "warn")])
        if job := job_text(about):
            parts.append([(job, "value")])
        if " on " in (processes := processes_text(about)):  # their number alone is in the batch
            parts.append([(processes, "value")])
    if (eta := finite_number(about.get("eta_seconds"))) is not None:
        # Whole minutes: an ETA in seconds would be repainted, and sent over SSH, every second, and is no more exact.
        parts.append([("ETA ", "muted"), (duration(eta - eta % MINUTE if eta > FEW_MINUTES else eta), "value")])
    elif (ended := finite_number(about.get("ended_at"))) is not None:
        parts.append([(ago(ended, time.time()), "muted")])
    if (epoch := finite_number(about.get("epoch"))) is not None:
        parts.append([("epoch ", "muted"), (f"{epoch:.1f}", "value")])
    if (speed := finite_number(feed.latest.get("tokens_per_second"))) is not None and label.role == "busy":
        # Two digits: the speed varies from step to step, and each change is repainted.
        speed_text = f"{speed / 1000:.1f}k" if speed >= THOUSAND else short_number(speed, 2)
        parts.append([(f"{speed_text} tok/s", "value")])
    if (peak := finite_number(feed.latest.get("vram_peak_gb"))) is not None and peak > 0:
        parts.append([("peak ", "muted"), (f"{peak:.1f} GB", "value")])
    if (batch := batch_of(feed)) is not None:
        ranks = int(finite_number(about.get("ranks")) or 1)
        shared = f" × {ranks} processes" if ranks > 1 else ""
        parts.append([("batch ", "muted"), (f"{batch}{shared} = {batch.effective * ranks}", "value")])
    return parts


def group_text(about: Mapping[str, Any]) -> str:
    """What tells a run from the others of its group: ``sweep: beta=0.1``; empty for a run of its own."""
    belongs = about.get("group")
    if not isinstance(belongs, dict) or not isinstance(values := belongs.get("values"), dict):
        return ""
    kind = belongs.get("kind") or "group"
    return printable(f"{kind}: {label(values)}" if values else str(kind), single_line=True)


def batch_of(feed: Feed) -> "MicroBatch | None":
    """The batch of a run: the one that out-of-memory retries chose, else the configured one; None when unknown."""
    # It imports all strategies, and the first paint has no run.
    from dpo_tui.runs.out_of_memory_retry import BATCH_KEYS, MicroBatch

    micro, steps = (finite_number(feed.about.get(key)) for key in BATCH_KEYS)
    if micro and steps:
        return MicroBatch(int(micro), int(steps))
    return _configured(feed.folder) if isinstance(feed, RunFeed) else None


@lru_cache(64)
def _configured(folder: RunFolder) -> "MicroBatch | None":
    """The configured batch; cached, since the config of a run never changes."""
    from dpo_tui.runs.out_of_memory_retry import configured

    return configured(folder)


def phase_text(feed: Feed) -> str:
    """The phase of a running worker that does not train yet, or no longer; empty while it trains."""
    if feed.about.get("status") != "running" or feed.about.get("phase") in (None, "train"):
        return ""
    phase = next((event for event in reversed(feed.events) if event.get("kind") == "phase"), None)
    text = str(phase.get("message", "")) if phase is not None else ""
    return text[:1].lower() + text[1:]


def fraction(about: dict[str, Any]) -> float | None:
    """How much of a run is done, 0 to 1: of its steps, or outside training of the phase's total; None when unknown.

    Args:
        about: the run's summary, as in `Feed.about`.
    """
    step, last = finite_number(about.get("step")), finite_number(about.get("max_steps"))
    done, total = finite_number(about.get("done")), finite_number(about.get("total"))
    if about.get("status") == "done":
        return 1.0
    if about.get("phase") not in (None, "train") and about.get("status") == "running":
        return done / total if done is not None and total else None
    if step is not None and last:
        return step / last
    return done / total if done is not None and total else None


def events_text(events: Sequence[dict[str, Any]]) -> list[Paragraph]:
    """The newest events, one paragraph each and one for its hint, newest last."""
    paragraphs: list[Paragraph] = []
    for event in events[-EVENTS_SHOWN:]:
        at = finite_number(event.get("t"))
        clock = time.strftime("%H:%M:%S", time.localtime(at)) if at else "--:--:--"
        kind = str(event.get("kind", ""))
        role = _EVENT_ROLES.get(kind, "text")
        paragraphs.append((f"{clock}  {kind:<11} {event.get('message', '')}", role))
        if event.get("hint"):
            paragraphs.append((f"{'':<22}{event['hint']}", "muted"))
    return paragraphs or [("Nothing has happened yet.", "muted")]


def samples_text(path: Path) -> list[Paragraph]:
    """For each prompt the first and the latest answer.

    Args:
        path: ``samples.jsonl`` of the run.
    """
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in read_last_json_lines(path, SAMPLES_READ):
        by_prompt.setdefault(prompt_text(sample.get("prompt")), []).append(sample)
    if not by_prompt:
        return [("No answers yet: the same prompts are answered before, during and after training.", "muted")]
    paragraphs: list[Paragraph] = []
    for prompt, samples in by_prompt.items():
        paragraphs.append((prompt, "heading"))
        first, last = samples[0], samples[-1]
        for sample in [first] if first is last else [first, last]:
            step = finite_number(sample.get("step")) or 0.0
            when = "before training" if step == 0 and sample is first else f"step {grouped_number(step)}"
            paragraphs += [(f"─ {when}", "muted"), (str(sample.get("answer", "")), "text"), ("", "text")]
    return paragraphs


def prompt_text(prompt: object) -> str:
    """A prompt as text; it may be a string or a list of chat messages."""
    if isinstance(prompt, list):
        turns = [item for item in prompt if isinstance(item, dict)]
        if len(turns) == 1:
            return str(turns[0].get("content", ""))
        return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in turns)
    return str(prompt or "")


def config_text(path: Path) -> list[Paragraph]:
    """The lines of the run's ``config.toml``."""
    try:
        with open(path, encoding="utf-8", errors="replace", opener=only_regular) as stream:
            text = stream.read()
    except OSError:
        return [("There is no config.toml here.", "muted")]
    return [(line, _config_role(line)) for line in text.splitlines()]


def _config_role(line: str) -> str:
    start = line.lstrip()[:1]
    return "heading" if start == "[" else "muted" if start == "#" else "code"


def receipt_text(path: Path) -> list[Paragraph]:
    """The run's ``receipt.json``, indented."""
    receipt = read_json(path)
    if receipt is None:
        return [("The receipt is written once the model and the data are loaded.", "muted")]
    return [(line, "code") for line in json.dumps(receipt, indent=2, ensure_ascii=False).splitlines()]
