"""Damaged checkpoints: passed over in favour of an older whole one, by the worker and by everybody else."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dpo_tui.config.schema import Config
from dpo_tui.runs.checkpoint_checksums import damaged_file
from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank
from dpo_tui.train.worker.checkpoints import checkpoint_to_resume, mark_complete, prune
from dpo_tui.train.worker.failures import describe_failure
from dpo_tui.train.worker.journal import Journal
from tests.support.training import lines, losses, make_config, make_run, train

FILES = ("adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_pairs: Path) -> tuple[Config, RunFolder]:
    """A run of six steps with the checkpoints of steps 2, 4 and 6."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DPO_TUI_HOME", str(tmp_path_factory.mktemp("trained")))
    changes = {"eval_split": 0.0, "sample_prompts": 0, "kl_prompts": 0, "save_total_limit": 9}
    config = make_config(tiny_model, tiny_pairs, **changes)
    folder = train(config)
    patch.undo()
    return config, folder


def interrupted(config: Config, source: RunFolder, *steps: int) -> RunFolder:
    """A run that has come as far as the checkpoints of these steps."""
    folder = make_run(config, name="interrupted")
    for step in steps:
        shutil.copytree(source.checkpoints / f"checkpoint-{step}", folder.checkpoints / f"checkpoint-{step}")
    return folder


def damage(path: Path) -> None:
    """Overwrite the first bytes of a file; its size stays."""
    with path.open("r+b") as file:
        file.write(bytes(64))


def without_checksums(checkpoint: Path) -> None:
    """Turn a marker into one of an earlier version."""
    marker = json.loads((checkpoint / MARKER).read_text())
    del marker["crc32"]
    (checkpoint / MARKER).write_text(json.dumps(marker))


def warnings(folder: RunFolder) -> list[str]:
    return [event["message"] for event in lines(folder.events) if event["kind"] == "warning"]


@pytest.mark.parametrize("checksums", [True, False], ids=["with checksums", "of an earlier version"])
@pytest.mark.parametrize("name", FILES)
def test_an_older_whole_checkpoint_is_used_instead(
    home: Path, trained: tuple[Config, RunFolder], name: str, checksums: bool
) -> None:
    config, whole = trained
    folder = interrupted(config, whole, 2, 4)
    if not checksums:
        without_checksums(folder.checkpoints / "checkpoint-4")
    damage(folder.checkpoints / "checkpoint-4" / name)
    assert newest_complete(folder.checkpoints)[0] == folder.checkpoints / "checkpoint-4", "sizes alone show nothing"
    train(config, folder)
    assert f"checkpoint-4 is not used: its {name} is damaged" in warnings(folder)
    assert losses(folder) == {step: loss for step, loss in losses(whole).items() if step > 2}


def test_after_it_was_found_everybody_passes_it_over(home: Path, trained: tuple[Config, RunFolder]) -> None:
    """Supervisor and command line look for the marker and the sizes only."""
    config, whole = trained
    folder = interrupted(config, whole, 2, 4, 6)
    damage(folder.checkpoints / "checkpoint-6" / "optimizer.pt")
    damage(folder.checkpoints / "checkpoint-4" / "optimizer.pt")
    chosen = checkpoint_to_resume(folder.checkpoints, Journal(folder))
    assert chosen == newest_complete(folder.checkpoints)[0] == folder.checkpoints / "checkpoint-2"
    assert len(warnings(folder)) == 2
    # The next attempt does not name them again, and what is kept is counted in whole ones.
    assert checkpoint_to_resume(folder.checkpoints, Journal(folder)) == chosen
    assert len(warnings(folder)) == 2
    prune(folder.checkpoints, 1)
    assert chosen.is_dir()


def test_without_a_whole_one_the_run_begins_anew(home: Path, trained: tuple[Config, RunFolder]) -> None:
    config, whole = trained
    folder = interrupted(config, whole, 2)
    damage(folder.checkpoints / "checkpoint-2" / "trainer_state.json")
    train(config, folder)
    assert losses(folder) == losses(whole)


def test_every_file_of_a_checkpoint_has_a_checksum(trained: tuple[Config, RunFolder]) -> None:
    checkpoint = trained[1].checkpoints / "checkpoint-4"
    marker = json.loads((checkpoint / MARKER).read_text())
    files = {path.name for path in checkpoint.iterdir()} - {MARKER}
    assert set(FILES) <= files == marker["files"].keys() == marker["crc32"].keys()
    assert damaged_file(checkpoint) is None


def test_marking_twice_lists_no_marker(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(b"weights")
    mark_complete(checkpoint)
    mark_complete(checkpoint)
    assert json.loads((checkpoint / MARKER).read_text())["files"] == {"weights": 7}
    assert damaged_file(checkpoint) is None


def test_nobody_is_advised_to_switch_torchs_protection_off(tmp_path: Path) -> None:
    """torch says so itself when it meets a pickle that could run code."""
    import pickle

    import torch

    path = tmp_path / "optimizer.pt"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match="weights_only") as caught:
        torch.load(path, weights_only=True)
    failure = describe_failure(caught.value)
    assert "weights_only" not in failure.message + failure.hint and "False" not in failure.hint
    assert "damaged, or made to run code" in failure.message


def test_a_rank_whose_peer_has_just_found_the_damage_resumes_from_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 takes the marker between this rank's choice and its look into the marker."""
    folder = RunFolder(tmp_path)
    for step in (2, 4):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (folder.checkpoints / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"state")
        mark_complete(folder.checkpoints / f"checkpoint-{step}")

    def chosen_before_the_peer_has_looked(checkpoints: Path) -> tuple[Path | None, list[Path]]:
        found = newest_complete(checkpoints)
        (checkpoints / "checkpoint-4" / MARKER).rename(checkpoints / "checkpoint-4" / "damaged.json")
        return found

    monkeypatch.setattr("dpo_tui.train.worker.checkpoints.newest_complete", chosen_before_the_peer_has_looked)
    chosen = checkpoint_to_resume(folder.checkpoints, Journal(folder, Rank(1, 1, 2)))
    assert chosen == folder.checkpoints / "checkpoint-2"


def test_older_checkpoints_stay_while_the_disk_does_not_take_one_that_replaces_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("x")
        mark_complete(tmp_path / f"checkpoint-{step}")

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        prune(tmp_path, keep=1)
    assert len(all_checkpoints(tmp_path)) == 2
    prune(tmp_path, keep=1)
    assert [path.name for path in all_checkpoints(tmp_path)] == ["checkpoint-2"]
