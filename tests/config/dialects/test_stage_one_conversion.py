"""Files of other tools: packing and trained tokens of stage one, epochs, 8-bit weights, references, NEFTune."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dpo_tui.config.files import convert, load
from dpo_tui.config.foreign_files import ConvertedFile
from dpo_tui.config.passthrough import passthrough_problems

LF = {"model_name_or_path": "m", "finetuning_type": "lora", "dataset": "mine"}
AXOLOTL = {"base_model": "m", "micro_batch_size": 4, "datasets": [{"path": "org/chats"}], "adapter": "lora"}
SWIFT = {"model": "m", "train_type": "lora", "dataset": ["d"], "per_device_train_batch_size": 4}
TRL = {"model_name_or_path": "m", "dataset_name": "d", "use_peft": True}
DPO = [LF | {"stage": "dpo"}, AXOLOTL | {"rl": "dpo"}, SWIFT | {"rlhf_type": "dpo"}, TRL]
SFT = [LF | {"stage": "sft"}, AXOLOTL, SWIFT, TRL | {"packing": False}]
TOOLS = ["LLaMA-Factory", "Axolotl", "ms-swift", "TRL"]


def converted(folder: Path, raw: dict[str, Any]) -> ConvertedFile:
    """The file, converted; it also loads as it is, without a key to decide and with arguments that libraries take."""
    path = folder / "foreign.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    result = convert(path)
    assert result.undecided == (), result.undecided
    assert load(path).config == result.config
    assert passthrough_problems(result.config) == []
    assert {row.key.partition(".")[0] for row in result.outcomes} >= raw.keys()
    return result


def fate(result: ConvertedFile, key: str) -> str:
    (row,) = (row for row in result.outcomes if row.key == key)
    return row.why


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        (LF | {"stage": "sft"}, {"packing": True}),
        ({"neat_packing": True} | LF | {"stage": "sft"}, {"packing": "true"}),
        (AXOLOTL, {"sample_packing": True}),
        (SWIFT, {"packing": True}),
        (TRL, {"packing": True, "packing_strategy": "bfd_split"}),
    ],
    ids=["LLaMA-Factory", "neat", "Axolotl", "ms-swift", "TRL"],
)
def test_packing_is_taken_in_stage_one(tmp_path: Path, raw: dict[str, Any], keys: dict[str, Any]) -> None:
    """Also where the key that says which stage it is comes later in the file."""
    result = converted(tmp_path, {**keys, **raw})
    assert (result.config.strategy, result.config.packing) == ("sft", True)
    if "packing_strategy" in keys:
        assert result.config.trl == {"packing_strategy": "bfd_split"}


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (LF | {"stage": "dpo"}, "packing"),
        (LF | {"stage": "dpo"}, "neat_packing"),
        (AXOLOTL | {"rl": "dpo"}, "sample_packing"),
        (SWIFT | {"rlhf_type": "dpo"}, "packing"),
    ],
)
def test_pairs_are_not_packed_and_the_file_is_told_so(tmp_path: Path, raw: dict[str, Any], key: str) -> None:
    result = converted(tmp_path, raw | {key: True})
    assert (result.config.strategy, result.config.packing) == ("dpo", False)
    assert fate(result, key) == "rows of preference training are not packed"


def test_held_out_rows_are_packed_as_the_file_says(tmp_path: Path) -> None:
    for raw in (
        AXOLOTL | {"eval_sample_packing": False},
        SWIFT | {"eval_packing": False},
        TRL | {"eval_packing": False},
    ):
        assert converted(tmp_path, raw).config.trl == {"eval_packing": False}


ANSWERS, LAST, EVERYTHING = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("raw", "trained"),
    [
        (LF | {"stage": "sft"}, ANSWERS),
        (LF | {"stage": "sft", "train_on_prompt": False, "mask_history": False}, ANSWERS),
        (LF | {"stage": "sft", "mask_history": True}, LAST),
        (LF | {"stage": "sft", "train_on_prompt": True}, EVERYTHING),
        (AXOLOTL, ANSWERS),
        (AXOLOTL | {"train_on_inputs": True}, EVERYTHING),
        (AXOLOTL | {"datasets": [{"path": "org/text", "type": "completion"}]}, EVERYTHING),
        (SWIFT, ANSWERS),
        (SWIFT | {"loss_scale": "default"}, ANSWERS),
        (SWIFT | {"loss_scale": "last_round"}, LAST),
        (SWIFT | {"loss_scale": "all"}, EVERYTHING),
        (TRL | {"assistant_only_loss": True}, ANSWERS),
        (TRL | {"completion_only_loss": True}, LAST),
    ],
)
def test_the_tokens_that_the_other_tool_trains_are_trained(
    tmp_path: Path, raw: dict[str, Any], trained: tuple[bool, bool]
) -> None:
    """LLaMA-Factory, Axolotl and ms-swift train answers alone unless the file says otherwise."""
    config = converted(tmp_path, raw).config
    assert (config.strategy, config.assistant_only_loss, config.completion_only_loss) == ("sft", *trained)


def test_a_file_of_trl_sft_has_the_rate_of_sft(tmp_path: Path) -> None:
    assert converted(tmp_path, TRL | {"packing": True}).config.learning_rate == 2e-5
    assert converted(tmp_path, TRL).config.learning_rate == 1e-6


@pytest.mark.parametrize("raw", [*DPO, *SFT], ids=[*TOOLS, *(f"{tool} stage one" for tool in TOOLS)])
def test_evaluating_and_saving_by_epoch_are_settings(tmp_path: Path, raw: dict[str, Any]) -> None:
    """The steps beside them are read by neither tool, and the other tool's default for them is not filled in."""
    held_out = {"eval_split": 0.1} if "dataset_name" in raw else {}
    held_out |= {"val_size": 0.1} if "finetuning_type" in raw else {}
    held_out |= {"val_set_size": 0.1} if "base_model" in raw else {}
    held_out |= {"split_dataset_ratio": 0.1} if "model" in raw else {}
    keys = {"eval_strategy": "epoch", "eval_steps": 50, "save_strategy": "epoch", "save_steps": 70}
    result = converted(tmp_path, raw | held_out | keys)
    config = result.config
    assert (config.eval_strategy, config.eval_steps) == ("epoch", None)
    assert (config.save_strategy, config.save_steps) == ("epoch", 100)
    assert fate(result, "save_steps") == "is not read with save_strategy: epoch"


