"""Checks of the dataset as a whole, from the finished counts of a scan."""

from dpo_tui.data.checks.check import CheckFinding, DatasetCounts
from dpo_tui.data.checks.registry import dataset_check

# Ours: with fewer pairs a model learns the pairs rather than the preference.
FEWEST_PAIRS = 500
# Cohen (1988): 0.2 is a small standardised difference, 0.5 a medium one. The two real files have -0.18 and -0.16.
LENGTH_EFFECT = 0.5
# At most half of the prompts may be repetitions, and at most a quarter may begin alike. In the real files 98 % of the
# prompts are different; 2 % (hh-harmless) and 19 % (the demo, with its system prompts) begin with the same characters.
DISTINCT_PROMPTS = 0.5
SAME_OPENING = 0.25
# hh-harmless, which is meant to teach refusing, refuses in 10 % of the chosen and 5 % of the rejected answers.
REFUSAL_DIFFERENCE = 0.2
_FEWEST_TO_JUDGE = 20


@dataset_check(
    "few-pairs",
    "warning",
    bit=16,
    title=f"there are fewer than {FEWEST_PAIRS} pairs",
    explanation="With few pairs the model memorises them; preferences are learned from variety.",
    remedy="Collect or generate more pairs, or expect a change of style only.",
)
def few_pairs(counts: DatasetCounts) -> CheckFinding | None:
    """Fewer usable pairs than preference learning wants."""
    if counts.usable >= FEWEST_PAIRS:
        return None
    return CheckFinding(counts.usable, f"{counts.usable:,} usable pairs")


@dataset_check(
    "low-diversity",
    "warning",
    bit=17,
    title="the prompts are much alike",
    explanation="A model that sees few kinds of prompts learns the answers to those, not the preference.",
    remedy="Add prompts of other kinds, or drop repetitions.",
)
def low_diversity(counts: DatasetCounts) -> CheckFinding | None:
    """Many repeated prompts, or many that begin with the same words."""
    if counts.usable < _FEWEST_TO_JUDGE:
        return None
    distinct = counts.distinct_prompts / counts.usable
    if distinct < DISTINCT_PROMPTS:
        return CheckFinding(
            counts.usable - counts.distinct_prompts, f"only {distinct:.0%} of the prompts are different"
        )
    count, opening = counts.most_common_opening()
    share = count / counts.sampled
    if share > SAME_OPENING:
        return CheckFinding(round(share * counts.usable), f"{share:.0%} of the prompts begin with “{opening}”")
    return None


@dataset_check(
    "length-bias",
    "warning",
    bit=18,
    title="one side is much longer",
    explanation="DPO picks up length first (Park et al. 2024, arXiv 2403.19159): answers grow, or shrink.",
    remedy="Balance the lengths, or use a loss that corrects for length (ld_alpha, sigmoid_norm).",
)
def length_bias(counts: DatasetCounts) -> CheckFinding | None:
    """Cohen's d of the paired difference of log lengths in characters, either way."""
    effect = counts.length_effect()
    if counts.usable < _FEWEST_TO_JUDGE or effect is None or abs(effect) < LENGTH_EFFECT:
        return None
    side = "chosen" if effect > 0 else "rejected"
    count = counts.chosen_longer if effect > 0 else counts.rejected_longer
    return CheckFinding(
        count, f"the {side} answer is longer in {count / counts.usable:.0%} of the pairs (d = {effect:+.2f})"
    )


@dataset_check(
    "refusal-imbalance",
    "info",
    bit=19,
    title="one side refuses far more often",
    explanation="If chosen answers refuse, the model learns to refuse; if rejected ones do, to comply with anything.",
    remedy="Keep it if that is what you want; otherwise balance refusals on both sides.",
)
def refusal_imbalance(counts: DatasetCounts) -> CheckFinding | None:
    """The share of answers that begin with an apology or a refusal differs by REFUSAL_DIFFERENCE or more."""
    if counts.usable < _FEWEST_TO_JUDGE:
        return None
    chosen, rejected = counts.chosen_refusals / counts.sampled, counts.rejected_refusals / counts.sampled
    if abs(chosen - rejected) < REFUSAL_DIFFERENCE:
        return None
    detail = f"{chosen:.0%} of the chosen answers refuse, and {rejected:.0%} of the rejected"
    return CheckFinding(round(abs(chosen - rejected) * counts.usable), detail)
