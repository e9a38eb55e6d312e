"""Checks that the scan itself carries out: rows that are unusable or doubtful, and rows that repeat or contradict."""

from dpo_tui.data.checks.registry import scan_check

# Found while rows are read (`dpo_tui.data.rows`); training leaves these rows out.
scan_check(
    "bad-json",
    "error",
    bit=0,
    title="not JSON, or not readable as a row",
    explanation="A line that cannot be parsed holds no pair; other tools stop at it with a stack trace.",
    remedy="Look at the named lines; `--write` leaves them out.",
    in_app="t and c show them: e writes a pair in the place of one, and w a copy without the others.",
)
scan_check(
    "missing-field",
    "error",
    bit=1,
    title="prompt, chosen or rejected is missing",
    explanation="DPO compares two answers to one prompt; a row without one of the three says nothing.",
    remedy="Name other columns with --prompt-field, --chosen-field, --rejected-field, or leave the rows out.",
    in_app="Name other columns in New, Settings (prompt_field, chosen_field, rejected_field); or t and c show the "
    "rows: e fills in what is missing, and w writes a copy without the others.",
)
scan_check(
    "empty-answer",
    "error",
    bit=2,
    title="an answer is empty",
    explanation="TRL then trains on the end-of-text token alone: the model learns to say nothing, or not to end.",
    remedy="Leave the rows out, or fill the answer in.",
    in_app="t and c show the rows: e fills the answer in, and w writes a copy without the others.",
)
scan_check(
    "identical",
    "error",
    bit=3,
    title="chosen and rejected are the same",
    explanation="The loss of such a pair is log 2 whatever the model does, and its gradient is exactly zero.",
    remedy="Leave the rows out.",
    in_app="t and c show the rows: e changes an answer, and w writes a copy without the others.",
)
scan_check(
    "tie",
    "info",
    bit=20,
    title="neither answer is better",
    explanation="The source calls them equally good, by a label or by equal scores: there is no preference to learn.",
    remedy="Nothing: training leaves these rows out.",
    leaves_out=True,
)

# Found while rows are read, too; these rows can be used.
scan_check(
    "repeated-key",
    "warning",
    bit=23,
    title="a key occurs twice in a row",
    explanation="JSON parsers keep the last value and say nothing: what the first one held is not trained on.",
    remedy="Correct the script that writes the rows; `--drop repeated-key` leaves them out.",
    in_app="Correct the script that writes the rows; w, with this check ticked, writes a copy without them.",
)
# Found when all rows have been read and are compared (`dpo_tui.data.scan.duplicates`).
scan_check(
    "duplicate-pair",
    "warning",
    bit=12,
    title="the same pair occurs again",
    explanation="Repeated pairs count several times, and are memorised.",
    remedy="Drop them with `--drop duplicate-pair`; the first of each stays.",
    in_app="w, with this check ticked, writes a copy without them; the first of each stays.",
)
scan_check(
    "duplicate-prompt",
    "info",
    bit=13,
    title="the same prompt occurs in several rows",
    explanation="That is how rankings look, and is fine; a split by rows would put a prompt on both sides.",
    remedy="Nothing: held-out rows are chosen by prompt here.",
)
scan_check(
    "contradicting-pair",
    "warning",
    bit=14,
    title="the same two answers are preferred both ways",
    explanation="A over B in one row and B over A in another cancel each other.",
    remedy="Decide which is better and flip or drop the other.",
)
scan_check(
    "leak",
    "warning",
    bit=15,
    title="the prompt also occurs in the evaluation split",
    explanation="Evaluation on prompts that were trained on measures memory.",
    remedy="Drop them with `--drop leak`.",
    in_app="w, with this check ticked, writes a copy without them.",
)
