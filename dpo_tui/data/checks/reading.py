"""Checks that the reader carries out: what they name cannot be trained on, and is left out."""

from dpo_tui.data.checks.registry import reading

reading(
    "bad-json",
    "error",
    title="not JSON, or not readable as a row",
    explanation="A line that cannot be parsed holds no pair; other tools stop at it with a stack trace.",
    remedy="Look at the named lines; `--write` leaves them out.",
)
reading(
    "missing-field",
    "error",
    title="prompt, chosen or rejected is missing",
    explanation="DPO compares two answers to one prompt; a row without one of the three says nothing.",
    remedy="Name other columns with --prompt-field, --chosen-field, --rejected-field, or leave the rows out.",
)
reading(
    "empty-answer",
    "error",
    title="an answer is empty",
    explanation="TRL then trains on the end-of-text token alone: the model learns to say nothing, or not to end.",
    remedy="Leave the rows out, or fill the answer in.",
)
reading(
    "identical",
    "error",
    title="chosen and rejected are the same",
    explanation="The loss of such a pair is log 2 whatever the model does, and its gradient is exactly zero.",
    remedy="Leave the rows out.",
)
