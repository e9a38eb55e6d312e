"""The whole chain once, on a real model: train, compare answers, judge, merge, load elsewhere, read the model card.

    python scripts/whole_chain.py MODEL DATA [--pairs N] [--max-length N] [--steps N] [--keep DIR]

Every link is one `dpo-tui` command, and what it left is looked at here with other means: the merged folder with plain
transformers, the data's hash with hashlib, the interval by its definition. Prints what was seen; ends with 1 at the
first link that is not true. SmolLM2-135M on one core takes about four minutes.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CLOSE = 1e-3
"""Largest difference of a logit in fp32 between the merged model and base + adapter."""
KEYS = "lrlrllrt"
"""The judge's keys, without looking: the win rate says nothing, that there is one does."""
_Z = 1.959964


class UntrueError(Exception):
    """A link of the chain does not hold."""


@dataclass(frozen=True)
class Chain:
    """Where the chain runs.

    Attributes:
        model: folder or hub id.
        data: file of pairs.
        work: a folder of its own; `$DPO_TUI_HOME` and the exports lie in it.
        settings: of the run, beside those below.
    """

    model: str
    data: Path
    work: Path
    settings: dict[str, Any]

    @property
    def run(self) -> Path:
        """The run's folder."""
        return next((self.work / "home" / "runs").glob("2*"))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of the run's files."""
        return [json.loads(line) for line in (self.run / name).read_text(encoding="utf-8").splitlines()]

    def call(self, *words: str, keys: str = "") -> str:
        """Run a dpo-tui command and return its stdout.

        Raises:
            UntrueError: it did not end well.
        """
        environment = {**os.environ, "DPO_TUI_HOME": str(self.work / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", *words]
        done = subprocess.run(command, input=keys, capture_output=True, text=True, check=False, env=environment)
        require(done.returncode == 0, f"dpo-tui {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout


def require(true: bool, what: str) -> None:
    """Go on if something is true.

    Raises:
        UntrueError: it is not.
    """
    if not true:
        raise UntrueError(what)


def train(chain: Chain) -> str:
    """Train; policy and reference start as one model."""
    config = chain.work / "config.toml"
    values = {"model_name": chain.model, "dataset": str(chain.data.resolve()), "name": "chain", **chain.settings}
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()), encoding="utf-8")
    chain.call("train", str(config))
    metrics = chain.lines("metrics.jsonl")
    first = next(line["eval_loss"] for line in metrics if "eval_loss" in line)
    last = [line["eval_loss"] for line in metrics if "eval_loss" in line][-1]
    losses = [line["loss"] for line in metrics if "loss" in line]
    require(abs(first - math.log(2)) < 1e-4, f"the held-out loss starts at {first:.4f} and not at ln 2")
    require(all(map(math.isfinite, losses)), f"the loss is not finite everywhere: {losses}")
    return f"{len(losses)} log lines, loss {losses[0]:.4f} → {losses[-1]:.4f}, held out {first:.4f} → {last:.4f}"


def samples_differ(chain: Chain) -> str:
    """The same prompts are answered otherwise after training, and the reference answers as the policy did before."""
    told: dict[str, list[str]] = {}
    for sample in chain.lines("samples.jsonl"):
        told.setdefault(sample["when"], []).append(sample["answer"])
    before, after, reference = (told.get(when, []) for when in ("before", "after", "reference"))
    require(len(before) == len(after) > 0, f"{len(before)} answers before and {len(after)} after training")
    require(before == reference, "before training the reference answers otherwise than the policy")
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    require(bool(changed), "every answer is word for word what it was before training")
    one, other = changed[0]
    return f"{len(changed)} of {len(before)} answers changed, such as {one[:60]!r} → {other[:60]!r}"


def judge(chain: Chain) -> str:
    """Keys from a pipe give a win rate with its Wilson interval, and a second look asks nothing again."""
    options = ("judge", "last", "-n", str(len(KEYS)), "--max-new-tokens", "24", "--json")
    found = json.loads(chain.call(*options, keys=KEYS))
    tuned, base = found["tuned"], found["base"]
    require(tuned + base > 0, f"no verdict for either side: {found}")
    rate, n = tuned / (tuned + base), tuned + base
    require(math.isclose(found["rate"], rate), f"the rate of {tuned} to {base} is told as {found['rate']}")
    for bound in found["interval"]:
        # Wilson's bounds are the roots of (p̂ − p)² = z² p (1 − p) / n.
        require(abs((rate - bound) ** 2 - _Z**2 * bound * (1 - bound) / n) < 1e-6, f"{bound} is no Wilson bound")
    require(json.loads(chain.call(*options)) == found, "a second look without a key tells another result")
    low, high = found["interval"]
    return f"the tuned model wins {tuned} of {n}: {rate:.0%}, Wilson interval {low:.1%} to {high:.1%}"


def export(chain: Chain) -> str:
    """The merged folder is whole: safetensors, tokenizer, template, and no pickle."""
    target = chain.work / "merged"
    told = chain.call("export", "last", "--to", str(target), "--merge", "--precision", "fp32")
    require(told.strip() == str(target), f"export names {told!r}")
    names = {path.name for path in target.iterdir()}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "curves.svg"):
        require(name in names, f"{name} is missing in the export: {sorted(names)}")
    require(any(name.endswith(".safetensors") for name in names), "there are no safetensors in the export")
    require(not any(name.endswith((".bin", ".pt", ".pkl")) for name in names), f"a pickle: {sorted(names)}")
    return f"{len(names)} files, {sum(path.stat().st_size for path in target.iterdir()) / 1e6:,.0f} MB"


