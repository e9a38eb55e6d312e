"""What the monitor's header, events, samples and papers say, as pieces of (text, role)."""

import json
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpo_tui.runs.atomic_files import read_json, read_last_json_lines
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.out_of_memory_retry import MicroBatch, configured
from dpo_tui.text.durations import ago, duration
from dpo_tui.text.numbers import grouped_number, short_number
from dpo_tui.views.run_feed import Feed, RunFeed, number
from dpo_tui.views.status_words import status_word

Piece = tuple[str, str]
SAMPLES_READ = 400
THOUSAND = 1000
MINUTE, FEW_MINUTES = 60.0, 300.0
BATCH_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps")
EVENTS_SHOWN = 500
_EVENT_ROLES = {"failed": "bad", "error": "bad", "warning": "warn", "advice": "accent", "checkpoint": "good"}


def header(feed: Feed) -> list[list[Piece]]:
    """The parts of the monitor's first row, the most important first."""
    about = feed.about
    look = status_word(str(about.get("status", "")))
    doing = phase_words(feed)
    state = f"{look.glyph} {doing}" if doing else look.text
    parts: list[list[Piece]] = [[(feed.title, "title"), ("  ", "muted"), (state, look.role)]]
    step, last = number(about.get("step")), number(about.get("max_steps"))
    if step is not None:
        of = f"/{grouped_number(last)}" if last else ""
        parts.append([("step ", "muted"), (f"{grouped_number(step)}{of}", "value")])
    if (eta := number(about.get("eta_seconds"))) is not None:
        # A guess to the second would change every second, be sent each time, and be wrong all the same.
        parts.append([("ETA ", "muted"), (duration(eta - eta % MINUTE if eta > FEW_MINUTES else eta), "value")])
    elif (ended := number(about.get("ended_at"))) is not None:
        parts.append([(ago(ended, time.time()), "muted")])
    if (epoch := number(about.get("epoch"))) is not None:
        parts.append([("epoch ", "muted"), (f"{epoch:.1f}", "value")])
    if (speed := number(feed.latest.get("tokens_per_second"))) is not None and look.role == "busy":
        # Two digits: the pace flutters, and each change is sent over the line.
        pace = f"{speed / 1000:.1f}k" if speed >= THOUSAND else short_number(speed, 2)
        parts.append([(f"{pace} tok/s", "value")])
    if (peak := number(feed.latest.get("vram_peak_gb"))) is not None and peak > 0:
        parts.append([("peak ", "muted"), (f"{peak:.1f} GB", "value")])
    if (batch := batch_of(feed)) is not None:
        parts.append([("batch ", "muted"), (f"{batch} = {batch.effective}", "value")])
    return parts


def batch_of(feed: Feed) -> MicroBatch | None:
    """The batch of a run: as out-of-memory retries left it, else as it is set; None where nobody tells."""
    micro, steps = (number(feed.about.get(key)) for key in BATCH_KEYS)
    if micro and steps:
        return MicroBatch(int(micro), int(steps))
    return _configured(feed.folder) if isinstance(feed, RunFeed) else None


@lru_cache(64)
def _configured(folder: RunFolder) -> MicroBatch | None:
    """The settings of a run are frozen: once is enough."""
    return configured(folder)


def phase_words(feed: Feed) -> str:
    """What a running worker does when it does not train yet, or no more; empty otherwise."""
    if feed.about.get("status") != "running" or feed.about.get("phase") in (None, "train"):
        return ""
    event = next((one for one in reversed(feed.events) if one.get("kind") == "phase"), None)
    words = str(event.get("message", "")) if event is not None else ""
    return words[:1].lower() + words[1:]


def fraction(about: dict[str, Any]) -> float | None:
    """How far a run is: its steps, or in other phases what is done of their own total."""
    step, last = number(about.get("step")), number(about.get("max_steps"))
    done, total = number(about.get("done")), number(about.get("total"))
    if about.get("status") == "done":
        return 1.0
    if about.get("phase") not in (None, "train") and about.get("status") == "running":
        return done / total if done is not None and total else None
    if step is not None and last:
        return step / last
    return done / total if done is not None and total else None


def events_text(events: Sequence[dict[str, Any]]) -> list[Piece]:
    """One paragraph an event, newest last."""
    paragraphs: list[Piece] = []
    for event in events[-EVENTS_SHOWN:]:
        at = number(event.get("t"))
        clock = time.strftime("%H:%M:%S", time.localtime(at)) if at else "--:--:--"
        kind = str(event.get("kind", ""))
        role = _EVENT_ROLES.get(kind, "text")
        paragraphs.append((f"{clock}  {kind:<11} {event.get('message', '')}", role))
        if event.get("hint"):
            paragraphs.append((f"{'':<22}{event['hint']}", "muted"))
    return paragraphs or [("Nothing has happened yet.", "muted")]


def samples_text(path: Path) -> list[Piece]:
    """Answers by prompt: the first one given, and the latest."""
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in read_last_json_lines(path, SAMPLES_READ):
        by_prompt.setdefault(prompt_text(sample.get("prompt")), []).append(sample)
    if not by_prompt:
        return [("No answers yet: the same prompts are answered before, during and after training.", "muted")]
    paragraphs: list[Piece] = []
    for prompt, samples in by_prompt.items():
        paragraphs.append((prompt, "heading"))
        first, last = samples[0], samples[-1]
        for sample in [first] if first is last else [first, last]:
            step = number(sample.get("step")) or 0.0
            when = "before training" if step == 0 and sample is first else f"step {grouped_number(step)}"
            paragraphs += [(f"─ {when}", "muted"), (str(sample.get("answer", "")), "text"), ("", "text")]
    return paragraphs


def prompt_text(prompt: object) -> str:
    """A prompt as a person reads it, whether it is text or a list of messages."""
    if isinstance(prompt, list):
        turns = [item for item in prompt if isinstance(item, dict)]
        if len(turns) == 1:
            return str(turns[0].get("content", ""))
        return "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in turns)
    return str(prompt or "")


def config_text(path: Path) -> list[Piece]:
    """The frozen settings, as they are in the file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [("There is no config.toml here.", "muted")]
    return [(line, _config_role(line)) for line in text.splitlines()]


def _config_role(line: str) -> str:
    start = line.lstrip()[:1]
    return "heading" if start == "[" else "muted" if start == "#" else "code"


def receipt_text(path: Path) -> list[Piece]:
    """What ran, as it is in the receipt."""
    receipt = read_json(path)
    if receipt is None:
        return [("The receipt is written once the model and the data are loaded.", "muted")]
    return [(line, "code") for line in json.dumps(receipt, indent=2, ensure_ascii=False).splitlines()]
