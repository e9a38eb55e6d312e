"""What advice is. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]
HEALTHY = "healthy"
TOO_EARLY = "too-early"


@dataclass(frozen=True)
class Advice:
    """One piece of advice.

    Attributes:
        rule: the rule that gave it; ``healthy`` and ``too-early`` when nothing is wrong.
        severity: how much it matters.
        message: what it is and what to do, in a sentence or two.
        remedy: settings that would mend it; empty where there is no single change.
        evidence: the numbers that it rests on.
    """

    rule: str
    severity: Severity
    message: str
    remedy: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether it says that something is wrong."""
        return self.severity != "info"
