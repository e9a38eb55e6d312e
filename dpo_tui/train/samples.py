"""Answers to the same held-out prompts before and after training, so that a person sees the difference."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from dpo_tui.data.pairs import Message


@torch.no_grad()  # type: ignore[untyped-decorator]
def answers(model: Any, tokenizer: Any, prompts: Sequence[list[Message]], max_new_tokens: int) -> Iterator[str]:
    """Answer each prompt greedily, one after the other, without touching the random numbers of the training.

    Args:
        model: the policy, on its device; it is put back into the mode it was in.
        tokenizer: with a chat template.
        prompts: conversations that end with a user's message.
        max_new_tokens: longest answer.
    """
    was_training = model.training
    model.eval()
    try:
        for prompt in prompts:
            inputs = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(model.device)
            with torch.random.fork_rng(devices=[]):
                output = model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    use_cache=True,
                    pad_token_id=tokenizer.pad_token_id,
                )
            yield tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    finally:
        model.train(was_training)
