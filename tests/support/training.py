"""Real training in tests: configs for the tiny model, runs that train in this process, readers of what they wrote."""

import json
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig, from_values, load
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


def make_config(model: Path, pairs: Path, **changes: Any) -> Config:
    """A config of six steps on the CPU; ``changes`` replace its settings."""
    values = {
        "model_name": str(model),
        "dataset": str(pairs),
        "learning_rate": 1e-3,
        "max_seq_length": 128,
        "gradient_accumulation_steps": 1,
        "max_steps": 6,
        "save_steps": 2,
        "sample_prompts": 2,
        "sample_max_new_tokens": 4,
        "gpus": "none",
        "lora_r": 4,
    }
    return from_values(values | changes)


def make_run(config: Config, name: str = "test") -> RunFolder:
    """Create the folder of a run that holds no device."""
    return store.create(to_toml(config), name=name, devices=[])


def train(config: Config, folder: RunFolder | None = None, stop_requests: StopRequests | None = None) -> RunFolder:
    """Train in this process, in a new run unless a folder is given."""
    # Here, so that a module that needs only the configs does not import torch.
    from dpo_tui.train.run_training import run_training

    folder = folder or make_run(config)
    run_training(config, folder, Journal(folder), stop_requests or StopRequests(folder))
    return folder


def finished_run(model: Path, pairs: Path, **changes: Any) -> RunFolder:
    """Train the run "tiny" for three steps at a high learning rate, so that its adapter visibly changes the answers."""
    settings = {"learning_rate": 1e-2, "max_steps": 3, "save_steps": 100, "kl_prompts": 0, "name": "tiny"}
    config = make_config(model, pairs, **(settings | changes))
    return train(config, make_run(config, name="tiny"))


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(folder: RunFolder) -> dict[int, float]:
    """The training loss of every step."""
    return {line["step"]: line["loss"] for line in lines(folder.metrics) if "loss" in line}


def loaded(tmp_path: Path, model: Path, pairs: Path, **changes: Any) -> LoadedConfig:
    """The config of `make_config` as a file that was read, with these settings changed."""
    path = tmp_path / "config.toml"
    path.write_text(to_toml(make_config(model, pairs)))
    return load(path, changes)
