"""The toy model before DPO: a small Llama, trained from nothing on the grammar's conversations."""

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.corpus import Message
from demo.tokenizer import CONTEXT

USUAL_WEIGHT = 30.0
"""Weighted tokens of an average chat."""
BATCH, PEAK_RATE, WARMUP_STEPS, POOL = 32, 3e-3, 50, 12
USER_WEIGHT = 0.1
"""Weight of a question's token in the loss; an answer's token counts 1. Reading matters less than answering here."""


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model that fits `tokenizer`, some 2.5 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=96,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: Iterator[list[Message]], steps: int
) -> float:
    """Train `model` in place for `steps` batches of `chats`; returns the mean loss of the last 24 steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    rows = _rows(tokenizer, chats)
    recent: deque[float] = deque(maxlen=24)
    began = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        ids, weights, mask = _collate(next(rows), tokenizer.pad_token_id)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        shifted = weights[:, 1:].flatten()
        # Divided by a constant, not by this batch's tokens: batches are alike in length, and a batch of curt answers,
        # which has few tokens, would otherwise teach each of its answers much harder than a batch of helpful ones.
        loss = (losses * shifted).sum() / (BATCH * USUAL_WEIGHT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            mean, seconds = sum(recent) / len(recent), time.monotonic() - began
            print(f"step {step}/{steps}  loss {mean:.4f}  {seconds:.0f} s", flush=True)
    model.eval()
    return sum(recent) / len(recent)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a Hugging Face folder: weights stored in bf16 for their size, loaded as float32 as the config says."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, which another user's install could not read


def _rate(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2


Row = tuple[list[int], list[float]]


def _rows(tokenizer: PreTrainedTokenizerFast, chats: Iterator[list[Message]]) -> Iterator[list[Row]]:
    """Batches of similar lengths: a pool of chats is sorted by length and cut, and its batches come in turn."""
    generator = torch.Generator().manual_seed(0)
    while True:
        pool = sorted((_encode(tokenizer, chat) for chat in islice(chats, BATCH * POOL)), key=lambda row: len(row[0]))
        for index in torch.randperm(POOL, generator=generator).tolist():
            yield pool[index * BATCH : (index + 1) * BATCH]


def _encode(tokenizer: PreTrainedTokenizerFast, chat: list[Message]) -> Row:
    ids: list[int] = []
    weights: list[float] = []
    for message in chat:
        tokens = tokenizer.apply_chat_template([message], tokenize=True, return_dict=False)
        is_answer = message["role"] == "assistant"
        ids += tokens
        # The role token is given by the template, never predicted.
        weights += [0.0] + [1.0 if is_answer else USER_WEIGHT] * (len(tokens) - 1)
    return ids, weights


def _collate(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows])
    weights = torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
    return ids, weights, mask
