"""How a run is doing, in one or two sentences: what keeps it from training, else what the advice rules say."""

from collections.abc import Sequence
from typing import Any

from dpo_tui.advice.advice import TOO_EARLY
from dpo_tui.advice.advice import Advice as Found
from dpo_tui.text.numbers import short_number
from dpo_tui.views.advice_sentence import AdviceSentence, Tone
from dpo_tui.views.run_feed import OPENING, Feed, number

_TONES: dict[str, Tone] = {"info": "note", "notice": "note", "warning": "warn", "error": "bad", "critical": "bad"}


def headline(feed: Feed, found: Sequence[Found] = ()) -> AdviceSentence:
    """One sentence or two about a run, for the advice line.

    Args:
        feed: the run.
        found: its diagnosis, worst first (`dpo_tui.views.run_diagnosis`); nothing while there is none yet.
    """
    about = feed.about
    status = str(about.get("status", ""))
    reason = str(about.get("reason") or "")
    if status == OPENING:
        return AdviceSentence("note", "Reading the run.")
    if status in ("failed", "lost", "stalled", "unknown"):
        return _trouble(status, reason)
    if status == "queued":
        return AdviceSentence("note", f"Waiting: {reason or 'its turn comes next'}. It starts by itself.")
    if status == "stopped":
        return AdviceSentence("note", f"{_sentence(reason or 'stopped')} r resumes it.")
    if status == "stopping":
        return AdviceSentence("note", f"{_sentence(reason or 'stopping')} The checkpoint is kept.")
    worst = found[0] if found else None
    if worst is not None and worst.is_problem:
        return AdviceSentence(_TONES[worst.severity], worst.message, remedy_words(worst))
    told = _told(about.get("advice"))
    if told is not None and told.tone != "note":
        return told
    if status == "done":
        words = (worst.evidence if worst is not None else "") or _numbers(feed)
        return AdviceSentence("good", f"Done. {_sentence(words) if words else ''}".strip())
    if worst is not None and worst.rule != TOO_EARLY:
        return AdviceSentence("good", worst.message)
    if told is not None:
        return told
    if feed.latest.get("loss") is not None:
        return AdviceSentence("note", worst.message if worst is not None else _sentence(_numbers(feed)))
    phase = next((event for event in reversed(feed.events) if event.get("kind") == "phase"), None)
    words = str(phase.get("message", "")) if phase else "The worker is starting; loading the libraries takes a while"
    return AdviceSentence("note", f"{words}. The first numbers come after the first logged step.")


def remedy_words(found: Found) -> str:
    """The settings that a remedy changes, as ``learning_rate 5e-6, warmup_ratio 0.2``; empty when there is none."""
    if not found.remedy:
        return ""
    from dpo_tui.views.run_plan import written  # the schema is not needed before there is a remedy

    return ", ".join(
        f"{name} {written(value)}" if value is not None else f"no {name}" for name, value in found.remedy.items()
    )


def _trouble(status: str, reason: str) -> AdviceSentence:
    first, _, hint = reason.partition("\n")
    if status == "stalled":
        return AdviceSentence("warn", f"No sign of life: {first}. It may be busy; x stops it, the log may tell more.")
    then = hint or ("r goes on from the last checkpoint." if status != "unknown" else "")
    return AdviceSentence("bad", f"{_sentence(first or status)} {then}".strip())


def _told(event: Any) -> AdviceSentence | None:
    if not isinstance(event, dict) or not event.get("message"):
        return None
    remedy = event.get("remedy")
    more = f" {remedy}" if isinstance(remedy, str) else ""
    return AdviceSentence(_TONES.get(str(event.get("severity", "")).lower(), "note"), f"{event['message']}{more}")


def _numbers(feed: Feed) -> str:
    """The latest numbers, unjudged: what can be said before the first diagnosis."""
    parts = []
    for name, label in (
        ("rewards/accuracies", "accuracy"),
        ("rewards/margins", "margin"),
        ("eval_rewards/accuracies", "held-out accuracy"),
        ("loss", "loss"),
    ):
        value = number(feed.latest.get(name))
        if value is not None:
            parts.append(f"{label} {short_number(value, 2)}")
    return ", ".join(parts)


def _sentence(words: str) -> str:
    words = words.strip()
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
