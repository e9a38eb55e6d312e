"""What is said of each save and of the result, on weights of a few numbers instead of a training."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dpo_tui.config.files import from_values
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.liveness import liveness_of, product_norm
from dpo_tui.train.export.save_check import SaveCheck
from dpo_tui.train.export.stored_tensors import StoredTensors, blocks
from dpo_tui.train.worker.journal import Journal
from tests.support.training import lines

HEAD = "base_model.model.lm_head.weight"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter(folder: Path, *, b: float = 1.0, head: torch.Tensor | None = None, **settings: Any) -> Path:
    """An adapter of rank 2 on one layer of width 4, whose B is this number everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4} | settings))
    weights = {f"{LAYER}.lora_A.weight": torch.ones(2, 4), f"{LAYER}.lora_B.weight": torch.full((4, 2), b)}
    save_file(weights | ({} if head is None else {HEAD: head}), folder / "adapter_model.safetensors")
    return folder


def base(folder: Path, **weights: torch.Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name.replace("__", "."): weight for name, weight in weights.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def check_of(run: RunFolder, model: Path | str = "no/such-model") -> SaveCheck:
    return SaveCheck(from_values({"model_name": str(model), "dataset": "d"}), Journal(run))


def said(run: RunFolder) -> list[tuple[str, str | None, int | None]]:
    if not run.events.exists():
        return []
    return [(event["kind"], event.get("rule"), event.get("step")) for event in lines(run.events)]


def test_a_checkpoint_that_has_not_changed_is_named_with_its_step_once_something_must_have(run: RunFolder) -> None:
    checkpoint = adapter(run.checkpoints / "checkpoint-40", b=0.0)
    check_of(run).check_checkpoint(checkpoint, 0.0)
    assert said(run) == [], "no step had a rate above zero"
    check_of(run).check_checkpoint(checkpoint, 1e-9)
    assert said(run) == [("warning", "dead-checkpoint", 40)]
    assert "The checkpoint of step 40 is dead: nothing has changed since the start" in lines(run.events)[0]["message"]


def test_a_checkpoint_that_is_alive_needs_no_word_and_one_that_cannot_be_read_ends_no_training(run: RunFolder) -> None:
    checkpoint = adapter(run.checkpoints / "checkpoint-2")
    check_of(run).check_checkpoint(checkpoint, 1.0)
    assert said(run) == []
    (checkpoint / "adapter_model.safetensors").write_bytes(b"torn")
    check_of(run).check_checkpoint(checkpoint, 1.0)
    assert said(run) == [("warning", "dead-checkpoint", 2)]
    assert "cannot be read" in lines(run.events)[0]["message"]


def test_a_checkpoint_in_shards_of_several_processes_is_no_model_to_read(run: RunFolder) -> None:
    checkpoint = run.checkpoints / "checkpoint-2"
    (checkpoint / "pytorch_model_fsdp_0").mkdir(parents=True)
    check_of(run).check_checkpoint(checkpoint, 1.0)
    check_of(run).check_result(checkpoint, 1.0)
    assert said(run) == []


def test_a_result_is_refused_if_it_is_dead_and_described_if_it_is_alive(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"The result is dead: nothing has changed .* It is not kept") as refused:
        check_of(run).check_result(adapter(tmp_path / "dead", b=0.0), 1.0)
    assert "learning_rate" in (refused.value.hint or "")
    check_of(run).check_result(adapter(tmp_path / "alive"), 1.0)
    assert said(run) == [("note", None, None)]
    # s·B·A with s = 4 / 2, and 2 in every one of the 16 entries of B·A.
    assert "the LoRA matrices of 1 layers have changed by a norm of 16; no NaN" in lines(run.events)[0]["message"]
    check_of(run).check_result(adapter(tmp_path / "untrained", b=0.0), 0.0)
    assert said(run)[1:] == [("warning", "untrained-result", None)]


def test_a_doubt_is_said_once_though_its_figures_change(run: RunFolder, tmp_path: Path) -> None:
    start = torch.ones(10, 10, dtype=torch.bfloat16)
    model = base(tmp_path / "base", lm_head__weight=start)
    check = check_of(run, model)
    for step in (1, 2, 3):
        head = start.clone()
        head[0, :step] += 1
        check.check_checkpoint(adapter(run.checkpoints / f"checkpoint-{step}", head=head), 1.0)
    assert said(run) == [("warning", "unchanged-weights", None)]
    assert lines(run.events)[0]["message"].startswith("Only 1.0% of the weights of lm_head, trained whole, have")
    assert liveness_of(run.checkpoints / "checkpoint-1", model).doubts(trained=False) == []
    check_of(run, model).check_result(run.checkpoints / "checkpoint-3", 1.0)
    assert said(run)[1:] == [("warning", "unchanged-weights", None), ("note", None, None)], "of the result too"


@pytest.mark.parametrize(
    ("settings", "norm"),
    [({}, 16.0), ({"use_rslora": True}, 8 * 4 / math.sqrt(2)), ({"lora_alpha": 16}, 64.0), ({"r": 4}, 8.0)],
)
def test_the_change_is_scaled_as_the_adapter_says(tmp_path: Path, settings: dict[str, Any], norm: float) -> None:
    found = liveness_of(adapter(tmp_path / "adapter", **settings), None)
    assert found.parts[0].norm == pytest.approx(norm)


@pytest.mark.parametrize("start", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_trained_whole_is_compared_with_the_base_in_the_dtype_that_it_was_held_in(
    tmp_path: Path, start: torch.dtype
) -> None:
    torch.manual_seed(0)
    weights = torch.randn(8, 8)
    model = base(tmp_path / "base", lm_head__weight=weights)
    same = liveness_of(adapter(tmp_path / "same", head=weights.to(start).float()), model)
    assert same.parts[1].norm == 0 and same.parts[1].share == 0
    moved = weights.to(start).float()
    moved[0, 0] += 3
    changed = liveness_of(adapter(tmp_path / "changed", head=moved), model)
    assert changed.parts[1].norm == pytest.approx(3.0) and changed.parts[1].share == pytest.approx(1 / 64)
    assert not changed.parts[1].half


def test_a_model_is_told_from_its_base_by_every_tensor(tmp_path: Path) -> None:
    first, second = torch.arange(8.0).reshape(2, 4), torch.ones(3)
    model = base(tmp_path / "base", first__weight=first, second__weight=second)
    found = liveness_of(base(tmp_path / "now", first__weight=first + 1, second__weight=second), model)
    assert found.parts[0].norm == pytest.approx(math.sqrt(8)) and found.parts[0].share == pytest.approx(8 / 11)
    everything = liveness_of(tmp_path / "now", model, whole=True)
    assert everything.parts[0].norm == pytest.approx(math.sqrt(8)) and everything.parts[0].share == pytest.approx(
        8 / 11
    )
    nan = second.clone()
    nan[1] = math.nan
    dead = liveness_of(base(tmp_path / "nan", first__weight=first, second__weight=nan), model, whole=True)
    assert dead.not_finite == ("second.weight",)
    assert dead.problem(trained=False) == "1 of its tensors hold NaN or infinity (second.weight)"
    other = liveness_of(base(tmp_path / "other", third__weight=second), model)
    assert not other.parts and not other.problem() and "could not be compared" in other.doubts()[0]


def test_the_norm_of_a_product_of_what_is_no_number_or_empty_is_none() -> None:
    assert product_norm(torch.full((2, 2), math.inf), torch.ones(2, 2)) == 0
    assert product_norm(torch.ones(2, 0), torch.ones(0, 2)) == 0
    assert product_norm(torch.full((3, 1), 1e30), torch.full((1, 3), 1e-30)) == pytest.approx(3.0), "no overflow"


@pytest.mark.parametrize("shape", [(), (5,), (7, 3), (70_000,), (300, 4000), (3, 2000, 3000), (2, 9_000_000)])
@pytest.mark.parametrize("whole", [True, False])
def test_blocks_are_bounded_and_cover_all_of_a_tensor_where_all_is_asked_for(
    shape: tuple[int, ...], whole: bool
) -> None:
    found = list(blocks(shape, whole=whole))
    sizes = [torch.empty(shape, device="meta")[block].numel() for block in found]
    assert max(sizes) <= (1 << 22 if whole else 3 << 14)
    if whole or math.prod(shape) <= 3 << 14:
        assert sum(sizes) == math.prod(shape) and len(set(map(str, found))) == len(found)
    else:
        assert 2 <= len(found) <= 3
        first, last = found[0][0], found[-1][0]
        assert (first.start, last.stop) == (0, shape[0]), "its beginning and its end"


def test_a_name_with_another_beginning_is_the_same_tensor_only_if_its_shape_is(tmp_path: Path) -> None:
    stored = StoredTensors(
        base(tmp_path, model__a__weight=torch.zeros(2, 3), x__b__weight=torch.zeros(2), y__b__weight=torch.zeros(2))
    )
    assert stored.counterpart("model.a.weight", (2, 3)) == "model.a.weight"
    assert stored.counterpart("a.weight", (2, 3)) == "model.a.weight"
    assert stored.counterpart("base.model.a.weight", (2, 3)) == "model.a.weight"
    assert stored.counterpart("model.a.weight", (3, 2)) is None
    assert stored.counterpart("b.weight", (2,)) is None, "one of two"
    assert stored.counterpart("c.weight", (2,)) is None


def without_a_shard(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')


def with_a_torn_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ')


def with_an_index_of_another_form(folder: Path) -> None:
    (folder / "pytorch_model.bin.index.json").write_text("[]")


def with_a_torn_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10")


def with_a_pickle_of_code(folder: Path) -> None:
    torch.save({"a": Path}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without_a_shard, "one.safetensors, which model.safetensors.index.json names, is not there"),
        (with_a_torn_index, "model.safetensors.index.json: cannot be read: Expecting value"),
        (with_an_index_of_another_form, "pytorch_model.bin.index.json: cannot be read: "),
        (with_a_torn_file, "model.safetensors: cannot be read: "),
        (with_a_pickle_of_code, "pytorch_model.bin: cannot be read: "),
        (lambda folder: None, "holds no weights, neither of a model nor of an adapter"),
    ],
)
def test_weights_that_cannot_be_read_are_named_with_what_to_do(tmp_path: Path, harm: Any, message: str) -> None:
    harm(tmp_path)
    with pytest.raises(TrainingError, match=re.escape(message)) as found:
        StoredTensors(tmp_path)
    assert found.value.hint == "copy the folder here again, or use another checkpoint"


def test_an_adapter_is_read_before_a_model_beside_it_and_safetensors_before_pickles(tmp_path: Path) -> None:
    torch.save({"pickled": torch.arange(6.0).reshape(2, 3)}, tmp_path / "pytorch_model.bin")
    stored = StoredTensors(tmp_path)
    assert (stored.names, stored.shape("pickled")) == (("pickled",), (2, 3))
    assert torch.equal(stored.read("pickled"), torch.arange(6.0).reshape(2, 3))
    assert torch.equal(stored.read("pickled", (slice(1, 2), slice(0, 2))), torch.tensor([[3.0, 4.0]]))
    save_file({"model": torch.ones(2)}, tmp_path / "model.safetensors")
    assert StoredTensors(tmp_path).names == ("model",)
    save_file({"adapter": torch.arange(4.0)}, tmp_path / "adapter_model.safetensors")
    stored = StoredTensors(tmp_path)
    assert stored.names == ("adapter",)
    assert torch.equal(stored.read("adapter"), torch.arange(4.0))
    assert torch.equal(stored.read("adapter", (slice(1, 3),)), torch.tensor([1.0, 2.0]))
    assert torch.equal(stored.read("adapter", ()), torch.arange(4.0))


def test_three_blocks_stand_for_a_large_tensor() -> None:
    """Its beginning, its middle and its end; of rows that are too large themselves, the beginning of each."""
    rows = (1 << 14) // 100
    starts = [block[0].start for block in blocks((10_000, 100), whole=False)]
    assert starts == [0, (10_000 - rows) // 2, 10_000 - rows]
    experts = list(blocks((8, 3000, 50), whole=False))
    assert [block[0] for block in experts] == [slice(0, 1), slice(3, 4), slice(7, 8)]
    assert [block[1] for block in experts] == [slice(0, (1 << 14) // 50)] * 3
