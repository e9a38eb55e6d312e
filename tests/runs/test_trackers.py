"""Trackers receive what metrics.jsonl does, with nobody online."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import ConfigError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.trackers import check_trackers, set_environment
from tests.support.training import finished_run


def losses(folder: RunFolder) -> list[float]:
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_tensorboard_gets_the_curves_into_the_runs_folder(
    home: Path, tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, every loss, under the names that TensorBoard shows."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    folder = finished_run(tiny_model, tiny_pairs, report_to=["tensorboard"], kl_prompts=2, looks_share=1.0)
    found = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    found.Reload()
    assert [point.value for point in found.Scalars("train/loss")] == pytest.approx(losses(folder), abs=1e-6)
    assert {"eval/loss", "eval/kl", "eval/rewards/accuracies"} <= set(found.Tags()["scalars"])


def test_trackio_gets_the_curves_without_a_space(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, into its own local database, under this package's name."""
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)  # it reads TRACKIO_DIR when it is imported
    folder = finished_run(tiny_model, tiny_pairs, report_to=["trackio"])
    (database,) = [path for path in (tmp_path / "trackio").rglob("*.db") if "dpo-tui" in path.name]
    with sqlite3.connect(database) as connection:
        rows: list[Any] = [json.loads(row[0]) for row in connection.execute("select metrics from metrics order by id")]
    stored = [row["train/loss"] for row in rows if "train/loss" in row]
    assert stored == pytest.approx(losses(folder), abs=1e-6)


def test_a_tracker_that_is_missing_is_named_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="mlflow, wandb are not installed") as caught:
        check_trackers(["mlflow", "wandb"])
    assert 'pip install "dpo-tui[mlflow,wandb]"' in (caught.value.hint or "")
    check_trackers([])


def test_what_the_person_has_set_up_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    set_environment(["wandb"], RunFolder(tmp_path))
    import os

    assert os.environ["WANDB_PROJECT"] == "mine"
    assert os.environ.pop("WANDB_DIR") == str(tmp_path)
