"""Runs of several processes beside the same training in one: how each is made, and how far their metrics differ."""

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import is_same_process
from dpo_tui.runs.ranks import RankReport, read_reports
from dpo_tui.start.prepare import create_run, prepare
from tests.support.supervised_runs import until
from tests.support.training import lines, losses, make_config, train

STEPS = 30
# 40 pairs, 8 of them held out: three batches of evaluation, which two processes cannot share evenly.
SETTINGS = {
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 3,
    "eval_split": 0.2,
    "eval_steps": 15,
    "max_steps": STEPS,
    "save_steps": 10,
    "sample_prompts": 1,
    "kl_prompts": 4,
    "kl_max_new_tokens": 4,
    "looks_share": 0.9,
}
# Trainer's train_loss is the sum over the steps of an attempt, divided by the steps of the whole run. TRL counts the
# tokens that a step gets right over the batches of all processes at once; of an evaluation they are compared.
# Operations are counted with the padding, of which a larger batch has more.
NOT_COMPARED = {"t", "epoch", "train_loss", "mean_token_accuracy", "total_flos"}
TIMES = ("_seconds", "_per_second", "_runtime")


def run_of(model: Path, pairs: Path, tmp_path: Path, ranks: int, **changes: Any) -> RunFolder:
    """Create a run as the command line does, with an effective batch of 8."""
    values = SETTINGS | {"ranks": ranks, "gradient_accumulation_steps": 4 // ranks} | changes
    path = tmp_path / f"{ranks}.toml"
    path.write_text(to_toml(make_config(model, pairs, **values)))
    return create_run(prepare(load(path)))


def one_process(model: Path, pairs: Path, tmp_path: Path, **changes: Any) -> RunFolder:
    """The same training in this process, in a home of its own, so that nothing is taken from its caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_TUI_HOME", str(tmp_path / "alone"))
        folder = run_of(model, pairs, tmp_path, 1, **changes)
        return train(load(folder.config).config, folder)


def logged(folder: RunFolder) -> dict[tuple[int, str], float]:
    """Every metric of every step; of a step that was made twice the later line counts."""
    values: dict[tuple[int, str], float] = {}
    for line in lines(folder.metrics):
        values |= {
            (line["step"], name): value
            for name, value in line.items()
            if value is not None and name not in NOT_COMPARED and not name.endswith(TIMES)
        }
    return values


def largest_difference(one: RunFolder, other: RunFolder) -> float:
    """Of any metric that both have, after all steps and evaluations were made by both."""
    first, second = logged(one), logged(other)
    assert losses(one).keys() == losses(other).keys() == set(range(1, STEPS + 1))
    for values in (first, second):
        assert {step for step, name in values if name == "eval_loss"} == {0, 15, 30}
    return max(abs(first[key] - second[key]) for key in first.keys() & second.keys())


def reaches(folder: RunFolder, step: int) -> None:
    until(lambda: ((read_json(folder.progress) or {}).get("step") or 0) >= step, f"{folder.id} to reach step {step}")


def has_no_base_weights(folder: Path) -> bool:
    """Whether a folder has an adapter's weights and no others, in any file."""
    assert not list(folder.glob("model*")) and not list(folder.glob("*.distcp"))
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    return bool(names) and all("lora_" in name for name in names)


def trains_again(folder: RunFolder) -> list[RankReport]:
    """The reports of two ranks that train now; empty before. The last attempt's are there until the next begins."""
    found = read_reports(folder)
    trains = len(found) == 2 and all(is_same_process(one.pid, one.start) for one in found) and found[0].step
    return found if trains else []
