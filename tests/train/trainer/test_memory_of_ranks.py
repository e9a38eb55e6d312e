"""The peak memory that a run of several GPUs logs is that of the fullest, and each process reports its own."""

import json
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from dpo_tui.runs import store
from dpo_tui.runs.ranks import Rank, read_reports
from dpo_tui.train.trainer import callbacks
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


def test_of_several_gpus_the_fullest_is_logged_and_each_process_reports_its_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.create("", name="two", devices=[], ranks=2)
    journal = Journal(folder, Rank(0, 0, 2))
    callback = RunCallback(journal, StopRequests(folder), 1)
    monkeypatch.setattr(callbacks, "peak_memory_gb", lambda: 11.004)
    monkeypatch.setattr(callbacks, "values_of_ranks", lambda own: [own, 19.5])
    args, state, control = TrainingArguments(output_dir=str(tmp_path)), TrainerState(max_steps=2), TrainerControl()
    state.global_step = 1
    callback.on_step_begin(args, state, control)
    callback._step_seconds.append(0.1)
    callback.on_log(args, state, control, {"loss": 0.5, "num_tokens": 10.0})
    (line,) = [json.loads(text) for text in folder.metrics.read_text().splitlines()]
    assert line["vram_peak_gb"] == 19.5
    journal.phase("evaluate")
    assert [report.memory_gb for report in read_reports(folder)] == [11.0]
