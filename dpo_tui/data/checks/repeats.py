"""Checks that compare rows with each other; :mod:`dpo_tui.data.scan.duplicates` finds what they name."""

from dpo_tui.data.checks.registry import reading

reading(
    "duplicate-pair",
    "warning",
    title="the same pair occurs again",
    explanation="Repeated pairs count several times, and are memorised.",
    remedy="Drop them with `--drop duplicate-pair`; the first of each stays.",
)
reading(
    "duplicate-prompt",
    "info",
    title="the same prompt occurs in several rows",
    explanation="That is how rankings look, and is fine; a split by rows would put a prompt on both sides.",
    remedy="Nothing: held-out rows are chosen by prompt here.",
)
reading(
    "contradicting-pair",
    "warning",
    title="the same two answers are preferred both ways",
    explanation="A over B in one row and B over A in another cancel each other.",
    remedy="Decide which is better and flip or drop the other.",
)
reading(
    "leak",
    "warning",
    title="the prompt also occurs in the evaluation split",
    explanation="Evaluation on prompts that were trained on measures memory.",
    remedy="Drop them with `--drop leak`.",
)
