"""A run that is stopped in mid-epoch and resumed trains on the rows of the undisturbed run, in its order."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.training import lines, make_config, make_run, train

ROWS, HELD_OUT, MICRO_BATCH = 32, 8, 2
STEPS_AN_EPOCH = (ROWS - HELD_OUT) // MICRO_BATCH

Row = tuple[int, ...]
"""The token ids of a training row, without padding: no two rows here have the same."""


class StopAfter(StopRequests):
    """Someone asks for a stop while the step after this one runs."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        super().__init__(folder)
        self.metrics, self.step = folder.metrics, step

    def stop_wanted(self) -> bool:
        return self.metrics.exists() and lines(self.metrics)[-1]["step"] == self.step


def trained_rows(
    config: Config, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...] = ()
) -> dict[int, tuple[Row, ...]]:
    """Train with a resume after each stop; return the rows of each step."""
    from transformers import Trainer

    seen: dict[int, tuple[Row, ...]] = {}
    step = Trainer.training_step

    def record(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
        rows = [tuple(ids[mask].tolist()) for ids, mask in found]
        seen[self.state.global_step + 1] = tuple(rows[:MICRO_BATCH])  # TRL puts all chosen sequences first
        return step(self, model, inputs, *args, **kwargs)

    folder = make_run(config)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", record)
        for stop in stops:
            with pytest.raises(StopRequested):
                train(config, folder, StopAfter(folder, stop))
        train(config, folder)
    return seen


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped by length", "shuffled"])
@pytest.mark.parametrize("strategy", ["dpo", "sft"])
def test_each_epoch_trains_on_each_row_once_with_evaluations_and_resumes_in_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, grouped: bool
) -> None:
    data = tmp_path / "rows.jsonl"
    answers = [" ".join(["no"] * count) for count in random.Random(5).sample(range(2, 2 + ROWS), ROWS)]
    pairs = [{"prompt": f"Say {n}", "chosen": answer, "rejected": "yes"} for n, answer in enumerate(answers)]
    turns = [
        {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(answers)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in (pairs if strategy == "dpo" else turns)))
    config = make_config(
        tiny_model,
        data,
        strategy=strategy,
        group_by_length=grouped,
        per_device_train_batch_size=MICRO_BATCH,
        eval_split=HELD_OUT / ROWS,
        eval_steps=3,
        max_steps=2 * STEPS_AN_EPOCH,
        save_steps=100,
        share_prefix="off",
        kl_prompts=2,
        kl_max_new_tokens=4,
    )
    whole = trained_rows(config, monkeypatch)
    resumed = trained_rows(config, monkeypatch, stops=(4, STEPS_AN_EPOCH + 4))
    for rows in (whole, resumed):
        for epoch in range(2):
            steps = range(epoch * STEPS_AN_EPOCH + 1, (epoch + 1) * STEPS_AN_EPOCH + 1)
            times = Counter(row for step in steps for row in rows[step])
            assert len(times) == ROWS - HELD_OUT and set(times.values()) == {1}
    assert resumed == whole
    assert [whole[step] for step in range(1, STEPS_AN_EPOCH + 1)] != [
        whole[step] for step in range(STEPS_AN_EPOCH + 1, 2 * STEPS_AN_EPOCH + 1)
    ], "every epoch has an order of its own"
