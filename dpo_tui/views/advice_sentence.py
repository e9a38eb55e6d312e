"""A sentence for a person and how urgent it is; without Textual, so that whoever judges a run can make one."""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "note", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class AdviceSentence:
    """One sentence or two for a person.

    Args:
        tone: how urgent it is.
        text: what is seen and what to do.
        remedy: the settings that would mend it, in words; empty when there is no such change.
    """

    tone: Tone
    text: str
    remedy: str = ""
