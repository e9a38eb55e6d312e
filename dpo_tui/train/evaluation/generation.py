"""Answer prompts in batches, within a time box, without touching the random numbers of the training."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from dpo_tui.data.pairs.pair import Message

BATCH = 8
"""Prompts answered at once: a token costs about the same for one as for eight, and the cache stays small."""
# Whatever a model's generation_config says, these make sampling follow the model's own distribution.
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

Halt = Callable[[], bool]


@dataclass(frozen=True)
class Sampled:
    """One answer as tokens.

    Attributes:
        prompt: token ids, as the chat template renders the prompt.
        answer: token ids, the end-of-text token included where the model set one.
    """

    prompt: list[int]
    answer: list[int]


def prompt_ids(tokenizer: Any, prompt: list[Message]) -> list[int]:
    """Return the token ids of a prompt, up to where the assistant begins."""
    rendered = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)
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
    halt: Halt = lambda: False,
    batch: int = BATCH,
    options: dict[str, Any] | None = None,
) -> Iterator[Sampled]:
    """Answer prompts, batch by batch; ends early, without the unfinished batch, once ``halt`` says so.

    Args:
        model: on its device; it is put back into the mode it was in.
        tokenizer: for its padding and end-of-text tokens.
        prompts: token ids.
        max_new_tokens: longest answer.
        seed: sample from the model's own distribution with this seed; greedy when None.
        halt: asked before every token.
        batch: prompts answered at once.
        options: of ``generate``, on top; for sampling at another temperature.
    """
    decoding = {
        "max_new_tokens": max_new_tokens,
        **(_GREEDY if seed is None else {**_PURE_SAMPLING, **(options or {})}),
    }
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(prompts), batch):
            if halt():
                return
            rows = prompts[start : start + batch]
            with seeded(model.device, seed + start if seed is not None else 0):
                answers = _batch(model, tokenizer, rows, decoding, halt)
            if answers is None:
                return
            yield from (Sampled(list(row), answer) for row, answer in zip(rows, answers, strict=True))
    finally:
        model.train(was_training)


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers of one's own: what is drawn inside does not change what the training draws afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the model's, else the tokenizer's."""
    told = getattr(model.generation_config, "eos_token_id", None)
    if told is None:
        told = tokenizer.eos_token_id
    return [] if told is None else [told] if isinstance(told, int) else list(told)


def _batch(
    model: Any, tokenizer: Any, rows: Sequence[list[int]], decoding: dict[str, Any], halt: Halt
) -> list[list[int]] | None:
    """Answer one batch; None when it was halted."""
    ends = end_tokens(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0]
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=model.device)
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    halted = _Halted(halt)
    output = model.generate(
        input_ids=ids,
        attention_mask=seen,
        use_cache=True,
        pad_token_id=padding,
        eos_token_id=ends or None,
        stopping_criteria=StoppingCriteriaList([halted]),
        **decoding,
    )
    return None if halted.happened else [_until_end(row, ends) for row in output[:, longest:].tolist()]


def _until_end(tokens: list[int], ends: list[int]) -> list[int]:
    """Cut off the padding after the first end-of-text token; that token is part of the answer."""
    stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: stop + 1]


class _Halted(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, halt: Halt) -> None:
        self.halt = halt
        self.happened = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.happened = self.happened or self.halt()
        return torch.full((input_ids.shape[0],), self.happened, dtype=torch.bool, device=input_ids.device)
