"""What the table [peft] names in a model is there, or is refused before a run; as PEFT itself matches names."""

from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError
from dpo_tui.train.export.planned_adapter import plan_adapter
from dpo_tui.train.model.load import lora_config
from dpo_tui.train.tools.adapter_plan import check
from tests.support.families import build

TARGETS = ["q_proj", "v_proj", "up_proj"]
ABSENT: list[tuple[dict[str, Any], str]] = [
    ({"layers_to_transform": 2}, "no layer 2; it has layers 0 to 1"),
    ({"layers_to_transform": [0, -1]}, "no layer -1"),
    ({"layers_to_transform": [0], "layers_pattern": "blocks"}, "no blocks; its lists of layers are called layers"),
    ({"rank_pattern": {"k_proj": 4}}, "'k_proj' matches; it has q_proj, up_proj, v_proj"),
    ({"rank_pattern": {"q_proj": 4, "layers.2.self_attn.q_proj": 2}}, "'layers.2.self_attn.q_proj' matches"),
    ({"alpha_pattern": {"^model.layers.[0-9]+.mlp.up$": 4}}, "alpha_pattern: the model has no adapted module"),
    ({"rank_pattern": {"(q_proj": 4}}, "is no regular expression"),
    ({"exclude_modules": ["lm_head", "vision"]}, "no module vision"),
    ({"exclude_modules": r".*visual.*"}, "no module that '.*visual.*' matches"),
    ({"target_parameters": ["mlp.experts.down_proj"]}, "no parameter mlp.experts.down_proj"),
    ({"trainable_token_indices": [3, 1536]}, "no row 1536; it has rows 0 to 1535"),
    ({"trainable_token_indices": {"embed_tokens": [-1]}}, "no row -1"),
]
PRESENT: list[dict[str, Any]] = [
    {"layers_to_transform": 1},
    {"layers_to_transform": [0, 1], "layers_pattern": ["layers"]},
    {"rank_pattern": {"q_proj": 4, r"layers\.0\..*v_proj": 2}, "alpha_pattern": {"mlp.up_proj": 8}},
    {"exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"exclude_modules": r".*\.1\..*"},
    {"trainable_token_indices": [3, 1535]},
    {"bias": "all"},
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("families") / "llama")


def plan(model: Path, peft: dict[str, Any], **changes: Any) -> list[str]:
    values = {"model_name": str(model), "dataset": "-", "lora_target_modules": TARGETS, "peft": peft, **changes}
    settings = lora_config(from_values(values))
    assert settings is not None
    return plan_adapter(model, settings, merge=False)


@pytest.mark.parametrize(("peft", "said"), ABSENT)
def test_what_the_model_lacks_is_named_with_what_it_has(llama: Path, peft: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(llama, peft)
    field = next(iter(peft)) if "layers_pattern" not in peft else "layers_pattern"
    assert said in caught.value.message and f"[peft] {field}" in caught.value.message
    assert field in str(caught.value.hint) or "pattern" in str(caught.value.hint)


@pytest.mark.parametrize("peft", PRESENT)
def test_what_the_model_has_is_accepted(llama: Path, peft: dict[str, Any]) -> None:
    assert plan(llama, peft) == []


def test_parameters_of_fused_experts_are_found(tmp_path: Path) -> None:
    mixtral = build("mixtral", tmp_path / "mixtral")
    assert plan(mixtral, {"target_parameters": ["mlp.experts.gate_up_proj"]}, lora_target_modules=["q_proj"]) == []
    with pytest.raises(ConfigError, match=r"it has experts\.down_proj, experts\.gate_up_proj"):
        plan(mixtral, {"target_parameters": ["mlp.experts.w1"]}, lora_target_modules=["q_proj"])


def test_a_table_that_peft_refuses_is_a_fault_of_the_config(llama: Path) -> None:
    request = {
        "model": str(llama),
        "settings": {"lora_target_modules": TARGETS, "peft": {"layers_pattern": "layers"}},
        "merge": False,
    }
    with pytest.raises(ConfigError, match=r"\[peft\] layers_pattern: PEFT .* refuses them"):
        check(request, lambda *_: None)
