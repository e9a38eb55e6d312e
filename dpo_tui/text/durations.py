"""Durations as text. Standard library only."""


def duration(seconds: float) -> str:
    """A span of time in its two largest units: ``45 s``, ``3 min 20 s``, ``1 h 12 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then: float, now: float) -> str:
    """How long ago, in the largest unit only, so that a screen need not repaint every second: ``2 h ago``."""
    return " ".join(duration(now - then).split()[:2]) + " ago"


def rough_duration(seconds: float) -> str:
    """An estimated span of time in one unit, without false precision: ``40 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} days"
