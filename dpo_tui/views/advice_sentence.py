"""The one or two sentences about how a run is doing: why it does not train, else the worst finding of the advice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dpo_tui.advice.advice import HEALTHY, TOO_EARLY, Advice
from dpo_tui.text.numbers import short_number
from dpo_tui.views.run_feed import OPENING, Feed, RunFeed, finite_number

Tone = Literal["good", "note", "warn", "bad"]
_TONES: dict[str, Tone] = {"info": "note", "notice": "note", "warning": "warn", "error": "bad", "critical": "bad"}
"""The tone of each severity, of our own rules and of the advice events that a run folder may hold."""

_FROM_THE_BEGINNING = "There is no checkpoint: r trains from the beginning."
_STARTING = "The worker is starting; loading the libraries takes a while"


@dataclass(frozen=True, slots=True)
class AdviceSentence:
    """What the advice line shows about a run.

    Args:
        tone: how urgent it is.
        text: one sentence or two: what is seen and what to do.
        remedy: the settings whose change would help, as text; empty when there are none.
    """

    tone: Tone
    text: str
    remedy: str = ""


def advice_sentence(feed: Feed, advice: Sequence[Advice] = ()) -> AdviceSentence:
    """Choose the sentence for a run.

    Args:
        feed: the run.
        advice: its diagnosis, worst first (`dpo_tui.views.run_diagnosis`); empty before the first one.
    """
    about = feed.about
    status = str(about.get("status", ""))
    reason = str(about.get("reason") or "")
    if status == OPENING:
        return AdviceSentence("note", "Reading the run.")
    if status in ("failed", "lost", "stalled", "unknown"):
        failure = _failure(status, reason, about.get("resumes_from"))
        return failure if isinstance(feed, RunFeed) or status != "stalled" else _with_findings(feed, advice, failure)
    if status == "queued":
        return AdviceSentence("note", f"Waiting: {reason or 'its turn comes next'}. It starts by itself.")
    if status == "stopped":
        return AdviceSentence(
            "note", f"{_as_sentence(reason or 'stopped')} {_stopped_resume(about.get('resumes_from'))}"
        )
    if status == "stopping":
        return AdviceSentence("note", f"{_as_sentence(reason or 'stopping')} The checkpoint is kept.")
    worst = advice[0] if advice else None
    if worst is not None and worst.is_problem:
        return AdviceSentence(_TONES[worst.severity], worst.message, remedy_text(worst))
    if about.get("notice"):
        return AdviceSentence("warn", str(about["notice"]))
    logged = _from_event(about.get("advice"))
    if logged is not None and logged.tone != "note":
        return logged
    if status == "done":
        return _done(feed, worst)
    if worst is not None and worst.rule != TOO_EARLY:
        return AdviceSentence(_verdict_tone(worst), worst.message)
    if logged is not None:
        return logged
    if feed.latest.get("loss") is not None:
        return AdviceSentence("note", worst.message if worst is not None else _as_sentence(_latest_numbers(feed)))
    phase = next((event for event in reversed(feed.events) if event.get("kind") == "phase"), None)
    doing = str(phase.get("message", "")) if phase else str(about.get("waiting") or _STARTING)
    return AdviceSentence("note", f"{doing}. The first numbers come after the first logged step.")


def _done(feed: Feed, worst: Advice | None) -> AdviceSentence:
    """The sentence for a run that is done and to which no rule applies; only a healthy one is praised."""
    if worst is not None and worst.rule not in (HEALTHY, TOO_EARLY):
        return AdviceSentence(_verdict_tone(worst), f"Done. {worst.message}")
    result = (worst.evidence if worst is not None else "") or _latest_numbers(feed)
    return AdviceSentence("good", f"Done. {_as_sentence(result) if result else ''}".strip())


def _verdict_tone(advice: Advice) -> Tone:
    return "good" if advice.rule == HEALTHY else "note"


def remedy_text(advice: Advice) -> str:
    """The settings that a remedy changes, as ``learning_rate 5e-6, warmup_ratio 0.2``; empty when there is none."""
    if not advice.remedy:
        return ""
    from dpo_tui.views.run_plan import setting_text  # imports the config schema, which is not needed before

    return ", ".join(
        f"{name} {setting_text(value)}" if value is not None else f"no {name}" for name, value in advice.remedy.items()
    )


def _stopped_resume(checkpoint: str | None) -> str:
    """What ``r`` does to a stopped run; its checkpoint is None where it is not known."""
    return "r resumes it." if checkpoint is None or checkpoint else _FROM_THE_BEGINNING


def _failure(status: str, reason: str, checkpoint: str | None) -> AdviceSentence:
    """The sentence for a run that does not train any more; a reason's second line is what to do about it."""
    first, _, hint = reason.partition("\n")
    if status == "stalled":
        what_to_do = hint or "It may be busy; x stops it, the log may tell more."
        return AdviceSentence("warn", f"No sign of life: {first}. {what_to_do}")
    resume = _FROM_THE_BEGINNING if checkpoint == "" else "r goes on from the last checkpoint."
    what_to_do = hint or (resume if status != "unknown" else "")
    return AdviceSentence("bad", f"{_as_sentence(first or status)} {what_to_do}".strip())


def _with_findings(feed: Feed, advice: Sequence[Advice], stalled: AdviceSentence) -> AdviceSentence:
    """What another trainer's files and curves show, before the guess that its run is over."""
    shown = [advice[0].message] if advice and advice[0].is_problem else []
    shown += [str(feed.about["notice"])] if feed.about.get("notice") else []
    return replace(stalled, text=" ".join([*shown, stalled.text]))


def _from_event(event: Any) -> AdviceSentence | None:
    """The sentence of an advice event that the worker logged; None when there is none."""
    if not isinstance(event, dict) or not event.get("message"):
        return None
    remedy = event.get("remedy")
    more = f" {remedy}" if isinstance(remedy, str) else ""
    return AdviceSentence(_TONES.get(str(event.get("severity", "")).lower(), "note"), f"{event['message']}{more}")


def _latest_numbers(feed: Feed) -> str:
    """The latest values without a judgement, for a run that has no diagnosis yet."""
    parts = []
    for name, label in (
        ("rewards/accuracies", "accuracy"),
        ("rewards/margins", "margin"),
        ("eval_rewards/accuracies", "held-out accuracy"),
        ("loss", "loss"),
    ):
        value = finite_number(feed.latest.get(name))
        if value is not None:
            parts.append(f"{label} {short_number(value, 2)}")
    return ", ".join(parts)


def _as_sentence(text: str) -> str:
    """Text with a capital letter and a full stop."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
