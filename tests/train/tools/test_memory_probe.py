"""The probe's steps on pairs and on labelled answers, on the CPU, where there is no memory of a GPU to measure."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import UsageError
from dpo_tui.train.tools import memory_probe
from dpo_tui.train.tools.memory_probe import probe_config, take_steps
from tests.support.training import make_config, make_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pairs of unlike lengths; KTO takes each as two answers."""
    rows = [
        {"prompt": f"help me {n}", "chosen": f"open the settings {'page ' * n}", "rejected": "no"} for n in range(1, 30)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("strategy", ["dpo", "kto"])
def test_two_steps_are_taken_on_the_longest_rows(tiny_model: Path, data: Path, strategy: str) -> None:
    """Sixteen rows of the data's longest, two to a micro-batch; TRL drops none of them."""
    config = make_config(tiny_model, data, strategy=strategy, per_device_train_batch_size=2, kl_prompts=0)
    found = take_steps(probe_config(config), make_run(config))
    assert found["pairs"] == 16
    assert 24 < found["longest"] <= config.max_seq_length
    assert found["step_seconds"] > 0 and found["taken"] is None


def test_demonstrations_have_no_probe(tiny_model: Path, data: Path) -> None:
    config: Any = make_config(tiny_model, data, strategy="sft")
    with pytest.raises(UsageError, match="on pairs or labelled answers; strategy = sft trains on demonstrations"):
        memory_probe._require_probe(config)
