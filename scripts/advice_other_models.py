"""Train the models of the fifth set of labelled runs: a GPT-NeoX and a GPT-2, of families no rule had seen.

    python scripts/advice_other_models.py FOLDER --family gpt_neox|gpt2 [--steps N]     some minutes on one core

The GPT-NeoX has the demo's tokenizer. The GPT-2 has its own, with another vocabulary and another chat template, and
another mix of conversations, so that its pairs have other lengths in tokens and other log-probabilities.
"""

import argparse
import random
from itertools import islice
from pathlib import Path
from typing import Any

from build_demo import GRAMMAR
from demo.corpus import conversations
from demo.grammar import load_problems, load_talk

SEEDS = {"gpt_neox": 20263, "gpt2": 20264}
VOCABULARY = 1024
"""Entries of the GPT-2's tokenizer: a third fewer than the demo's, so that a text has more tokens."""


def gpt_neox(tokenizer: Any) -> Any:
    """An untrained GPT-NeoX of 1.5 million parameters: parallel attention, rotary on a part of each head, biases."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=len(tokenizer), hidden_size=160, intermediate_size=640, num_hidden_layers=4,
            num_attention_heads=5, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, dtype="float32",
        )
    )  # fmt: skip


def gpt2(tokenizer: Any) -> Any:
    """An untrained GPT-2 of 0.9 million parameters: learned positions, Conv1D, the usual dropout of 0.1."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=128, n_layer=3, n_head=4, n_positions=512, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, dtype="float32",
        )
    )  # fmt: skip


def own_tokenizer(texts: list[str]) -> Any:
    """A tokenizer of the same kind as the demo's with fewer entries and line breaks in its template."""
    from demo.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(texts, VOCABULARY)
    tokenizer.chat_template = (
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>' + '\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    return tokenizer


def main() -> None:
    """Train and save one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=sorted(SEEDS), required=True)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    import torch
    from demo import base
    from transformers import AutoTokenizer, GenerationConfig

    from dpo_tui.demo import assets

    seed = SEEDS[arguments.family]
    problems, talk = load_problems(GRAMMAR), load_talk(GRAMMAR)
    if arguments.family == "gpt2":
        sample = islice(conversations(problems, talk, random.Random(seed + 1)), 8_000)
        tokenizer = own_tokenizer([message["content"] for chat in sample for message in chat])
    else:
        tokenizer = AutoTokenizer.from_pretrained(assets.model_dir())
    torch.manual_seed(seed)
    model = {"gpt_neox": gpt_neox, "gpt2": gpt2}[arguments.family](tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=96,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    base.train(model, tokenizer, conversations(problems, talk, random.Random(seed)), arguments.steps)
    base.save(model, tokenizer, arguments.folder)


if __name__ == "__main__":
    main()
