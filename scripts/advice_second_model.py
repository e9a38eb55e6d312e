"""Train the second model of the labelled runs: another family, a third of the demo's size, on the demo's conversations.

    python scripts/advice_second_model.py FOLDER [--steps N]     a minute or two on one core

`make_advice_runs.py --model FOLDER` then trains the recipes on it, so that the rules are judged on a model that nobody
looked at while writing them. It has the demo's tokenizer.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from build_demo import GRAMMAR
from demo.corpus import conversations
from demo.grammar import load_problems, load_talk

SEED = 20262


def new_model(tokenizer: Any) -> Any:
    """An untrained Qwen3 of under a million parameters."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        dtype="float32",
        **tokens,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=96, **tokens)
    return model


def main() -> None:
    """Train and save the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    import torch
    from demo import base
    from transformers import AutoTokenizer

    from dpo_tui.demo import assets

    tokenizer = AutoTokenizer.from_pretrained(assets.model_dir())
    torch.manual_seed(SEED)
    model = new_model(tokenizer)
    print(f"{model.num_parameters():,} parameters", flush=True)
    chats = conversations(load_problems(GRAMMAR), load_talk(GRAMMAR), random.Random(SEED))
    base.train(model, tokenizer, chats, arguments.steps)
    base.save(model, tokenizer, arguments.folder)


if __name__ == "__main__":
    main()
