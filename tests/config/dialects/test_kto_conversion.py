"""KTO files of other tools become strategy kto, with their weights, and lose nothing silently."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dpo_tui.config.files import convert, load
from dpo_tui.config.foreign_files import ConvertedFile

LF = {"model_name_or_path": "m", "stage": "kto", "finetuning_type": "lora", "dataset": "mine"}
AXOLOTL = {"base_model": "m", "rl": "kto", "micro_batch_size": 4, "datasets": [{"path": "org/answers"}]}
SWIFT = {"model": "m", "rlhf_type": "kto", "dataset": ["d"], "per_device_train_batch_size": 4}
TRL = {"model_name_or_path": "m", "dataset_name": "d"}


def converted(folder: Path, raw: dict[str, Any]) -> ConvertedFile:
    path = folder / "foreign.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return convert(path)


@pytest.mark.parametrize(
    ("raw", "weights"),
    [
        (LF | {"kto_chosen_weight": 1.2, "kto_rejected_weight": 0.9}, (1.2, 0.9)),
        (AXOLOTL | {"kto_desirable_weight": 0.2, "kto_undesirable_weight": 1.0}, (0.2, 1.0)),
        (SWIFT | {"desirable_weight": 1.5, "undesirable_weight": "1.1"}, (1.5, 1.1)),
        (TRL | {"desirable_weight": 1.3}, (1.3, 1.0)),
        (TRL | {"loss_type": "kto"}, (1.0, 1.0)),
    ],
    ids=["LLaMA-Factory", "Axolotl", "ms-swift", "TRL", "TRL by its loss"],
)
def test_the_method_and_its_weights_are_taken(
    tmp_path: Path, raw: dict[str, Any], weights: tuple[float, float]
) -> None:
    result = converted(tmp_path, raw)
    assert result.undecided == ()
    assert result.config.strategy == "kto"
    assert (result.config.desirable_weight, result.config.undesirable_weight) == weights
    assert load(tmp_path / "foreign.yaml").config == result.config


@pytest.mark.parametrize(
    "raw",
    [LF | {"pref_loss": "sigmoid", "pref_ftx": 0}, SWIFT | {"loss_type": "kto"}, TRL | {"loss_type": "kto"}],
    ids=["LLaMA-Factory", "ms-swift", "TRL"],
)
def test_the_loss_of_kto_is_its_own(tmp_path: Path, raw: dict[str, Any]) -> None:
    result = converted(tmp_path, raw)
    assert result.undecided == ()
    assert result.config.loss_type == ["sigmoid"], "the default, which KTO does not read"


def test_the_other_loss_of_trl_s_trainer_is_passed_on(tmp_path: Path) -> None:
    result = converted(tmp_path, TRL | {"loss_type": "apo_zero_unpaired"})
    assert result.config.strategy == "kto"
    assert result.config.trl == {"loss_type": "apo_zero_unpaired"}


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (LF | {"pref_ftx": 0.1}, "pref_ftx"),
        (AXOLOTL | {"rpo_alpha": 0.1}, "rpo_alpha"),
        (SWIFT | {"rpo_alpha": 1}, "rpo_alpha"),
    ],
)
def test_a_loss_on_good_answers_beside_it_needs_a_decision(tmp_path: Path, raw: dict[str, Any], key: str) -> None:
    result = converted(tmp_path, raw)
    assert [row.key for row in result.undecided] == [key]
    assert "which TRL does not have" in result.undecided[0].why


def test_the_tag_of_llama_factory_s_data_names_the_label(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text(
        '{"mine": {"file_name": "a.json", "columns": {"messages": "messages", "kto_tag": "ok"}}}'
    )
    assert converted(tmp_path, LF).config.label_field == "ok"


def test_a_batch_of_one_which_ms_swift_fills_in_needs_a_decision(tmp_path: Path) -> None:
    result = converted(tmp_path, {key: value for key, value in SWIFT.items() if not key.startswith("per_device")})
    assert [(row.key, row.value) for row in result.undecided] == [("per_device_train_batch_size", 1)]


def test_a_dpo_file_of_trl_stays_one(tmp_path: Path) -> None:
    assert converted(tmp_path, TRL | {"loss_type": ["sigmoid", "sft"], "beta": 0.2}).config.strategy == "dpo"
