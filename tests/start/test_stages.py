"""SFT, then DPO from the SFT model, as one command."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import load
from dpo_tui.errors import ConfigError, RunError, RunNotFoundError, TrainingError, UsageError
from dpo_tui.runs import start_run, store
from dpo_tui.runs.complete_checkpoints import newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.state import read_state, write_state
from dpo_tui.runs.status import status_of
from dpo_tui.start.earlier_run_model import model_of
from dpo_tui.start.prepare import create_stages, prepare_stages
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests
from tests.support.repository import ROOT
from tests.support.supervised_runs import ended, send, state_of, until

STEPS = 12


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"help {n}"}, {"role": "assistant", "content": "thank you, press"}]}
        for n in range(24)
    ]
    path = tmp_path / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write(path: Path, **settings: Any) -> Path:
    common = {"max_seq_length": 128, "gradient_accumulation_steps": 1, "gpus": "none", "lora_r": 4, "kl_prompts": 0}
    common |= {"sample_prompts": 0, "max_steps": STEPS, "learning_rate": 2e-2, "per_device_train_batch_size": 4}
    values = common | settings
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def settings(folder: RunFolder) -> dict[str, Any]:
    tables = tomllib.loads(folder.config.read_text())
    return {key: value for table in tables.values() for key, value in table.items()}


def test_one_command_trains_both_stages_and_the_reference_is_the_first_ones_model(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, demonstrations: Path
) -> None:
    """Real processes; DPO starts at 0.6931 and learns, and its base is the merged SFT model."""
    sft = write(
        tmp_path / "sft.toml", strategy="sft", model_name=str(tiny_model), dataset=str(demonstrations), name="one"
    )
    dpo = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs), name="two", eval_split=0.2)
    command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", "train", str(sft), str(dpo)]
    root = str(ROOT)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": root}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    first, second = (RunFolder(store.all_runs()[place].path) for place in (1, 0))
    assert (first.merged / "model.safetensors").is_file()
    assert settings(second)["model_name"] == str(first.merged)
    assert "base and adapter in one" in done.stderr, "what is there to merge? Of stage one, nothing"
    assert f"works with its base {first.merged}, or merged into it" in " ".join(done.stderr.split())
    assert f"dpo-tui export {second.id} --to DIR --merge" in done.stderr

    metrics = lines(second.metrics)
    start = next(line for line in metrics if "eval_loss" in line)
    assert start["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert [line["eval_rewards/accuracies"] for line in metrics if "eval_loss" in line][-1] >= 0.9

    from safetensors.torch import load_file

    stage, root_weights = load_file(first.merged / "model.safetensors"), load_file(tiny_model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert (stage[name].float() - root_weights[name].float()).abs().max() > 1e-3
    assert f"after a first stage (run {first.id})" in second.model_card.read_text()


@pytest.mark.slow
def test_the_second_stage_may_have_a_reference_of_its_own(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, demonstrations: Path
) -> None:
    """DPO trains the SFT model and is held near the base: it does not start at ln 2, and its receipt says why."""
    sft = write(tmp_path / "sft.toml", strategy="sft", model_name=str(tiny_model), dataset=str(demonstrations))
    more = {"ref_model": str(tiny_model), "eval_split": 0.2, "max_steps": 2}
    dpo = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs), **more)
    first, second = create_stages(prepare_stages([load(sft), load(dpo)]))
    for folder in (first, second):
        start_run.start(folder)
    assert ended(first).status == ended(second).status == "done"
    frozen = settings(second)
    assert (frozen["model_name"], frozen["ref_model"]) == (str(first.merged), str(tiny_model))
    start = next(line["eval_loss"] for line in lines(second.metrics) if "eval_loss" in line)
    assert abs(start - math.log(2)) > 1e-3
    assert str(tiny_model) in json.dumps(json.loads(second.receipt.read_text())["reference"])


@pytest.mark.parametrize("setting", ["ref_model", "ref_adapter"])
def test_the_stage_before_is_no_other_reference(tmp_path: Path, tiny_pairs: Path, setting: str) -> None:
    """It has no model yet. Every command that reads the file refuses it."""
    dpo = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs), **{setting: "previous"})
    with pytest.raises(ConfigError, match=rf"{setting} = 'previous': must be there before the command starts") as found:
        load(dpo)
    assert found.value.exit_code == 2


@pytest.mark.slow
def test_a_chain_that_broke_in_the_middle_goes_on_from_there(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, demonstrations: Path
) -> None:
    """Stage one's worker is killed with -9; both stages are resumed, and what was done is not done again."""
    quick = {"save_steps": 4, "max_steps": 16, "eval_split": 0.0}
    sft = write(tmp_path / "sft.toml", strategy="sft", model_name=str(tiny_model), dataset=str(demonstrations), **quick)
    dpo = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs), **quick | {"eval_split": 0.2})
    first, second = create_stages(prepare_stages([load(sft), load(dpo)]))
    for folder in (first, second):
        start_run.start(folder)
    until(lambda: newest_complete(first.checkpoints)[0], "stage one's first checkpoint")
    send(state_of(first).worker_pid, signal.SIGKILL)
    assert ended(first).status == "failed"
    assert ended(second).status == "failed"
    assert f"dpo-tui resume {first.id}" in status_of(second).reason
    assert not second.metrics.exists()

    before = {line["step"] for line in lines(first.metrics) if "loss" in line}
    # The second is asked for at once: it waits for its turn.
    for folder in (first, second):
        start_run.resume(folder)
    assert ended(first).status == "done"
    assert ended(second).status == "done", status_of(second).reason
    resumed = [event["step"] for event in lines(first.events) if "Resuming from" in event["message"]]
    assert len(resumed) == 1
    taken = [line["step"] for line in lines(first.metrics) if "loss" in line]
    assert taken[len(before) :] == list(range(resumed[0] + 1, 17)), "only what the checkpoint lacked is done again"
    evaluations = [line for line in lines(second.metrics) if "eval_loss" in line]
    assert evaluations[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert evaluations[-1]["eval_rewards/accuracies"] >= 0.9


def test_a_stage_whose_first_stage_failed_says_what_to_resume(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, demonstrations: Path
) -> None:
    from dpo_tui.train.run_training import run_training

    sft = write(tmp_path / "sft.toml", strategy="sft", model_name=str(tiny_model), dataset=str(demonstrations))
    dpo = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs))
    first, second = create_stages(prepare_stages([load(sft), load(dpo)]))
    assert settings(first)["merge_at_end"] is True
    state = read_state(first)
    assert state is not None
    write_state(first, type(state)(**{**vars(state), "status": "failed", "reason": "out of memory"}))
    config = load(second.config).config
    with pytest.raises(TrainingError, match="has left no model: it is failed") as caught:
        run_training(config, second, Journal(second), StopRequests(second))
    assert f"dpo-tui resume {first.id}" in (caught.value.hint or "")


