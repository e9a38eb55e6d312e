"""The class `Advice`: what a rule says about a run or a config. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]
HEALTHY = "healthy"
TOO_EARLY = "too-early"
LEARNING = "learning"
FEW_HELD_OUT = "few-held-out"
UNCLEAR = "unclear"


@dataclass(frozen=True)
class Advice:
    """What a rule has found.

    Attributes:
        rule: name of the rule; where no rule applies, what the run shows (`dpo_tui.advice.verdicts`), such as
            ``healthy`` or ``too-early``.
        severity: how much it matters.
        message: what is wrong and what to do, in a sentence or two.
        remedy: config fields and the values that would mend it, None for a field to leave out; empty where no change of
            settings does.
        evidence: the numbers on which the rule decided.
    """

    rule: str
    severity: Severity
    message: str
    remedy: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether something is wrong, other than a note."""
        return self.severity != "info"