@pytest.mark.parametrize("raw", DPO[:3], ids=TOOLS[:3])
def test_without_held_out_rows_there_is_nothing_to_evaluate_by_epoch(tmp_path: Path, raw: dict[str, Any]) -> None:
    result = converted(tmp_path, raw | {"eval_strategy": "epoch"})
    assert result.config.eval_strategy == "steps"
    assert "nothing is held out" in fate(result, "eval_strategy")


def test_once_an_epoch_in_axolotl_s_words(tmp_path: Path) -> None:
    keys = {"evals_per_epoch": 1, "saves_per_epoch": 1, "val_set_size": 0.1}
    config = converted(tmp_path, AXOLOTL | keys).config
    assert (config.eval_strategy, config.save_strategy) == ("epoch", "epoch")
    more = converted(tmp_path, AXOLOTL | {"evals_per_epoch": 4, "saves_per_epoch": 2})
    assert (more.config.eval_strategy, more.config.save_strategy) == ("steps", "steps")
    assert fate(more, "saves_per_epoch") == "checkpoints follow save_steps"


@pytest.mark.parametrize("raw", [*DPO, *SFT], ids=[*TOOLS, *(f"{tool} stage one" for tool in TOOLS)])
def test_checkpoints_of_weights_and_noise_are_taken(tmp_path: Path, raw: dict[str, Any]) -> None:
    config = converted(tmp_path, raw | {"save_only_model": True, "neftune_noise_alpha": 5}).config
    assert config.save_only_model
    assert config.trl["neftune_noise_alpha"] == 5


def test_the_older_name_of_the_noise_in_axolotl(tmp_path: Path) -> None:
    assert converted(tmp_path, AXOLOTL | {"noisy_embedding_alpha": 7}).config.trl == {"neftune_noise_alpha": 7}


@pytest.mark.parametrize(
    ("raw", "keys"),
    [
        (DPO[0], {"quantization_bit": 8}),
        (DPO[0], {"quantization_bit": 8, "quantization_method": "bnb"}),
        (DPO[1], {"load_in_8bit": True, "load_in_4bit": False}),
        (DPO[2], {"quant_bits": 8, "quant_method": "bnb"}),
        (DPO[3], {"load_in_8bit": True}),
    ],
)
def test_8_bit_weights_become_a_table_of_model_init(tmp_path: Path, raw: dict[str, Any], keys: dict[str, Any]) -> None:
    config = converted(tmp_path, raw | keys).config
    assert config.model_init == {"quantization_config": {"load_in_8bit": True}}
    assert (config.use_4bit, config.use_lora) == (False, True)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (DPO[0] | {"quantization_method": "hqq"}, "quantization_bit"),
        (DPO[2] | {"quant_method": "hqq"}, "quant_bits"),
    ],
)
def test_8_bits_of_another_kind_need_a_decision(tmp_path: Path, raw: dict[str, Any], key: str) -> None:
    path = tmp_path / "foreign.yaml"
    path.write_text(yaml.safe_dump(raw | {key: 8}))
    assert key in [row.key for row in convert(path).undecided]


@pytest.mark.parametrize("raw", [DPO[0], DPO[2]], ids=["LLaMA-Factory", "ms-swift"])
def test_another_reference_is_taken(tmp_path: Path, raw: dict[str, Any]) -> None:
    assert converted(tmp_path, raw | {"ref_model": "org/other"}).config.ref_model == "org/other"
