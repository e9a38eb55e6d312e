"""Remove escape sequences and control characters from text before it is written to a terminal.

Prompts, answers, file names and log lines come from outside, and a terminal would execute the escape sequences in them.
Every string that dpo-tui did not write itself passes through here on its way to the terminal.
"""

import re

# ECMA-48 sequences first (CSI, OSC/DCS/SOS/PM/APC strings, two-character escapes), so that no "[31m" is left of them. A
# string without its end is not taken for one: of it only the introducer is removed, and the rest of the row stays.
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x1b\x07]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]?"
)
# Shown as a sign: C0 and C1 controls except tab and newline; what orders a line anew on the screen (bidirectional
# marks, embeddings and isolates); what is not seen at all (zero-width spaces and joiners, soft hyphens, fillers,
# invisible operators, tags); and lone surrogates, which cannot be encoded. Joiners between letters of other scripts, or
# within an emoji, are part of their spelling.
_SHOWN_AS_SIGN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
    "|(?<![\u0300-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\U0010ffff])"
)


def printable(text: str, *, single_line: bool = False) -> str:
    """Return ``text`` without escape sequences; control characters and invisible ones become the sign �.

    Args:
        text: any string, lone surrogates included.
        single_line: also turn line breaks and tabs into single spaces.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _SHOWN_AS_SIGN.sub("�", _SEQUENCES.sub("", text))
    return " ".join(text.split()) if single_line else text
