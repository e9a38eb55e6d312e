"""Train the labelled runs on which the advice is tested (tests/advice_runs): healthy ones, and ones with one fault.

    python scripts/make_advice_runs.py OUT [--only NAME…] [--seed N] [--second-model FOLDER] [--real-model FOLDER]
                                       [--gpt-neox FOLDER] [--gpt2 FOLDER]

Every run is real training on the demo's pairs: of the demo's model or a second toy (`advice_second_model.py`) a quarter
of a minute on one core, of a real model ten minutes. A run's folder holds what the advice reads (settings, metrics,
receipt and warnings) and `label.json`, which says what was done. docs/advice.md says which runs the rules were written
by looking at, and how they did on the others.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advice_graded_pairs import graded_pairs
from advice_measures import NOT_MEASURED, base_nll, holds, measure
from advice_recipes import RECIPES, Recipe, Row
from advice_recipes_by_loss import AT_ANOTHER_RATE, AT_SUITED_SETTINGS, ON_DEMO_MODEL, ON_REAL_MODEL, ON_SECOND_MODEL
from advice_recipes_other_models import FIFTH, MeasuredRecipe
from build_demo import GRAMMAR
from demo.corpus import preference_pairs
from demo.grammar import load_problems

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
    "step", "loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
    "logps/chosen", "mean_token_accuracy", "step_seconds", "data_seconds", "eval_loss", "eval_rewards/accuracies",
    "eval_rewards/margins", "eval_logps/chosen", "eval_mean_token_accuracy", "eval_kl", "eval_kl_stderr", "eval_kl_n",
}  # fmt: skip


def main() -> None:
    """Train the recipes that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, help="instead of the recipe's own, which is 2 for the first recipes")
    parser.add_argument("--second-model", type=Path, help="needed for the recipes of the second model")
    parser.add_argument("--real-model", type=Path, help="SmolLM2-135M-Instruct, needed for the recipes of that model")
    parser.add_argument("--gpt-neox", type=Path, help="folder of advice_other_models.py, for the recipes of that model")
    parser.add_argument("--gpt2", type=Path, help="folder of advice_other_models.py, for the recipes of that model")
    arguments = parser.parse_args()
    from dpo_tui.demo import assets

    models = {
        "demo": assets.model_dir(),
        "second": arguments.second_model,
        "real": arguments.real_model,
        "gpt_neox": arguments.gpt_neox,
        "gpt2": arguments.gpt2,
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DPO_TUI_HOME"] = scratch
        for recipe in (
            *RECIPES,
            *ON_DEMO_MODEL,
            *ON_SECOND_MODEL,
            *ON_REAL_MODEL,
            *AT_ANOTHER_RATE,
            *AT_SUITED_SETTINGS,
            *FIFTH,
        ):
            wanted = recipe.name in arguments.only if arguments.only else models[recipe.model] is not None
            if wanted:
                seed = arguments.seed if arguments.seed is not None else recipe.seed or 2
                make(recipe, seed, models[recipe.model], arguments.out, Path(scratch))


def make(recipe: Recipe, seed: int, model: Path, out: Path, scratch: Path) -> None:
    """Train one recipe in a scratch folder, and copy what the advice reads to a folder under ``out``."""
    from dpo_tui.config.files import from_values
    from dpo_tui.config.toml_text import to_toml
    from dpo_tui.demo import assets
    from dpo_tui.errors import DpoTuiError
    from dpo_tui.runs import store
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    # The recipe's name is part of the seed, so that each run has other pairs.
    rng = random.Random(f"{recipe.name} {seed}")
    kept = _rows(assets.heldout_file())[: recipe.held_out_pairs]
    train, held_out = recipe.change(_rows(assets.pairs_file()), kept, rng)
    rng.shuffle(train)
    parts = {"pairs": train, "held-out": held_out}
    paths = [_write(scratch / f"{recipe.name}-{name}.jsonl", rows) for name, rows in parts.items()]
    undamaged = model
    values = COMMON | {"seed": seed * 1000 + len(recipe.name), "name": recipe.name} | recipe.settings
    if recipe.damage:
        model = Path(shutil.copytree(model, scratch / f"{recipe.name}-model"))
        recipe.damage(model)
    values |= {"model_name": str(model), "dataset": str(paths[0])}
    values |= {"eval_dataset": str(paths[1])} if held_out else {"eval_split": 0.0}
    config = from_values(values)
    folder = store.create(to_toml(config), name=recipe.name, devices=[])
    failed = False
    with _policy_ahead_of_reference() if recipe.wrong_reference else contextlib.nullcontext():
        try:
            run_training(config, folder, Journal(folder), StopRequests(folder))
        except (DpoTuiError, RuntimeError) as error:
            # A base that is broken on purpose ends its run; the advice reads what was written until then.
            failed = True
            print(f"{recipe.name} failed: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    target = out / f"{recipe.name}-s{seed}"
    _copy_evidence(
        folder, target, {str(scratch): "/data", str(Path.cwd()): "/app", str(model): f"/models/{recipe.model}"}
    )
    steps = max(line["step"] for line in _rows(folder.metrics))
    whole = config.max_steps or steps
    (target / "progress.json").write_text(json.dumps({"step": steps, "max_steps": whole}) + "\n")
    (target / "state.json").write_text(json.dumps({"status": "failed" if failed else "done"}) + "\n")
    label = {"right": list(recipe.right), "made": recipe.made, "seed": seed, "model": recipe.model}
    against = ""
    if isinstance(recipe, MeasuredRecipe):
        measured = _measured(recipe, folder, undamaged, model, train, held_out)
        against = holds(recipe.kind, measured, target)
        label |= {"kind": recipe.kind, "measured": measured}
    (target / "label.json").write_text(json.dumps(label, indent=1) + "\n")
    if against:
        # Kept apart, not deleted: whoever makes the set sees what was left out, and by which criterion.
        left_out = out / "left-out" / target.name
        shutil.rmtree(left_out, ignore_errors=True)
        shutil.move(target, left_out)
    print(f"made {recipe.name} (seed {seed}) {against}", file=sys.stderr, flush=True)


def _measured(  # noqa: PLR0917 - what the run was made from
    recipe: MeasuredRecipe, folder: Any, undamaged: Path, model: Path, train: list[Row], held_out: list[Row]
) -> dict[str, Any]:
    """Measure what the run's label says, on pairs that no recipe has and with none of the advice."""
    rng = random.Random("pool")
    if recipe.graded:
        pool = graded_pairs(80, rng, heldout=True, firmness=None)
    else:
        pool = preference_pairs(load_problems(GRAMMAR), 2, rng, heldout=True)
    result = folder.adapter if recipe.settings.get("use_lora", True) else folder.merged
    normalised = recipe.settings.get("loss_type") == ["sigmoid_norm"]
    measured = measure(model, result, pool, train, normalised) if result.is_dir() else dict(NOT_MEASURED)
    if recipe.damage and result.is_dir():
        measured["nll_whole"] = base_nll(undamaged, pool)
    prompts = {row["prompt"] for row in train}
    measured["leaked"] = sum(row["prompt"] in prompts for row in held_out) / max(1, len(held_out))
    measured["copies"] = 1 - len({json.dumps(row) for row in train}) / len(train)
    return {key: value if math.isfinite(value) else None for key, value in measured.items()}


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


def _copy_evidence(folder: Any, target: Path, paths: dict[str, str]) -> None:
    """Copy metrics, warnings, settings and a part of the receipt, with other paths in place of this machine's."""
    target.mkdir(parents=True, exist_ok=True)
    copied = [{key: _short(value) for key, value in line.items() if key in _METRICS} for line in _rows(folder.metrics)]
    (target / "metrics.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in copied))
    warnings = [event for event in _rows(folder.events) if event["kind"] in {"warning", "failed"}]
    (target / "events.jsonl").write_text("".join(json.dumps({**event, "t": 0}) + "\n" for event in warnings))
    settings = folder.config.read_text()
    for path, instead in paths.items():
        settings = settings.replace(path, instead)
    (target / "config.toml").write_text(settings)
    receipt = json.loads(folder.receipt.read_text())
    data = {**receipt["data"], "location": "/data/pairs.jsonl"}
    receipt_part = {"data": data, "effective_batch": receipt["effective_batch"]}
    (target / "receipt.json").write_text(json.dumps(receipt_part, indent=1) + "\n")


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
