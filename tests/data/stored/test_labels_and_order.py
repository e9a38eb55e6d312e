"""Labels, copies and the order of stored answers are found on columns, and are those of rows in memory."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from dpo_tui.data.label_balance import LabelBalance
from dpo_tui.data.load_labelled import load_labelled, require_both_labels
from dpo_tui.data.pairs.hold_out_by_prompt import prompt_key
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.spread_by_prompt import spread_order
from dpo_tui.data.source.source import Source
from dpo_tui.data.stored import reading_cache
from dpo_tui.data.stored.spread import spread_places
from dpo_tui.data.stored.stored_rows import StoredRows
from dpo_tui.errors import DataError

pytestmark = pytest.mark.usefixtures("home")


def answers(path: Path, seed: int, count: int = 300) -> Path:
    """Answers with copies, and with both labels for some; without seed all to different prompts."""
    chance = random.Random(seed)
    rows = [
        {
            "prompt": f"p {chance.randrange(60) if seed else number}",
            "completion": f"a {chance.randrange(3)}",
            "label": chance.random() < 0.6,
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_counted_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    source = Source(str(answers(tmp_path / "rows.jsonl", seed)))
    in_memory = load_labelled(source).rows
    monkeypatch.setattr(reading_cache, "LARGE_BYTES", 0)
    stored = load_labelled(source).rows
    assert isinstance(stored, StoredRows)
    found = LabelBalance.of(stored, 7)
    assert found == LabelBalance.of(in_memory)
    assert bool(found.repeated and found.conflicting) == bool(seed)
    some = np.arange(0, len(stored), 3)
    assert LabelBalance.of(stored.select(some), 7) == LabelBalance.of([in_memory[at] for at in some.tolist()])
    one_label = [row for row in in_memory if row.desirable]
    with pytest.raises(DataError, match="are labelled desirable"):
        require_both_labels("d", stored.where(stored.labels))
    assert list(stored.where(stored.labels)) == one_label


@pytest.mark.parametrize("prompts", [1, 7, 50, 1000])
def test_an_array_of_keys_is_spread_as_prompts_are(prompts: int) -> None:
    for seed in range(5):
        chance = random.Random(seed)
        content = [f"p {chance.randrange(prompts)}" for _ in range(chance.randrange(1, 200))]
        rows = [LabelledAnswer(at, [{"role": "user", "content": one}], [], True) for at, one in enumerate(content)]
        keys = np.frombuffer(b"".join(prompt_key(row.prompt, seed) for row in rows), dtype="V16")
        assert spread_places(keys).tolist() == spread_order(rows, seed)
    assert spread_places(np.zeros(0, dtype="V16")).tolist() == []
