"""Answers to the same prompts before, during and after training, so that a person sees the difference."""

from collections.abc import Iterator, Sequence
from typing import Any

from dpo_tui.data.pairs.pair import Message
from dpo_tui.train.evaluation.generation import Halt, generate, prompt_ids


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[Message]],
    max_new_tokens: int,
    halt: Halt = lambda: False,
) -> Iterator[str]:
    """Answer each prompt greedily, several at a time; ends early once ``halt`` says so.

    Args:
        model: the policy or the reference, on its device.
        tokenizer: with a chat template.
        prompts: conversations that end with a user's message.
        max_new_tokens: longest answer.
        halt: asked before every token.
    """
    rows = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    for sampled in generate(model, tokenizer, rows, max_new_tokens, halt=halt):
        yield tokenizer.decode(sampled.answer, skip_special_tokens=True).strip()
