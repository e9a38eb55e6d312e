"""Names and layouts of weights in files and in memory, where transformers' rules do not fit the files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import WeightRenaming

from dpo_tui.errors import TrainingError
from dpo_tui.train.export import weight_conversion
from dpo_tui.train.export.weight_conversion import WeightConversion

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_model))


def shapes_of(model: Any) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def test_a_rule_is_not_applied_to_names_that_are_right_as_they_are(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule for an older release matches the names of this one too, and would make names that no layer has."""
    monkeypatch.setattr(
        weight_conversion, "get_model_conversion_mapping", lambda _: [WeightRenaming(r"\.mlp\.", ".feed_forward.")]
    )
    conversion = WeightConversion(model, shapes_of(model))
    assert conversion.in_memory == set(model.state_dict())
    group = conversion.group_of(UP)
    assert (group.stored, group.key, group.converter) == ((UP,), UP, None)


def test_names_of_an_older_release_are_read_and_written_as_they_were(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        weight_conversion, "get_model_conversion_mapping", lambda _: [WeightRenaming(r"\.feed_forward\.", ".mlp.")]
    )
    older = {name.replace(".mlp.", ".feed_forward."): shape for name, shape in shapes_of(model).items()}
    conversion = WeightConversion(model, older)
    assert conversion.in_memory == set(model.state_dict())
    stored = UP.replace(".mlp.", ".feed_forward.")
    weight = torch.ones(older[stored])
    group = conversion.group_of(stored)
    assert list(conversion.load(group, {stored: weight})) == [UP]
    saved = conversion.save(group, {UP: weight})
    assert list(saved) == [stored]
    assert torch.equal(saved[stored], weight)


def test_a_group_that_would_be_saved_under_other_names_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = WeightConversion(model, shapes_of(model))
    monkeypatch.setattr(
        weight_conversion,
        "revert_weight_conversion",
        lambda _, weights: {f"renamed.{name}": weight for name, weight in weights.items()},
    )
    with pytest.raises(TrainingError, match=r"would save that as renamed\.model\.layers\.0") as refused:
        conversion.save(conversion.group_of(UP), {UP: torch.zeros(2)})
    assert "merge_and_unload" in (refused.value.hint or "")


def test_the_prefix_that_files_leave_out_is_left_out_again(model: Any) -> None:
    bare = {name.removeprefix("model."): shape for name, shape in shapes_of(model).items()}
    conversion = WeightConversion(model, bare)
    stored = UP.removeprefix("model.")
    assert conversion.in_memory == set(model.state_dict())
    assert list(conversion.save(conversion.group_of(stored), {UP: torch.zeros(bare[stored])})) == [stored]
