"""Rules on the state before the first update: a base model that is broken, and a reference that is another model.

The metrics of step 1 are of its forward pass, before the first update. A reward divided by β is the log-ratio
log π − log π_ref of a whole answer, in nats.
"""

from collections.abc import Mapping
from typing import Any

from dpo_tui.advice.advice import Advice
from dpo_tui.advice.evidence import Evidence, is_finite
from dpo_tui.strategies.strategy import has_other_reference

REFERENCE_GAP, REFERENCE_GAP_WITH_DROPOUT = 1.0, 20.0
"""Nats by which the log-ratios may differ from 0 before the first update: rounding to bfloat16 moves them by a fraction
of a nat, dropout by more; a reference that is another model by many."""
GUESSED_TOKENS_SHARE = 0.05
"""Share of the answers' tokens that a base predicts, up to which it knows nothing of them: small models predict a third
of a text that they were not trained on."""
UNLIKELY_ANSWER_NATS, UNLIKELY_TOKEN_NATS = 50.0, 5.0
"""−log probability of an average chosen answer, and of a token, from which on that share says something: a short answer
may be one surprise."""
IMPOSSIBLE_ANSWER_NATS = 1e5
"""−log probability of an answer that no intact model gives: thousands of tokens, each guessed among 200,000."""
STEPS_WITHOUT_GRADIENT = 3
"""Steps whose gradient is exactly 0 from which on no gradient reaches the weights at all."""


def broken_base(run: Evidence) -> Advice | None:
    """No gradient comes out of the model, or it predicts none of the tokens: its hidden states or its tokenizer."""
    norms = [value for step, value in run.series("grad_norm") if step <= STEPS_WITHOUT_GRADIENT]
    if len(norms) == STEPS_WITHOUT_GRADIENT and not any(norms):
        return Advice(
            "broken-base",
            "error",
            "The gradient is exactly 0 from the first step on, so that nothing can be learnt: the base model computes "
            "the same whatever the input (its hidden states overflow, or weights are damaged), or nothing is trained. "
            "Generate a text with the base model; another learning rate does not help.",
            {},
            f"grad_norm 0 at steps 1 to {STEPS_WITHOUT_GRADIENT}",
        )
    for line in _first_lines(run):
        if (found := _unknown_text(line)) is not None:
            return Advice(
                "broken-base",
                "error",
                f"Before the first step the model predicts {found}: the tokenizer is that of another model, or the "
                "weights are damaged or untrained. Generate a text with the base model before anything else.",
                {},
                f"step {line['step']}: {found}",
            )
    return None


def _unknown_text(line: Mapping[str, Any]) -> str | None:
    """How badly a model predicts the answers, if it knows nothing of them; None if it does, or no metric says so."""
    prefix = "" if "loss" in line else "eval_"
    known, logps, loss = (line.get(f"{prefix}{name}") for name in ("mean_token_accuracy", "logps/chosen", "loss"))
    if is_finite(logps):
        nats, unlikely, unit = -logps, UNLIKELY_ANSWER_NATS, "an answer"
    elif is_finite(loss) and f"{prefix}rewards/margins" not in line:
        nats, unlikely, unit = loss, UNLIKELY_TOKEN_NATS, "a token"
    else:
        return None
    if is_finite(logps) and nats >= IMPOSSIBLE_ANSWER_NATS:
        return f"the chosen answers with {nats:.3g} nats an answer, more than guessing costs"
    if not is_finite(known) or known > GUESSED_TOKENS_SHARE or nats < unlikely:
        return None
    return f"{known:.0%} of the tokens of the answers ({nats:.0f} nats {unit})"


def wrong_reference(run: Evidence) -> Advice | None:
    """Policy and reference differ before the first update, although they start as one model."""
    lines = _first_lines(run)
    # A reference that the config names is another model on purpose.
    if not lines or run.strategy is None or not run.strategy.has_reference or has_other_reference(run.settings):
        return None
    # A margin is the difference of two log-ratios: at least one of them is half as large.
    shares = {"rewards/chosen": 1.0, "rewards/rejected": 1.0, "rewards/margins": 0.5}
    rewards = [
        (line.get(f"{prefix}{name}"), share)
        for line in lines
        for prefix in ("", "eval_")
        for name, share in shares.items()
    ]
    # NaN is another fault, and is no gap.
    gap = max((abs(value) * share / run.beta for value, share in rewards if is_finite(value)), default=0.0)
    if gap <= (REFERENCE_GAP if run.settings.get("disable_dropout", True) else REFERENCE_GAP_WITH_DROPOUT):
        return None
    losses = [line.get("loss", line.get("eval_loss")) for line in lines]
    logged = next((f"loss {value:.3f}" for value in losses if is_finite(value)), "loss unknown")
    expected = run.loss_scale.start if run.loss_scale else None
    instead = f" instead of {expected:.3f}" if expected is not None else ""
    return Advice(
        "wrong-reference",
        "error",
        f"Before the first step policy and reference differ already (by {gap:.1f} nats; {logged}{instead}): the "
        "reference is not the model that training started from. After stage one, merge its adapter and train from the "
        "merged model.",
        {},
        f"largest |reward| / β up to step {lines[-1]['step']}: {gap:.2f} nats",
    )


def _first_lines(run: Evidence) -> list[Mapping[str, Any]]:
    """The log lines of what was computed before the first update."""
    return [line for line in run.metrics if ("loss" in line or "eval_loss" in line) and line["step"] <= 1]
