"""The reference scored once: when it pays, that the scores are kept, and that nothing doubtful is ever used."""

import json
import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.train.shortcuts import reference_cache
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests
from tests.support.training import lines, losses, make_config, make_run, train

ROWS = [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}]
PARTS = {"weights": "w", "lengths": [1024, "keep_start", None]}
COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
NAMES = ("ref_chosen_logps", "ref_rejected_logps")
SCORES = dict(zip(NAMES, ([-1.5, -2.0], [-3.0, -4.25]), strict=True))


def key_of(parts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    return reference_cache.key_of(parts, rows, COLUMNS)


def quick(model: Path, pairs: Path, **changes: Any) -> Any:
    values = {"sample_prompts": 0, "kl_prompts": 0, "max_steps": 21, "eval_steps": 100, "save_steps": 1000}
    return make_config(model, pairs, **(values | changes))


def kept(folder: Any) -> dict[str, bool]:
    found: dict[str, bool] = json.loads(folder.receipt.read_text())["shortcuts"]["reference_once"]["kept_from_before"]
    return found


def test_the_next_run_takes_the_scores_from_the_last_one(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another β or rate starts at once, with the losses that it would have had anyway."""
    first = train(quick(tiny_model, tiny_pairs))
    assert kept(first) == {"train": False, "eval": False}
    second = train(quick(tiny_model, tiny_pairs, beta=0.3, learning_rate=5e-4))
    assert kept(second) == {"train": True, "eval": True}
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "another-home"))
    fresh = train(quick(tiny_model, tiny_pairs, beta=0.3, learning_rate=5e-4))
    assert kept(fresh) == {"train": False, "eval": False}
    assert losses(second) == pytest.approx(losses(fresh), abs=1e-6)


def test_other_weights_get_scores_of_their_own(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    train(quick(tiny_model, tiny_pairs))
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    assert kept(train(quick(other, tiny_pairs))) == {"train": False, "eval": False}


def test_scoring_is_a_phase_with_progress_and_can_be_stopped(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    config = quick(tiny_model, tiny_pairs)
    folder = make_run(config)
    with pytest.raises(StopRequested):
        train(config, folder, _StopWhileScoring(folder))
    progress = json.loads(folder.progress.read_text())
    assert progress["phase"] == "reference"
    assert (progress["unit"], progress["total"]) == ("pairs", 36)
    assert not list(reference_cache.folder().glob("*.safetensors")), "half the scores are not kept"


class _StopWhileScoring(StopRequests):
    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        self.progress_file = folder.progress

    def stop_wanted(self) -> bool:
        if not self.progress_file.exists():
            return False
        progress = json.loads(self.progress_file.read_text())
        return (progress["phase"], progress["unit"]) == ("reference", "pairs")


@pytest.mark.parametrize(
    ("changes", "pairs", "held_out", "once"),
    [
        ({"num_train_epochs": 3}, 100, 0, True),
        ({"num_train_epochs": 1}, 100, 0, False),
        ({"num_train_epochs": 1}, 100, 10, True),
        ({"num_train_epochs": 3, "max_steps": 5}, 1000, 0, False),
        ({"num_train_epochs": 3, "use_lora": False, "kl_prompts": 0}, 100, 0, True),
        ({"num_train_epochs": 3, "use_lora": False, "kl_prompts": 8}, 100, 0, False),
        ({"num_train_epochs": 3, "use_lora": False, "kl_prompts": 0, "sync_ref_model": True}, 100, 0, False),
        ({"precompute_ref_log_probs": False, "num_train_epochs": 9}, 100, 0, False),
        ({"precompute_ref_log_probs": True, "num_train_epochs": 1}, 100, 0, True),
    ],
)
def test_auto_counts_which_way_scores_fewer_pairs(
    changes: dict[str, Any], pairs: int, held_out: int, once: bool
) -> None:
    from dpo_tui.train.shortcuts.reference_precompute import decide_precompute

    config = from_values({"model_name": "m", "dataset": "d", **changes})
    assert decide_precompute(config, pairs, held_out, resumes=False).on is once


def test_evaluations_are_counted_by_the_steps_that_trainer_takes() -> None:
    """Nine pairs in batches of two make five batches, and two steps of four batches: six steps in three epochs."""
    from dpo_tui.train.shortcuts.reference_precompute import decide_precompute

    values = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "num_train_epochs": 3}
    config = from_values({"model_name": "m", "dataset": "d", "eval_steps": 1, **values})
    assert decide_precompute(config, 9, 2, resumes=True).why == "11 pairs scored instead of 39"


def test_kept_scores_come_back(home: Path) -> None:
    key = key_of(PARTS, ROWS)
    assert reference_cache.load(key, NAMES, 2) is None
    reference_cache.store(key, SCORES)
    assert reference_cache.load(key, NAMES, 2) == SCORES


@pytest.mark.parametrize(
    ("parts", "rows"),
    [
        ({**PARTS, "weights": "v"}, ROWS),
        ({**PARTS, "lengths": [512, "keep_start", None]}, ROWS),
        (PARTS, ROWS * 2),
        (PARTS, [{**ROWS[0], "rejected_ids": [4, 6]}]),
        (PARTS, [{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [2, 4, 5]}]),
    ],
    ids=["weights", "length", "another row", "another token", "another boundary"],
)
def test_the_key_tells_everything_apart(parts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert key_of(parts, rows) != key_of(PARTS, ROWS)


def test_the_order_in_which_a_key_was_put_together_is_not_in_it() -> None:
    assert key_of(dict(reversed(PARTS.items())), ROWS) == key_of(PARTS, ROWS)


def test_kept_scores_are_for_their_owner_alone(home: Path) -> None:
    reference_cache.store("k", SCORES)
    assert stat.S_IMODE(reference_cache.folder().stat().st_mode) == 0o700


CIRCUMSTANCES: dict[str, Any] = {
    "other weights": {"weights": "sha256-of-others"},
    "another model of the hub": {"weights": None, "config": {"model_name": "org/b"}, "commit": "c1"},
    "another commit of the hub": {"weights": None, "commit": "c2"},
    "another architecture": {"architectures": ["Other"]},
    "weights in bfloat16": {"dtype": "bfloat16"},
    "autocast to bfloat16": {"bf16": True},
    "autocast to float16": {"fp16": True},
    "quantised weights": {"config": {"use_4bit": True}},
    "other attention code": {"attention": "eager"},
    "another device": {"device": "cuda"},
    "another length": {"config": {"max_seq_length": 512}},
    "another way to truncate": {"config": {"truncation_mode": "keep_end"}},
    "another weight of the answers' ends": {"config": {"ld_alpha": 0.5}},
    "a setting of the model that was changed when it was loaded": {"model_setting": ("rope_theta", 5e5)},
    "products of matrices in TF32": {"products": "high"},
    "another bitsandbytes": {"config": {"use_4bit": True}, "version": "bitsandbytes"},
    "another torch": {"version": "torch"},
    "another transformers": {"version": "transformers"},
    "another TRL": {"version": "trl"},
}


def real_parts(
    model_folder: Path,
    *,
    weights: str | None = "sha256",
    config: dict[str, Any] | None = None,
    commit: str | None = "c1",
    architectures: list[str] | None = None,
    dtype: str = "float32",
    bf16: bool = False,
    fp16: bool = False,
    attention: str = "sdpa",
    device: str = "cpu",
    version: str | None = None,
    model_setting: tuple[str, Any] | None = None,
    products: str = "highest",
) -> dict[str, Any]:
    """What the worker makes the name of kept scores from under these circumstances."""
    import importlib.metadata

    import torch
    from transformers import AutoModelForCausalLM

    from dpo_tui.train.shortcuts import reference_precompute

    model = AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=getattr(torch, dtype), attn_implementation=attention
    )
    model.config._commit_hash = commit
    if architectures:
        model.config.architectures = architectures
    if model_setting:
        setattr(model.config, *model_setting)
    values = from_values({"model_name": "org/a", "dataset": "d", **(config or {})})
    lengths = {
        "max_length": values.max_seq_length,
        "truncation_mode": values.truncation_mode,
        "ld_alpha": values.ld_alpha,
    }
    trainer = SimpleNamespace(
        model=model,
        args=SimpleNamespace(bf16=bf16, fp16=fp16, **lengths),
        accelerator=SimpleNamespace(device=torch.device(device)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_float32_matmul_precision", lambda: products)
        if version == "bitsandbytes":
            patch.setattr(importlib.metadata, "version", lambda name: "99.0")
        elif version:
            # The module that the code under test holds: another test may have put a fresh one into sys.modules.
            patch.setattr(getattr(reference_precompute, version), "__version__", "99.0")
        parts = reference_precompute.key_parts(values, trainer, weights)
    assert parts is not None
    return parts


def real_key(model_folder: Path, **changes: Any) -> str:
    """The name under which scores are kept when these are the circumstances; the rest of the trainer is the same."""
    return key_of(real_parts(model_folder, **changes), ROWS)


def before_of(changes: dict[str, Any]) -> dict[str, Any]:
    """The circumstances from which these differ in one thing."""
    if changes.get("weights", "") is None:
        return {"weights": None}
    return {"config": changes["config"]} if changes.get("version") == "bitsandbytes" else {}


def leaves(parts: dict[str, Any]) -> dict[str, Any]:
    """Every value that a key is made from, by where it is."""
    found: dict[str, Any] = {}
    for name, value in parts.items():
        found |= (
            {f"{name}[{place}]": item for place, item in enumerate(value)} if isinstance(value, list) else {name: value}
        )
    return found


@pytest.mark.parametrize("changes", CIRCUMSTANCES.values(), ids=CIRCUMSTANCES.keys())
def test_scores_made_under_other_circumstances_are_never_taken(tiny_model: Path, changes: dict[str, Any]) -> None:
    """One circumstance is changed at a time, in what the worker itself makes the name from."""
    before = before_of(changes)
    assert real_key(tiny_model, **before) == real_key(tiny_model, **before)
    assert real_key(tiny_model, **changes) != real_key(tiny_model, **before)


def test_every_part_of_the_name_has_a_circumstance_that_changes_nothing_else(home: Path, tiny_model: Path) -> None:
    """So the test above fails when any one part is left out, one that is added later included."""
    changed = []
    for name, changes in CIRCUMSTANCES.items():
        before, after = (leaves(real_parts(tiny_model, **some)) for some in (before_of(changes), changes))
        places = [place for place in before if before[place] != after[place]]
        if name == "quantised weights":
            places.remove("versions[3]")
        assert len(places) == 1, f"{name} changes {places}"
        changed += places
    assert set(changed) == set(leaves(real_parts(tiny_model)))


def test_where_a_model_lies_is_not_in_the_name(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_model, tmp_path / "copy")
    assert real_key(tiny_model) == real_key(tmp_path / "copy")


def test_scores_of_a_model_that_cannot_be_named_for_certain_are_not_kept(tiny_model: Path) -> None:
    from transformers import AutoConfig

    from dpo_tui.train.shortcuts.reference_precompute import key_parts

    model = SimpleNamespace(config=AutoConfig.from_pretrained(tiny_model))
    assert key_parts(from_values({"model_name": "m", "dataset": "d"}), SimpleNamespace(model=model), None) is None


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _another_score(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def _of_another_key(path: Path) -> None:
    reference_cache.store("0" * 64, SCORES)
    (path.parent / f"{'0' * 64}.safetensors").replace(path)


def _not_a_number(path: Path) -> None:
    reference_cache.store(path.stem, dict(zip(NAMES, ([float("nan"), 1.0], [1.0, 1.0]), strict=True)))


def _of_other_pairs(path: Path) -> None:
    reference_cache.store(path.stem, {name: [1.0] for name in NAMES})


@pytest.mark.parametrize("harm", [_torn, _another_score, _of_another_key, _not_a_number, _of_other_pairs])
def test_doubtful_scores_are_deleted_not_used(home: Path, harm: Any) -> None:
    key = key_of(PARTS, ROWS)
    reference_cache.store(key, SCORES)
    path = reference_cache.folder() / f"{key}.safetensors"
    harm(path)
    assert reference_cache.load(key, NAMES, 2) is None
    assert not path.exists()


def test_the_files_used_longest_ago_make_room(home: Path) -> None:
    keys = [str(number) * 64 for number in range(4)]
    for key in keys[:3]:
        reference_cache.store(key, SCORES)
    one = (reference_cache.folder() / f"{keys[0]}.safetensors").stat().st_size
    for age, key in enumerate(keys[:3]):
        os.utime(reference_cache.folder() / f"{key}.safetensors", (1000 + age, 1000 + age))
    assert reference_cache.load(keys[0], NAMES, 2) == SCORES, "used now, so it is the youngest"
    reference_cache.store(keys[3], SCORES, limit=2 * one)
    left = {path.stem for path in reference_cache.folder().glob("*.safetensors")}
    assert left == {keys[0], keys[3]}


def test_two_runs_may_write_the_same_scores_at_once(home: Path) -> None:
    key = key_of(PARTS, ROWS)
    done = threading.Event()
    found: list[Any] = []

    def write() -> None:
        for _ in range(40):
            reference_cache.store(key, SCORES)

    def read() -> None:
        while not done.is_set():
            if (scores := reference_cache.load(key, NAMES, 2)) is not None:
                found.append(scores)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(2)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert found
    assert all(scores == SCORES for scores in found)
    assert reference_cache.load(key, NAMES, 2) == SCORES
    assert [path.name for path in reference_cache.folder().iterdir()] == [f"{key}.safetensors"]


def test_a_full_disk_costs_the_scores_not_the_run(home: Path) -> None:
    reference_cache.folder().parent.mkdir(parents=True)
    reference_cache.folder().write_text("in the way")
    reference_cache.store("k", SCORES)
    assert reference_cache.load("k", NAMES, 2) is None


def test_weights_are_named_by_what_is_in_them(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"one")
    first = reference_cache.WeightsDigest(str(model)).result()
    assert first is not None
    assert reference_cache.WeightsDigest(str(model)).result() == first
    (model / "model.safetensors").write_bytes(b"two!")
    assert reference_cache.WeightsDigest(str(model)).result() != first
    (model / "adapter_config.json").write_text("{}")
    assert reference_cache.WeightsDigest(str(model)).result() is None, "its base lies elsewhere"
    assert reference_cache.WeightsDigest("some/hub-id").result() is None


def test_weights_that_are_still_being_read_do_not_keep_a_run_from_ending(home: Path, tmp_path: Path) -> None:
    """A pipe that nobody writes to is read for ever, as gigabytes from a slow disk are for minutes."""
    model = tmp_path / "model"
    model.mkdir()
    os.mkfifo(model / "model.safetensors")
    before = set(threading.enumerate())
    reference_cache.WeightsDigest(str(model))
    reading = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.daemon for thread in reading] == [True]
    (model / "model.safetensors").write_bytes(b"")
    reading[0].join()


def test_the_phase_is_announced_once(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = train(quick(tiny_model, tiny_pairs, max_steps=21, eval_split=0.0))
    phases = [event["phase"] for event in lines(folder.events) if event["kind"] == "phase"]
    assert phases.count("reference") == 1
    assert phases.index("load-pairs") < phases.index("reference") < phases.index("train")
