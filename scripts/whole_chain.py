"""End-to-end check on a real model: train, compare answers, judge, merge, load with transformers, read the model card.

    python scripts/whole_chain.py MODEL DATA [--pairs N] [--max-length N] [--steps N] [--keep DIR]

Each step runs a `dpo-tui` command and checks its result independently: the merged folder with plain transformers, the
data's hash with hashlib, the interval by its definition. Prints a line for each step; exits with 1 at the first check
that fails. SmolLM2-135M on one core takes about four minutes.
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
MAX_LOGIT_DIFFERENCE = 1e-3
"""Between the merged model and base + adapter, in fp32."""
KEYS = "lrlrllrt"
"""Verdicts given without reading the answers: only the computation of the win rate is checked."""
_Z = 1.959964
"""Quantile of the normal distribution for an interval of 95 %."""


class CheckError(Exception):
    """A check of the chain failed."""


@dataclass(frozen=True)
class Chain:
    """Input and folders of the check.

    Attributes:
        model: folder or hub id.
        data: file of pairs.
        work: an empty folder for `$DPO_TUI_HOME` and the exports.
        settings: config fields of the run, besides model, data and name.
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
        """Parse one of the run's JSON Lines files."""
        return [json.loads(line) for line in (self.run / name).read_text(encoding="utf-8").splitlines()]

    def call(self, *arguments: str, keys: str = "") -> str:
        """Run a dpo-tui command and return its stdout.

        Raises:
            CheckError: its exit code is not 0.
        """
        environment = {**os.environ, "DPO_TUI_HOME": str(self.work / "home"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", *arguments]
        done = subprocess.run(command, input=keys, capture_output=True, text=True, check=False, env=environment)
        require(
            done.returncode == 0, f"dpo-tui {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}"
        )
        return done.stdout


def require(condition: bool, message: str) -> None:
    """Raise an error unless a condition is true.

    Raises:
        CheckError: it is false.
    """
    if not condition:
        raise CheckError(message)


def train(chain: Chain) -> str:
    """Train: the held-out loss starts at ln 2, since policy and reference start as one model."""
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
    """Samples: answers to the same prompts change in training; the reference's are the policy's before training."""
    answers: dict[str, list[str]] = {}
    for sample in chain.lines("samples.jsonl"):
        answers.setdefault(sample["when"], []).append(sample["answer"])
    before, after, reference = (answers.get(when, []) for when in ("before", "after", "reference"))
    require(len(before) == len(after) > 0, f"{len(before)} answers before and {len(after)} after training")
    require(before == reference, "before training the reference answers otherwise than the policy")
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    require(bool(changed), "every answer is word for word what it was before training")
    one, other = changed[0]
    return f"{len(changed)} of {len(before)} answers changed, such as {one[:60]!r} → {other[:60]!r}"


def judge(chain: Chain) -> str:
    """Judge: keys from a pipe give a win rate with its Wilson interval, and a second call needs no keys."""
    options = ("judge", "last", "-n", str(len(KEYS)), "--max-new-tokens", "24", "--json")
    found = json.loads(chain.call(*options, keys=KEYS))
    tuned, base = found["tuned"], found["base"]
    require(tuned + base > 0, f"no verdict for either side: {found}")
    rate, n = tuned / (tuned + base), tuned + base
    require(math.isclose(found["rate"], rate), f"the rate of {tuned} to {base} is reported as {found['rate']}")
    for bound in found["interval"]:
        # Wilson's bounds are the roots of (p̂ − p)² = z² p (1 − p) / n.
        require(abs((rate - bound) ** 2 - _Z**2 * bound * (1 - bound) / n) < 1e-6, f"{bound} is no Wilson bound")
    require(json.loads(chain.call(*options)) == found, "a second call without keys prints another result")
    low, high = found["interval"]
    return f"the tuned model wins {tuned} of {n}: {rate:.0%}, Wilson interval {low:.1%} to {high:.1%}"


def export(chain: Chain) -> str:
    """Export: the merged folder has safetensors, tokenizer and model card, and no pickle."""
    target = chain.work / "merged"
    printed = chain.call("export", "last", "--to", str(target), "--merge", "--precision", "fp32")
    require(printed.strip() == str(target), f"export names {printed!r}")
    names = {path.name for path in target.iterdir()}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "curves.svg"):
        require(name in names, f"{name} is missing in the export: {sorted(names)}")
    require(any(name.endswith(".safetensors") for name in names), "there are no safetensors in the export")
    require(not any(name.endswith((".bin", ".pt", ".pkl")) for name in names), f"a pickle: {sorted(names)}")
    return f"{len(names)} files, {sum(path.stat().st_size for path in target.iterdir()) / 1e6:,.0f} MB"


def same_logits(chain: Chain) -> str:
    """Logits: the merged folder, loaded by plain transformers, has those of base + adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = chain.work / "merged"
    tokenizer = AutoTokenizer.from_pretrained(target)
    prompts = [sample["prompt"] for sample in chain.lines("samples.jsonl") if sample["when"] == "after"]
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    rows = [tokenizer(text, return_tensors="pt").input_ids[:, :256] for text in texts]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def logits(model: Any) -> list[Any]:
        return [model.eval()(input_ids=row).logits for row in rows]

    base = AutoModelForCausalLM.from_pretrained(chain.model, dtype=torch.float32)
    unchanged = logits(base)
    with_adapter = logits(PeftModel.from_pretrained(base, str(chain.run / "adapter")))
    merged = logits(AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32))
    difference = max(float((one - other).abs().max()) for one, other in zip(with_adapter, merged, strict=True))
    moved = max(float((one - other).abs().max()) for one, other in zip(with_adapter, unchanged, strict=True))
    require(difference <= MAX_LOGIT_DIFFERENCE, f"the logits differ by {difference:.2g}")
    require(
        moved > 10 * MAX_LOGIT_DIFFERENCE,
        f"the adapter moves the logits by {moved:.2g} only, so agreeing proves nothing",
    )
    return f"logits of merged and base + adapter differ by {difference:.1e}; the adapter moves them by {moved:.2f}"


def model_card(chain: Chain) -> str:
    """Model card: it has data, settings, metrics, curves, licence and commands for serving, and no local path."""
    import yaml

    target = chain.work / "merged"
    card = (target / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    settings = tomllib.loads((chain.run / "config.toml").read_text(encoding="utf-8"))
    for text in (
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
        require(text in card, f"the model card lacks: {text}")
    local = Path(chain.model).is_dir()
    # The hub rejects cards whose base_model is no hub id, so a local folder must not be in the head.
    require(head.get("base_model") == (None if local else chain.model), f"the card's head names the base: {head}")
    require(f"`{Path(chain.model).name if local else chain.model}`" in card, "the card does not name the base model")
    for place in (str(chain.work), str(chain.data.parent.resolve()), str(Path(chain.model).parent.resolve())):
        require(place == "/" or place not in card, f"the card has a local path: {place}")
    drawn = list(ElementTree.parse(target / "curves.svg").iter("{http://www.w3.org/2000/svg}polyline"))  # noqa: S314
    require(len(drawn) >= 4, f"the picture of the curves has {len(drawn)} lines")
    licence = card.split("## Licence\n\n")[1].split("\n")[0]
    return f"{len(card.splitlines())} lines, {len(drawn)} curves; licence: {licence}"


STEPS: tuple[Callable[[Chain], str], ...] = (train, samples_differ, judge, export, same_logits, model_card)


def run_chain(chain: Chain) -> int:
    """Run the steps in order; return the exit code."""
    for step in STEPS:
        try:
            print(f"✓ {step.__name__}: {step(chain)}", flush=True)
        except CheckError as error:
            print(f"✗ {step.__name__}: {error}", flush=True)
            return 1
    return 0


def main() -> None:
    """Parse the command line and run the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=36)
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--keep", type=Path, help="an empty folder for all that is made; a temporary one by default")
    arguments = parser.parse_args()
    settings = {
        "max_samples": arguments.pairs,
        "eval_split": 0.25,
        "max_seq_length": arguments.max_length,
        "max_steps": arguments.steps,
        "learning_rate": arguments.learning_rate,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "eval_steps": arguments.steps,
        "sample_max_new_tokens": 24,
        "kl_prompts": 4,
        "kl_max_new_tokens": 16,
        "looks_share": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "gpus": "none",
    }
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.keep or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        model = str(Path(arguments.model).resolve()) if Path(arguments.model).is_dir() else arguments.model
        sys.exit(run_chain(Chain(model, arguments.data, work, settings)))


if __name__ == "__main__":
    main()
