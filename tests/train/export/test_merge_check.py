"""What the check of a merge calls agreement: a right merge, one without the adapter, a broken one, and rounding."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.export.merge_check import MergeCheck, check_merge, probe_texts

PROBES = ["please open the settings page", "thank you"]


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with random matrices, which moves the logits by about as much as a training does."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def checked(
    base: Path, adapter: Path, target: Path, change: Any = None, dtype: torch.dtype = torch.float32
) -> MergeCheck:
    """The check of a model that PEFT has merged and a test has changed."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).merge_and_unload()
    if change is not None:
        with torch.no_grad():
            change(model)
    model.to(dtype).save_pretrained(target)
    return check_merge(base, adapter, target, PROBES, dtype=dtype, nf4=False)


def test_a_right_merge_agrees_far_within_the_bound(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    found = checked(tiny_model, adapter, tmp_path)
    assert found.agrees and found.error < 1e-4 and found.rounding == 0
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    texts = sum(len(tokenizer(text).input_ids) for text in PROBES)
    assert texts < found.positions <= texts + 96, "beside the texts, tokens from the whole vocabulary"


def test_a_model_without_the_adapter_is_off_by_all_that_it_changes(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    found = checked(tiny_model, adapter, tmp_path, lambda model: model.load_state_dict(base))
    assert not found.agrees and found.error == pytest.approx(1.0, abs=1e-3)


def test_a_difference_of_two_hundredths_of_the_change_is_a_fault_and_of_half_of_one_is_none(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()

    def towards_base(share: float) -> Any:
        def change(model: Any) -> None:
            for name, weight in model.state_dict().items():
                weight.lerp_(base[name], share)

        return change

    assert not checked(tiny_model, adapter, tmp_path / "far", towards_base(0.02)).agrees
    near = checked(tiny_model, adapter, tmp_path / "near", towards_base(0.005))
    assert near.agrees and near.error == pytest.approx(0.005, rel=0.3)


def test_one_weight_that_is_no_number_is_no_agreement(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.model.layers[1].mlp.up_proj.weight[3, 3] = math.nan

    found = checked(tiny_model, adapter, tmp_path, change)
    assert not found.agrees and math.isnan(found.error)


def test_rounding_to_16_bits_is_told_apart_from_a_fault(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    right = checked(tiny_model, adapter, tmp_path / "right", dtype=torch.bfloat16)
    assert right.agrees and 1e-4 < right.rounding < 0.5 and right.error < 1e-4

    def change(model: Any) -> None:
        model.lm_head.weight.mul_(1.02)

    wrong = checked(tiny_model, adapter, tmp_path / "wrong", change, torch.bfloat16)
    assert not wrong.agrees and wrong.error > 0.01


def test_the_result_is_said_with_a_warning_from_half_of_the_change_on() -> None:
    assert MergeCheck(0.0012, 0.0, True, 120).sentence() == (
        "Compared with base + adapter in fp32 at 120 positions: logits differ by at most 0.0012 of what the adapter "
        "changes."
    )
    some = MergeCheck(0.001, 0.49, True, 9).sentence()
    assert some.endswith("changes, and the rounding to 16 bits by 0.49 of it.")
    much = MergeCheck(0.001, 0.5, True, 9).sentence()
    assert "Warning: the rounding to 16 bits moves the model by 50% of what the adapter changes" in much
    assert "--precision fp32" in much


def test_the_probes_are_answers_of_the_run_and_texts_that_are_always_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    always = probe_texts(folder)
    assert len(always) == 2
    samples: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": f"q{number % 6}"}], "answer": "a"} for number in range(12)
    ]
    odd = [{"prompt": "text"}, {"prompt": []}, {"prompt": ["x"]}, {"prompt": [{"content": " "}], "answer": ""}]
    folder.samples.write_text("".join(json.dumps(sample) + "\n" for sample in [*odd, *samples]))
    assert probe_texts(folder) == ["q0\na", "q1\na", "q2\na", "q3\na", *always]
