"""How far the policy has moved from the reference: KL(π ‖ π_ref), estimated from the policy's own answers.

For an answer y that the policy samples to a prompt x, Σ log π(y|x) − log π_ref(y|x) over its tokens has the KL
divergence as its mean (of answers of at most so many tokens). The mean over a few answers is an estimate, so it comes
with its standard error and the number of answers. The rewards that DPO logs are log-ratios too, but on the data's
answers: they are no KL.
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

from dpo_tui.train.evaluation.generation import Halt, Sampled, generate

_ROWS = 4
"""Answers scored at once: their logits are the largest thing in memory here."""


@dataclass(frozen=True)
class KlEstimate:
    """An estimate of the KL divergence, in nats an answer.

    Attributes:
        mean: over the answers.
        stderr: standard error of the mean; 0 for a single answer.
        n: how many answers.
    """

    mean: float
    stderr: float
    n: int

    @staticmethod
    def of(ratios: Sequence[float]) -> "KlEstimate":
        """Summarise log-ratios, at least one."""
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
    halt: Halt = lambda: False,
) -> KlEstimate | None:
    """Estimate the KL divergence between a trainer's policy and its reference.

    Args:
        trainer: one of TRL's with a reference, which is a second model, or the policy without its adapter.
        tokenizer: of both.
        prompts: token ids; one answer is sampled to each.
        max_new_tokens: longest answer.
        seed: of the sampling; the training's random numbers are not touched.
        halt: asked before every token; when it says so, what was answered until then counts.

    Returns:
        None when not even one batch was answered.
    """
    policy = trainer.model
    autocast = trainer.accelerator.autocast
    with autocast():
        sampled = list(generate(policy, tokenizer, prompts, max_new_tokens, seed=seed, halt=halt))
    if not sampled:
        return None
    was_training = policy.training
    policy.eval()
    try:
        ours = answer_logps(policy, sampled, autocast)
        with reference_of(trainer) as reference:
            theirs = answer_logps(reference, sampled, autocast)
    finally:
        policy.train(was_training)
    return KlEstimate.of([mine - other for mine, other in zip(ours, theirs, strict=True)])


def has_reference(trainer: Any) -> bool:
    """Whether the reference is at hand; precomputed scores with full fine-tuning leave none."""
    return getattr(trainer, "ref_model", None) is not None or isinstance(trainer.model, PeftModel)


@contextlib.contextmanager
def reference_of(trainer: Any) -> Iterator[Any]:
    """Give the reference model, ready to score: a model of its own, or the policy with its adapter off."""
    if getattr(trainer, "ref_model", None) is not None:
        yield trainer.ref_model
    else:
        with trainer.model.disable_adapter():
            yield trainer.model


@torch.no_grad()  # type: ignore[untyped-decorator]
def answer_logps(
    model: Any, sampled: Sequence[Sampled], autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
) -> list[float]:
    """Return Σ log p(token) over each answer, in nats.

    Args:
        model: in evaluation mode.
        sampled: prompts with their answers.
        autocast: the precision of the training.
    """
    found: list[float] = []
    for start in range(0, len(sampled), _ROWS):
        with autocast():
            found += _score(model, sampled[start : start + _ROWS])
    return found


def _score(model: Any, rows: Sequence[Sampled]) -> list[float]:
    # Padded on the right: every model counts positions the same way then, whether it takes position ids or not.
    tokens = [row.prompt + row.answer for row in rows]
    longest = max(map(len, tokens))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens], device=model.device)
    seen = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in tokens], device=model.device)
    first = min(len(row.prompt) for row in rows) - 1
    kept = torch.arange(first, longest - 1, device=model.device)
    options = {"logits_to_keep": kept} if _keeps_logits(model) else {}
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False, **options).logits
    if logits.shape[1] == longest:
        logits = logits[:, first : longest - 1]
    found = []
    for number, row in enumerate(rows):
        begin = len(row.prompt) - 1 - first
        window = logits[number, begin : begin + len(row.answer)].float()
        answer = torch.tensor(row.answer, device=window.device)
        logps = window.gather(1, answer[:, None]).squeeze(1) - window.logsumexp(1)
        found.append(float(logps.double().sum()))
    return found


def _keeps_logits(model: Any) -> bool:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    # Of the class: TRL hangs a forward of its own, with another signature, on the instance.
    return "logits_to_keep" in inspect.signature(type(base).forward).parameters
