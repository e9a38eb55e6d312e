"""The two judges of `dpo-tui demo --improve`: programs that score support answers, as `--judge-command` takes them.

    python -m dpo_tui.demo.judges courtesy < answers.jsonl

``courtesy`` scores how an answer begins: thanks, an apology, an offer. ``offer`` scores whether it says what the shop
does for the customer. They share no word, and each is blind to what the other looks for. Standard library only.
"""

import json
import re
import sys

_COURTESY = re.compile(
    r"\b(thanks?|sorry|understand|happy|glad|of course|no problem|worry|apologi[sz]e|here is what)\b", re.IGNORECASE
)
_OFFER = re.compile(r"\b(we|us|our)\b", re.IGNORECASE)
_PATTERNS = {"courtesy": _COURTESY, "offer": _OFFER}


def main(argv: list[str]) -> int:
    """Answer each line of standard input with its score, 1 or 0.

    Args:
        argv: which judge.
    """
    pattern = _PATTERNS[argv[0]]
    for line in sys.stdin:
        asked = json.loads(line)
        score = 1 if pattern.search(asked["answer"]) else 0
        sys.stdout.write(json.dumps({"id": asked["id"], "score": score}) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
