"""Build the data of `dpo-tui demo`: a tiny chat model, preference pairs and held-out pairs.

    python scripts/build_demo.py            # everything, some minutes on two cores
    python scripts/build_demo.py --pairs    # only pairs.jsonl and heldout.jsonl, a second

Seeds are fixed, so that the same versions of torch, transformers and tokenizers on the same kind of CPU give the same
files. Needs nothing but the project's own dependencies, and no network.
"""

import argparse
import json
import random
from itertools import islice
from pathlib import Path

from demo.corpus import Pair, conversations, preference_pairs
from demo.grammar import load_problems, load_talk

GRAMMAR = Path(__file__).parent / "demo"
TARGET = Path(__file__).parent.parent / "dpo_tui" / "demo"
SEED = 20261
VOCABULARY = 1536
PAIRS_PER_PROBLEM, HELDOUT_PER_PROBLEM = 16, 2
STEPS = 1000
THREADS = 2
"""Fixed, since floating-point sums depend on the number of threads among which they are divided."""
SHOWCASE = ("damaged", "account-locked", "battery")
"""Problems whose first held-out question opens heldout.jsonl; `dpo_tui.demo.assets.SHOWCASE` repeats their text."""


def build_pairs(target: Path) -> None:
    """Write pairs.jsonl and heldout.jsonl into `target`; held-out questions use wordings that no other pair has."""
    problems = load_problems(GRAMMAR)
    pairs = preference_pairs(problems, PAIRS_PER_PROBLEM, random.Random(SEED), heldout=False)
    shown = [problem for key in SHOWCASE for problem in problems if problem.key == key]
    rng = random.Random(SEED + 4)
    first = [row for problem in shown for row in preference_pairs([problem], 1, rng, heldout=True)]
    taken = [row["prompt"] for row in first]
    rest = preference_pairs(problems, HELDOUT_PER_PROBLEM, random.Random(SEED + 1), heldout=True, taken=taken)
    heldout = first + rest
    write_jsonl(target / "pairs.jsonl", pairs)
    write_jsonl(target / "heldout.jsonl", heldout)
    print(f"{len(pairs)} pairs, {len(heldout)} held out")


def build_model(target: Path, steps: int) -> None:
    """Train the tokenizer and the model, and save them as a Hugging Face folder."""
    import torch
    from demo import base
    from demo.tokenizer import train_tokenizer

    problems, talk = load_problems(GRAMMAR), load_talk(GRAMMAR)
    sample = islice(conversations(problems, talk, random.Random(SEED + 2)), 20_000)
    tokenizer = train_tokenizer((message["content"] for chat in sample for message in chat), VOCABULARY)
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    model = base.new_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    base.train(model, tokenizer, conversations(problems, talk, random.Random(SEED + 3)), steps)
    base.save(model, tokenizer, target)


def write_jsonl(path: Path, rows: list[Pair]) -> None:
    """Write `rows` to `path`, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description="Build the demo's model and pairs.")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder to write to")
    parser.add_argument("--pairs", action="store_true", help="write the pairs only")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of the base model")
    arguments = parser.parse_args()
    build_pairs(arguments.target)
    if not arguments.pairs:
        build_model(arguments.target / "model", arguments.steps)


if __name__ == "__main__":
    main()
