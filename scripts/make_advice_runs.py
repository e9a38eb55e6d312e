"""Train the labelled runs on which the advice is tested (tests/advice_runs): healthy ones, and ones with one fault.

    python scripts/make_advice_runs.py OUT [--only NAME…] [--seed N]

Every run is real DPO on the shipped toy model and its pairs, about half a minute on one core. A run's folder holds what
the advice reads (settings, metrics, receipt and warnings) and `label.json`, which says what was done. The rules
were written looking at the runs of seed 1; docs/advice.md says how they did on seeds that nobody had looked at.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advice_recipes import RECIPES, Recipe, Row

COMMON: dict[str, Any] = {
    "bf16": False,
    "max_seq_length": 72,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_steps": 80,
    "learning_rate": 6e-4,
    "gradient_checkpointing": False,
    "lora_r": 16,
    "lora_alpha": 32,
    "gpus": "none",
    "eval_steps": 16,
    "per_device_eval_batch_size": 16,
    "sample_prompts": 0,
    "kl_prompts": 8,
    "kl_max_new_tokens": 32,
    "looks_share": 1.0,
    "save_steps": 10_000,
    "report_to": [],
}
_METRICS = {
    "step", "loss", "grad_norm", "rewards/chosen", "rewards/accuracies", "rewards/margins", "logps/chosen",
    "step_seconds", "data_seconds", "eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_kl",
    "eval_kl_stderr", "eval_kl_n",
}  # fmt: skip


def main() -> None:
    """Train the recipes that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DPO_TUI_HOME"] = scratch
        for recipe in RECIPES:
            if not arguments.only or recipe.name in arguments.only:
                make(recipe, arguments.seed, arguments.out, Path(scratch))


def make(recipe: Recipe, seed: int, out: Path, scratch: Path) -> None:
    """Train one recipe in a scratch folder, and copy what the advice reads to a folder under ``out``."""
    from dpo_tui.config.files import from_values
    from dpo_tui.config.toml_text import to_toml
    from dpo_tui.demo import assets
    from dpo_tui.runs import store
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    # The recipe's name is part of the seed, so that each run has other pairs.
    rng = random.Random(f"{recipe.name} {seed}")
    train, held_out = recipe.change(_rows(assets.pairs_file()), _rows(assets.heldout_file())[:48], rng)
    rng.shuffle(train)
    parts = {"pairs": train, "held-out": held_out}
    paths = [_write(scratch / f"{recipe.name}-{name}.jsonl", rows) for name, rows in parts.items()]
    values = COMMON | {"seed": seed * 1000 + len(recipe.name), "name": recipe.name} | recipe.settings
    values |= {"model_name": str(assets.model_dir()), "dataset": str(paths[0]), "eval_dataset": str(paths[1])}
    config = from_values(values)
    folder = store.create(to_toml(config), name=recipe.name, devices=[])
    with _policy_ahead_of_reference() if recipe.wrong_reference else contextlib.nullcontext():
        run_training(config, folder, Journal(folder), StopRequests(folder))
    _copy_evidence(recipe, seed, folder, out / f"{recipe.name}-s{seed}", scratch)
    print(f"made {recipe.name} (seed {seed})", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _policy_ahead_of_reference() -> Iterator[None]:
    """Start with an adapter that differs from zero, as after a first stage whose adapter was not merged."""
    import torch

    from dpo_tui.train import run_training

    build = run_training.build_trainer

    def ahead(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        torch.manual_seed(7)
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1)
        return trainer

    run_training.build_trainer = ahead  # type: ignore[assignment]
    try:
        yield
    finally:
        run_training.build_trainer = build  # type: ignore[assignment]


def _copy_evidence(recipe: Recipe, seed: int, folder: Any, target: Path, scratch: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    metrics = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    copied = [{key: _short(value) for key, value in line.items() if key in _METRICS} for line in metrics]
    (target / "metrics.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in copied))
    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    warnings = [event for event in events if event["kind"] in {"warning", "failed"}]
    (target / "events.jsonl").write_text("".join(json.dumps({**event, "t": 0}) + "\n" for event in warnings))
    settings = folder.config.read_text().replace(str(scratch), "/data").replace(str(Path.cwd()), "/app")
    (target / "config.toml").write_text(settings)
    receipt = json.loads(folder.receipt.read_text())
    data = {**receipt["data"], "location": "/data/pairs.jsonl"}
    receipt_part = {"data": data, "effective_batch": receipt["effective_batch"]}
    (target / "receipt.json").write_text(json.dumps(receipt_part, indent=1) + "\n")
    steps = max(line["step"] for line in metrics)
    (target / "progress.json").write_text(json.dumps({"step": steps, "max_steps": steps}) + "\n")
    (target / "state.json").write_text(json.dumps({"status": "done"}) + "\n")
    label = {"right": list(recipe.right), "made": recipe.made, "seed": seed}
    (target / "label.json").write_text(json.dumps(label, indent=1) + "\n")


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
