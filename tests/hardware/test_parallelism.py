"""DDP or FSDP2 for the GPUs that a config asks for: the choice by fit, and why."""

from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.parallelism import with_chosen_parallelism

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def config(**values: Any) -> Config:
    return from_values({"model_name": MODEL, "dataset": "-", "gpus": "auto", "gpu_count": 4, **values})


@pytest.mark.parametrize(
    ("values", "gigabytes", "chosen", "said"),
    [
        ({}, 80, "auto", "4 GPUs by DDP: the whole model fits each, with about "),
        ({}, 16, "fsdp2", "4 GPUs by FSDP2, about "),
        ({"use_4bit": True}, 4, "auto", "over NF4, FSDP2 must be asked for"),
        ({"use_lora": False}, 20, "auto", "4 GPUs by DDP, although whole on each, the run needs about "),
        ({"model_name": "somebody/unknown"}, 80, "auto", "whether it fits one is not known"),
    ],
)
def test_several_gpus_train_by_ddp_where_the_model_fits_one_else_by_fsdp2(
    values: dict[str, Any], gigabytes: int, chosen: str, said: str
) -> None:
    found, why = with_chosen_parallelism(config(**values), gigabytes * GB)
    assert found.distributed == chosen
    assert said in why[0]


@pytest.mark.parametrize("values", [{"gpu_count": 1}, {"distributed": "ddp"}, {"gpus": "none", "gpu_count": None}])
def test_nothing_is_chosen_for_one_gpu_or_where_the_config_says_which(values: dict[str, Any]) -> None:
    assert with_chosen_parallelism(config(**values), GB) == (config(**values), ())
