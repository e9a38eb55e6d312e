"""Remove escape sequences and control characters from text before it is written to a terminal.

Prompts, answers, file names and log lines come from outside, and a terminal would execute the escape sequences in them.
Every string that dpo-tui did not write itself passes through here on its way to the terminal.
"""

import re

# ECMA-48 sequences first (CSI, OSC/DCS/SOS/PM/APC strings, two-character escapes), so that no "[31m" is left of them.
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
# C0 and C1 controls except tab and newline, the bidirectional overrides (they reorder a line on screen), and lone
# surrogates (they cannot be encoded).
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, single_line: bool = False) -> str:
    """Return ``text`` without escape sequences and control characters.

    Args:
        text: any string, lone surrogates included.
        single_line: also turn line breaks and tabs into single spaces.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("�", _SEQUENCES.sub("", text))
    return " ".join(text.split()) if single_line else text
