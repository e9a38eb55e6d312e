"""A model and preference pairs so small that a real DPO run takes seconds on a CPU."""

import json
import random
from pathlib import Path
from typing import Any

WORDS = (
    "how do i reset my password please open the settings page and choose account then press the button "
    "thank you ask support for help with an order refund that is late"
).split()
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path) -> Path:
    """Write a two-layer Llama with random weights, its tokenizer and its chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shuffle = random.Random(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator([" ".join(shuffle.choices(WORDS, k=20)) for _ in range(200)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<s>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_sharded(model: Path, folder: Path) -> Path:
    """Write the same model again in several files, with a model card that names a licence."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(model).save_pretrained(folder, max_shard_size="100KB")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: llama3.1\nlicense_name: Toy Licence\n---\nA toy.\n")
    return folder


def make_pairs(path: Path, count: int = 40) -> Path:
    """Write pairs whose better answer is longer and made of other words."""
    shuffle = random.Random(1)
    rows: list[dict[str, Any]] = [
        {
            "prompt": f"{' '.join(shuffle.choices(WORDS, k=8))} {number}",
            "chosen": " ".join(shuffle.choices(WORDS[:12], k=10)),
            "rejected": " ".join(shuffle.choices(WORDS[12:], k=5)),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
