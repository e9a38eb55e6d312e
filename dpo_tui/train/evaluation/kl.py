"""KL divergence of the policy from the reference, KL(π ‖ π_ref), estimated from the policy's own answers.

For answers y that the policy samples to a prompt x, the expectation of log π(y|x) − log π_ref(y|x), summed over the
tokens of y, is the KL divergence, here of answers of at most ``max_new_tokens`` tokens. The mean over a few answers is
an estimate, reported with its standard error and the number of answers. The rewards that DPO logs are log-ratios too,
but of the data's answers and not of the policy's: they are no KL divergence.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel

from dpo_tui.train.evaluation.generation import GeneratedAnswer, ShouldStop, generate

_LOGPS_BATCH_SIZE = 4
"""Answers in a forward pass: their logits, vocabulary-wide and in fp32, are what fills the memory here."""


@dataclass(frozen=True)
class KlEstimate:
    """An estimate of the KL divergence, in nats an answer.

    Attributes:
        mean: of the answers' log-ratios.
        stderr: standard error of the mean; 0 for a single answer.
        n: number of answers.
    """

    mean: float
    stderr: float
    n: int

    @staticmethod
    def of(ratios: Sequence[float]) -> "KlEstimate":
        """Return mean and standard error, √(sample variance / n), of one log-ratio or more."""
        n = len(ratios)
        mean = math.fsum(ratios) / n
        variance = math.fsum((ratio - mean) ** 2 for ratio in ratios) / (n - 1) if n > 1 else 0.0
        return KlEstimate(mean, math.sqrt(variance / n), n)


def estimate_kl(
    trainer: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    *,
    seed: int,
    should_stop: ShouldStop = lambda: False,
) -> KlEstimate | None:
    """Estimate the KL divergence between a trainer's policy and its reference.

    Args:
        trainer: one of TRL's, for which :func:`has_reference` holds.
        tokenizer: of both models.
        prompts: token ids of each; one answer is sampled to each.
        max_new_tokens: longest answer.
        seed: of the sampling; the random state of the training is left as it is.
        should_stop: asked before every token; when it is True the answers of the finished batches are used.

    Returns:
        None when not even one batch was finished.
    """
    policy = trainer.model
    autocast = trainer.accelerator.autocast
    with autocast():
        sampled = list(generate(policy, tokenizer, prompts, max_new_tokens, seed=seed, should_stop=should_stop))
    if not sampled:
        return None
    was_training = policy.training
    # With dropout on, the same weights give other log-probabilities in every pass, and that would count as divergence.
    policy.eval()
    try:
        policy_logps = answer_logps(policy, sampled, autocast)
        with reference_of(trainer) as reference:
            reference_logps = answer_logps(reference, sampled, autocast)
    finally:
        policy.train(was_training)
    return KlEstimate.of([log_p - log_q for log_p, log_q in zip(policy_logps, reference_logps, strict=True)])


def has_reference(trainer: Any) -> bool:
    """Whether a trainer holds its reference: not a model of its own whose log-probabilities were precomputed."""
    if getattr(trainer, "ref_model", None) is not None:
        return True
    # Without its adapter the policy is the model that training started from, which may not be the reference.
    named = getattr(getattr(trainer, "config", None), "ref_model", None)
    return isinstance(trainer.model, PeftModel) and named is None


@contextlib.contextmanager
def reference_of(trainer: Any) -> Iterator[Any]:
    """Context that yields the reference: the trainer's second model, else the policy with its adapter disabled."""
    if getattr(trainer, "ref_model", None) is not None:
        yield trainer.ref_model
    else:
        with trainer.model.disable_adapter():
            yield trainer.model


@torch.no_grad()  # type: ignore[untyped-decorator]
def answer_logps(
    model: Any,
    sampled: Sequence[GeneratedAnswer],
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> list[float]:
    """Return Σ log p(token) over the tokens of each answer, in nats.

    Args:
        model: in evaluation mode.
        sampled: prompts with their answers.
        autocast: context of the training's precision.
    """
    logps: list[float] = []
    for start in range(0, len(sampled), _LOGPS_BATCH_SIZE):
        with autocast():
            logps += _batch_logps(model, sampled[start : start + _LOGPS_BATCH_SIZE])
    return logps


def _batch_logps(model: Any, rows: Sequence[GeneratedAnswer]) -> list[float]:
    # Padded on the right: every model counts positions the same way then, whether it takes position ids or not.
    tokens = [row.prompt + row.answer for row in rows]
    longest = max(map(len, tokens))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in tokens], device=model.device)
    # Logits predict the next token: the first that are needed are those at the last token of the shortest prompt.
    first = min(len(row.prompt) for row in rows) - 1
    positions = torch.arange(first, longest - 1, device=model.device)
    options = {"logits_to_keep": positions} if _takes_logits_to_keep(model) else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **options).logits
    if logits.shape[1] == longest:  # of a model that computes every position whatever it is asked
        logits = logits[:, first : longest - 1]
    sums = []
    for number, row in enumerate(rows):
        begin = len(row.prompt) - 1 - first
        # fp32 before logsumexp: bf16 has 8 significant bits, an error above what policy and reference differ by early
        # in a run.
        window = logits[number, begin : begin + len(row.answer)].float()
        answer = torch.tensor(row.answer, device=window.device)
        logps = window.gather(1, answer[:, None]).squeeze(1) - window.logsumexp(1)
        # The estimate is the difference of two such sums, which are large beside it: summed in fp64.
        sums.append(float(logps.double().sum()))
    return sums


def _takes_logits_to_keep(model: Any) -> bool:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    # Of the class: TRL replaces the instance's forward by one with another signature.
    return "logits_to_keep" in inspect.signature(type(base).forward).parameters
