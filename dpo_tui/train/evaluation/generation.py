"""Batched generation that can be stopped at any token and leaves the random state of the training as it is."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from dpo_tui.data.pairs.pair import Message
from dpo_tui.train.model.sharding import is_sharded

BATCH_SIZE = 8
"""Prompts answered at once: a token costs about the same for one as for eight, and the KV cache stays small."""
# They override a model's generation_config, so that sampling follows the model's own distribution: a KL estimate from
# truncated or sharpened samples would be biased.
_PURE_SAMPLING = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}

ShouldStop = Callable[[], bool]
"""Asked before every token; True ends the generation."""


@dataclass(frozen=True)
class GeneratedAnswer:
    """One generated answer as token ids.

    Attributes:
        prompt: as the chat template renders it.
        answer: with the end-of-text token where the model generated one.
    """

    prompt: list[int]
    answer: list[int]


def prompt_token_ids(tokenizer: Any, prompt: list[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
    """Return the token ids of a prompt, with the schemas of its tools and the header of the assistant's turn."""
    rendered = tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, return_dict=True)
    ids: list[int] = list(rendered["input_ids"])
    return ids


@torch.no_grad()  # type: ignore[untyped-decorator]
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    *,
    seed: int | None = None,
    should_stop: ShouldStop = lambda: False,
    batch_size: int = BATCH_SIZE,
    options: dict[str, Any] | None = None,
) -> Iterator[GeneratedAnswer]:
    """Answer prompts batch by batch.

    Args:
        model: on its device; its training mode is restored at the end.
        tokenizer: for its padding and end-of-text tokens.
        prompts: token ids of each.
        max_new_tokens: longest answer.
        seed: sample from the model's own distribution with this seed; greedy when None.
        should_stop: asked before every token; when it is True the generation ends without the unfinished batch.
        batch_size: prompts answered at once.
        options: further arguments of transformers' ``generate`` when sampling, such as another temperature.

    Yields:
        One answer for each prompt, in their order.
    """
    decoding = {
        "max_new_tokens": max_new_tokens,
        **(_GREEDY if seed is None else {**_PURE_SAMPLING, **(options or {})}),
    }
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(prompts), batch_size):
            if should_stop():
                return
            rows = prompts[start : start + batch_size]
            with forked_rng(model.device, seed + start if seed is not None else 0):
                answers = _answer_batch(model, tokenizer, rows, decoding, should_stop)
            if answers is None:
                return
            yield from (GeneratedAnswer(list(row), answer) for row, answer in zip(rows, answers, strict=True))
    finally:
        model.train(was_training)


def greedy_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    should_stop: ShouldStop = lambda: False,
) -> Iterator[str]:
    """Answer each prompt greedily and decode the answers; see :func:`generate`.

    Args:
        model: the policy or the reference, on its device.
        tokenizer: of both.
        prompts: token ids of each.
        max_new_tokens: longest answer.
        should_stop: asked before every token.
    """
    for sampled in generate(model, tokenizer, prompts, max_new_tokens, should_stop=should_stop):
        yield tokenizer.decode(sampled.answer, skip_special_tokens=True).strip()


@contextlib.contextmanager
def forked_rng(device: torch.device, seed: int) -> Iterator[None]:
    """Context with a random state seeded by itself; the state of the training is restored at its end."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def eos_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the ids of the tokens that end an answer: the tokenizer's, which training used, then the model's."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    of_model = [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
    of_tokenizer = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return list(dict.fromkeys([*of_tokenizer, *of_model]))


def _answer_batch(
    model: Any, tokenizer: Any, rows: Sequence[list[int]], decoding: dict[str, Any], should_stop: ShouldStop
) -> list[list[int]] | None:
    """Answer one batch; None when it was stopped before its end."""
    eos_ids = eos_token_ids(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (eos_ids or [0])[0]
    # Padded on the left: generate() appends tokens on the right, next to the last token of each prompt.
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    criterion = _StopCriterion(should_stop)
    # Each token is a collective of a model that is divided among processes: on all of them it must be the same.
    together = LogitsProcessorList([_ScoresOfFirst()] if is_sharded(model) else [])
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        use_cache=True,
        pad_token_id=padding,
        eos_token_id=eos_ids or None,
        stopping_criteria=StoppingCriteriaList([criterion]),
        logits_processor=together,
        **decoding,
    )
    return None if criterion.stopped else [_until_eos(row, eos_ids) for row in output[:, longest:].tolist()]


def _until_eos(tokens: list[int], eos_ids: list[int]) -> list[int]:
    """Cut off the padding after the first end-of-text token; that token is part of the answer."""
    last = next((place for place, token in enumerate(tokens) if token in eos_ids), len(tokens) - 1)
    return tokens[: last + 1]


class _ScoresOfFirst(LogitsProcessor):  # type: ignore[misc]
    """Gives every rank the scores of rank 0: with others it could choose another token, and end an answer elsewhere."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        distributed.broadcast(scores, src=0)
        return scores


class _StopCriterion(StoppingCriteria):  # type: ignore[misc]
    """Ends the generation of a whole batch once ``should_stop`` returns True, and remembers that it did."""

    def __init__(self, should_stop: ShouldStop) -> None:
        self.should_stop = should_stop
        self.stopped = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.stopped = self.stopped or self.should_stop()
        return torch.full((input_ids.shape[0],), self.stopped, dtype=torch.bool, device=input_ids.device)
