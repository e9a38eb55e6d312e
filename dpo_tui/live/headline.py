"""How a run is doing, in one or two sentences: the worst advice the run has been given, else what its numbers say."""

from typing import Any

from dpo_tui.live.feed import Feed, number
from dpo_tui.runs.status import duration
from dpo_tui.widgets.advice import Advice, Tone
from dpo_tui.widgets.scale import short
from dpo_tui.widgets.series import Series

# R39: TRL's PPO guidance calls a KL below 10 reasonable.
KL_REASONABLE = 10.0
COIN = 0.5
_TONES: dict[str, Tone] = {"info": "note", "notice": "note", "warning": "warn", "error": "bad", "critical": "bad"}


def headline(feed: Feed) -> Advice:
    """One sentence or two about a run, for the advice line."""
    about = feed.about
    status = str(about.get("status", ""))
    reason = str(about.get("reason") or "")
    if status in ("failed", "lost", "stalled", "unknown"):
        return _trouble(status, reason)
    if status == "queued":
        return Advice("note", f"Waiting: {reason or 'its turn comes next'}. It starts by itself.")
    if status == "stopped":
        return Advice("note", f"{_sentence(reason or 'stopped')} r resumes it.")
    if status == "stopping":
        return Advice("note", f"{_sentence(reason or 'stopping')} The checkpoint is kept.")
    told = _told(about.get("advice"))
    if told is not None and told.tone != "note":
        return told
    if status == "done":
        return Advice("good", f"Done. {_numbers(feed, trend='')}".strip())
    judged = _judged(feed)
    if judged is not None:
        return judged
    phase = next((event for event in reversed(feed.events) if event.get("kind") == "phase"), None)
    words = str(phase.get("message", "")) if phase else "The worker is starting; loading the libraries takes a while"
    return told or Advice("note", f"{words}. The first numbers come after the first logged step.")


def _trouble(status: str, reason: str) -> Advice:
    first, _, hint = reason.partition("\n")
    if status == "stalled":
        return Advice("warn", f"No sign of life: {first}. It may be busy; x stops it, the log may tell more.")
    then = hint or ("r goes on from the last checkpoint." if status != "unknown" else "")
    return Advice("bad", f"{_sentence(first or status)} {then}".strip())


def _told(event: Any) -> Advice | None:
    if not isinstance(event, dict) or not event.get("message"):
        return None
    remedy = event.get("remedy")
    more = f" {remedy}" if isinstance(remedy, str) else ""
    return Advice(_TONES.get(str(event.get("severity", "")).lower(), "note"), f"{event['message']}{more}")


def _judged(feed: Feed) -> Advice | None:
    """What the latest numbers say; None before there are any."""
    accuracy, kl = number(feed.latest.get("rewards/accuracies")), number(feed.latest.get("kl"))
    loss = feed.latest.get("loss")
    if loss is None and accuracy is None:
        return None
    if loss is not None and number(loss) is None:
        return Advice("bad", "The loss is not a number any more: stop, lower the learning rate, look at the data.")
    trend = _trend(feed.series.get("rewards/accuracies"))
    words = _numbers(feed, trend)
    if kl is not None and kl > KL_REASONABLE:
        return Advice("warn", f"KL {short(kl)} is above 10: the policy drifts far from the reference. {words}")
    if accuracy == 0 and number(feed.latest.get("rewards/margins")) == 0:
        return Advice("note", "Policy and reference still agree: every margin is 0. The first steps will tell.")
    if accuracy is not None and accuracy < COIN and trend != "rising":
        return Advice("note", f"Chosen answers do not win yet: {words}")
    if accuracy is not None and accuracy > COIN and trend != "falling":
        return Advice("good", f"Healthy: {words}")
    return Advice("note", _sentence(words))


def _numbers(feed: Feed, trend: str) -> str:
    parts = []
    for name, label in (
        ("rewards/accuracies", "accuracy"),
        ("rewards/margins", "margin"),
        ("kl", "KL"),
        ("eval_rewards/accuracies", "held-out accuracy"),
    ):
        value = number(feed.latest.get(name))
        # Before the first step the KL is 0 by definition; later estimates may have been too dear.
        if value is not None and not (name == "kl" and value == 0):
            parts.append(f"{label} {short(value, 2)}" + (f" and {trend}" if label == "accuracy" and trend else ""))
    if not parts and (loss := number(feed.latest.get("loss"))) is not None:
        parts.append(f"loss {short(loss)}")
    return f"{', '.join(parts)}." if parts else ""


def _trend(series: Series | None) -> str:
    """Whether the last quarter of a series lies above or below the quarter before it, by more than its noise."""
    if series is None or len(series) < 8:  # noqa: PLR2004 - two quarters of two points each
        return ""
    means = series.tail(64)
    quarter = max(len(means) // 4, 1)
    last, before = means[-quarter:], means[-2 * quarter : -quarter]
    if not before:
        return ""
    change = sum(last) / len(last) - sum(before) / len(before)
    spread = (sum((value - sum(before) / len(before)) ** 2 for value in before) / len(before)) ** 0.5
    if abs(change) <= max(spread / len(before) ** 0.5, 0.005):
        return "steady"
    return "rising" if change > 0 else "falling"


def _sentence(words: str) -> str:
    words = words.strip()
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."


def age(seconds: float) -> str:
    """How long ago, in words."""
    return f"{duration(seconds)} ago"