def same_logits(chain: Chain) -> str:
    """Plain transformers loads the merged folder, and it gives the logits of base + adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = chain.work / "merged"
    tokenizer = AutoTokenizer.from_pretrained(target)
    talks = [sample["prompt"] for sample in chain.lines("samples.jsonl") if sample["when"] == "after"]
    texts = [tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
    rows = [tokenizer(text, return_tensors="pt").input_ids[:, :256] for text in texts]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def logits(model: Any) -> list[Any]:
        return [model.eval()(input_ids=row).logits for row in rows]

    bare = AutoModelForCausalLM.from_pretrained(chain.model, dtype=torch.float32)
    unchanged = logits(bare)
    apart = logits(PeftModel.from_pretrained(bare, str(chain.run / "adapter")))
    together = logits(AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32))
    difference = max(float((one - other).abs().max()) for one, other in zip(apart, together, strict=True))
    moved = max(float((one - other).abs().max()) for one, other in zip(apart, unchanged, strict=True))
    require(difference <= CLOSE, f"the logits differ by {difference:.2g}")
    require(moved > 10 * CLOSE, f"the adapter moves the logits by {moved:.2g} only, so agreeing proves nothing")
    return f"logits of merged and base + adapter differ by {difference:.1e}; the adapter moves them by {moved:.2f}"


def model_card(chain: Chain) -> str:
    """The card tells data, settings, metrics, curves, licence and how to serve, and no path of this machine."""
    import yaml

    target = chain.work / "merged"
    card = (target / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    settings = tomllib.loads((chain.run / "config.toml").read_text(encoding="utf-8"))
    for words in (
        hashlib.sha256(chain.data.read_bytes()).hexdigest(),
        f"β {settings['dpo']['beta']:g}",
        f"learning rate {settings['training']['learning_rate']:g}",
        f"{chain.settings['max_steps']} steps",
        "| eval_loss |",
        "| eval_rewards/accuracies |",
        "| eval_kl |",
        "(curves.svg)",
        "## Licence",
        "vllm serve",
        "convert_hf_to_gguf.py",
        "ollama create",
    ):
        require(words in card, f"the model card lacks: {words}")
    local = Path(chain.model).is_dir()
    # A folder's name is no model of the hub, which refuses cards that say so.
    require(head.get("base_model") == (None if local else chain.model), f"the card's head names the base: {head}")
    require(f"`{Path(chain.model).name if local else chain.model}`" in card, "the card does not name the base model")
    for place in (str(chain.work), str(chain.data.parent.resolve()), str(Path(chain.model).parent.resolve())):
        require(place == "/" or place not in card, f"the card tells a path of this machine: {place}")
    drawn = list(ElementTree.parse(target / "curves.svg").iter("{http://www.w3.org/2000/svg}polyline"))  # noqa: S314
    require(len(drawn) >= 4, f"the picture of the curves has {len(drawn)} lines")
    licence = card.split("## Licence\n\n")[1].split("\n")[0]
    return f"{len(card.splitlines())} lines, {len(drawn)} curves; licence: {licence}"


LINKS: tuple[Callable[[Chain], str], ...] = (train, samples_differ, judge, export, same_logits, model_card)


def run_chain(chain: Chain) -> int:
    """Go through the links in order; return the exit code."""
    for link in LINKS:
        try:
            print(f"✓ {link.__name__}: {link(chain)}", flush=True)
        except UntrueError as error:
            print(f"✗ {link.__name__}: {error}", flush=True)
            return 1
    return 0


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=36)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--keep", type=Path, help="an empty folder for all that is made; a temporary one by default")
    asked = parser.parse_args()
    settings = {
        "max_samples": asked.pairs,
        "eval_split": 0.25,
        "max_seq_length": asked.max_length,
        "max_steps": asked.steps,
        "learning_rate": asked.learning_rate,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "eval_steps": asked.steps,
        "sample_max_new_tokens": 24,
        "kl_prompts": 4,
        "kl_max_new_tokens": 16,
        "looks_share": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "gpus": "none",
    }
    with tempfile.TemporaryDirectory() as scratch:
        work = (asked.keep or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        model = str(Path(asked.model).resolve()) if Path(asked.model).is_dir() else asked.model
        sys.exit(run_chain(Chain(model, asked.data, work, settings)))


if __name__ == "__main__":
    main()