def test_a_run_that_is_done_can_be_gone_on_from(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path, demonstrations: Path
) -> None:
    """``run:ID`` merges the adapter once, in a child, and names the merged folder."""
    from dpo_tui.train.run_training import run_training

    sft = write(
        tmp_path / "sft.toml", strategy="sft", model_name=str(tiny_model), dataset=str(demonstrations), max_steps=1
    )
    (first,) = create_stages(prepare_stages([load(sft)]))
    run_training(load(first.config).config, first, Journal(first), StopRequests(first))
    assert not first.merged.exists()
    dpo = write(tmp_path / "dpo.toml", model_name=f"run:{first.id}", dataset=str(tiny_pairs))
    (stage,) = prepare_stages([load(dpo)])
    assert stage.config.model_name == str(first.merged)
    made = (first.merged / "model.safetensors").stat().st_mtime
    time.sleep(0.01)
    assert model_of(f"run:{first.id[:-1]}") == str(first.merged)
    assert (first.merged / "model.safetensors").stat().st_mtime == made


def test_what_cannot_be_gone_on_from_is_refused_before_anything_starts(
    home: Path, tmp_path: Path, tiny_pairs: Path
) -> None:
    first = write(tmp_path / "dpo.toml", model_name="previous", dataset=str(tiny_pairs))
    with pytest.raises(UsageError, match="no config before this one"):
        prepare_stages([load(first)])
    with pytest.raises(RunNotFoundError):
        prepare_stages([load(write(tmp_path / "a.toml", model_name="run:nothing", dataset=str(tiny_pairs)))])
    folder = store.create("", name="new", devices=[])
    with pytest.raises(RunError, match="no result to go on from"):
        prepare_stages([load(write(tmp_path / "b.toml", model_name=f"run:{folder.id}", dataset=str(tiny_pairs)))])
    assert [run.id for run in store.all_runs()] == [folder.id]
