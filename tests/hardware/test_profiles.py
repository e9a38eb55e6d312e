"""Profiles, and `profile = "auto"`: what is chosen, what is adapted, and what is left alone."""

from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.hardware.apply_profile import resolve_profile
from dpo_tui.hardware.gpu_choice import recommend
from dpo_tui.hardware.memory.fit import changes_to_fit, verdict_of
from dpo_tui.hardware.memory.memory_estimate import GB, estimate
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of, recommended_models
from dpo_tui.hardware.nvml import Gpu, Inventory, NvmlFault
from dpo_tui.hardware.profiles import SETTINGS, Ram, fitting_models, preset
from tests.support.basic_config import LLAMA, config

RAM = Ram(64 * GB, 60 * GB)
MIB = 1024**2


def card(mib: int, free_mib: int | None = None, index: int = 0, **values: Any) -> Gpu:
    free = (mib - 300 if free_mib is None else free_mib) * MIB
    capability = values.pop("compute_capability", (8, 9))
    return Gpu(
        index,
        values.pop("name", "Card"),
        memory_total=mib * MIB,
        memory_free=free,
        compute_capability=capability,
        **values,
    )


def inventory(*gpus: Gpu) -> Inventory:
    return Inventory(gpus)


def total_gb(made: Config, arch: Architecture | None = None) -> float:
    return estimate(made, arch or architecture_of(made.model_name)).total / GB


def test_the_presets_are_exactly_the_required_ones() -> None:
    """Both make an effective batch of 8."""
    mid, high = SETTINGS["mid-range"], SETTINGS["high-end"]
    names = ("use_4bit", "per_device_train_batch_size", "gradient_accumulation_steps", "lora_r", "max_seq_length")
    assert [mid[name] for name in names] == [True, 2, 4, 16, 1024]
    assert [high[name] for name in names] == [True, 4, 2, 64, 2048]
    for name in SETTINGS:
        made = preset(name)
        assert made.effective_batch == 8
        assert made.alpha == 2 * made.lora_r


@pytest.mark.parametrize(
    ("mib", "name"),
    [
        (6144, "reduced"),
        (10240, "reduced"),
        (11264, "reduced"),
        (12282, "mid-range"),
        (12288, "mid-range"),
        (15360, "high-end"),
        (16376, "high-end"),
        (24564, "high-end"),
        (81920, "high-end"),
    ],
)
def test_classes_are_counted_in_decimal_gigabytes(mib: int, name: str) -> None:
    """An RTX 4070's 12,282 MiB are 12.88 GB and not refused."""
    assert recommend(inventory(card(mib)), RAM, {}).name == name


def test_sixteen_gigabytes_are_high_end_only_because_the_estimate_says_that_it_fits() -> None:
    """And the reason shows how the preset starts there."""
    found = recommend(inventory(card(16376)), RAM, {})
    assert found.name == "high-end"
    assert "micro-batch 2 × 4" in found.reason
    assert (
        found.free is not None
        and found.free
        >= estimate(
            preset("high-end").model_copy(update={"per_device_train_batch_size": 2}), architecture_of(LLAMA)
        ).total
    )


def test_someone_else_on_the_card_lowers_the_profile() -> None:
    """From free memory when others sit on it."""
    assert recommend(inventory(card(24564, 24000)), RAM, {}).name == "high-end"
    assert recommend(inventory(card(24564, 12500)), RAM, {}).name == "mid-range"
    assert recommend(inventory(card(24564, 8000)), RAM, {}).name == "reduced"
    desktop = recommend(inventory(card(12282, 11250)), RAM, {})
    assert desktop.name == "mid-range", "a desktop's gigabyte does not make a 12 GB card a smaller one"


def test_below_twelve_gigabytes_the_plain_sentence_is_said() -> None:
    found = recommend(inventory(card(8192)), RAM, {})
    assert any("DPO is not advised here" in warning and "QLoRA" in warning for warning in found.warnings)
    assert found.settings["per_device_train_batch_size"] == 1
    assert all(model.parameters < 8 for model in fitting_models(found))


def test_little_main_memory_is_said() -> None:
    """16 GB of RAM; a machine with 16 GiB is not nagged."""
    assert not recommend(inventory(card(12288)), Ram(16 * GB, 9 * GB), {}).warnings
    assert any(
        "16 GB is the minimum" in warning
        for warning in recommend(inventory(card(12288)), Ram(8 * GB, 6 * GB), {}).warnings
    )


def test_of_several_gpus_the_best_is_taken_and_the_reason_says_so() -> None:
    """Profile first, then bfloat16, then free memory."""
    small, large = card(12288, name="Small"), card(24564, index=1, name="Large")
    assert recommend(inventory(small, large), RAM, {}).gpu == 1
    old = card(24564, index=0, compute_capability=(7, 5))
    assert recommend(inventory(old, card(16376, index=1)), RAM, {}).gpu == 1
    gone = Gpu(0, "Gone", faults={"memory": NvmlFault("lost", "lost")})
    found = recommend(inventory(gone, card(12288, index=1)), RAM, {})
    assert found.gpu == 1
    assert "lost: GPU 0" in found.reason
    assert recommend(inventory(card(12288), card(12288, index=1)), RAM, {}).gpu == 0


def test_models_that_fit_are_a_list_with_licence_size_and_token() -> None:
    """And the 8B model is on it for a 12 GB card."""
    names = [model.name for model in fitting_models(recommend(inventory(card(12282)), RAM, {}))]
    assert LLAMA in names
    for model in recommended_models():
        assert model.licence
        assert model.gated == model.name.startswith(("meta-llama/", "google/"))


def test_auto_takes_the_profile_and_adapts_the_micro_batch() -> None:
    """The high-end preset on a 16 GB card starts an 8B model as 2 × 4; the effective batch stays."""
    found = resolve_profile(
        config(profile="auto"), {"model_name", "dataset", "profile"}, inventory(card(16376)), ram=RAM
    )
    assert found.profile_name == "high-end"
    assert found.gpu_index == 0
    assert (found.config.lora_r, found.config.alpha, found.config.max_seq_length) == (64, 128, 2048)
    assert (found.config.per_device_train_batch_size, found.config.gradient_accumulation_steps) == (2, 4)
    assert total_gb(found.config) <= 16376 * MIB / GB
    assert any("micro-batch 2" in reason for reason in found.reasons)


def test_auto_never_touches_what_a_person_set() -> None:
    given = {"lora_r", "max_seq_length", "per_device_train_batch_size", "profile"}
    asked = config(profile="auto", lora_r=32, lora_alpha=64, max_seq_length=1536, per_device_train_batch_size=3)
    found = resolve_profile(asked, given | {"lora_alpha"}, inventory(card(16376)), ram=RAM)
    assert (found.config.lora_r, found.config.max_seq_length, found.config.per_device_train_batch_size) == (32, 1536, 3)
    assert not found.changed.keys() & given


def test_auto_checkpoints_activations_only_where_the_person_left_that_open() -> None:
    asked = config(profile="auto", gradient_checkpointing=False)
    adapted = resolve_profile(asked, {"profile"}, inventory(card(12288)), ram=RAM)
    assert adapted.config.gradient_checkpointing
    given = {"profile", "gradient_checkpointing", "activation_offloading"}
    kept = resolve_profile(asked, given, inventory(card(12288)), ram=RAM)
    assert not kept.config.gradient_checkpointing
    assert any("still does not fit" in reason for reason in kept.reasons)


def test_auto_moves_activations_out_and_rounds_the_optimizer_only_where_a_micro_batch_of_one_does_not_fit() -> None:
    """In the order of cost, the one step that is not lossless last."""

    def on_a_card_of(mebibytes: int, **given: object) -> Config:
        asked = config(profile="high-end", **given)
        return resolve_profile(asked, {"profile", *given}, inventory(card(mebibytes)), ram=RAM).config

    enough, less, least = on_a_card_of(10240), on_a_card_of(9216), on_a_card_of(8192)
    assert [one.per_device_train_batch_size for one in (enough, less, least)] == [1, 1, 1]
    assert [one.activation_offloading for one in (enough, less, least)] == [False, True, True]
    assert [one.optim for one in (enough, less, least)] == ["adamw_torch", "adamw_torch", "paged_adamw_8bit"]
    kept = on_a_card_of(8192, activation_offloading=False, optim="adamw_torch")
    assert (kept.activation_offloading, kept.optim) == (False, "adamw_torch")


def test_auto_works_without_a_gpu() -> None:
    """The demo and tiny models: fp32, no 4-bit, the rank is the person's."""
    asked = config(profile="auto", model_name="HuggingFaceTB/SmolLM2-135M-Instruct", lora_r=8)
    found = resolve_profile(asked, {"profile"}, Inventory(fault=NvmlFault("no-library", "no driver")), ram=RAM)
    assert found.profile_name == "cpu"
    assert found.gpu_index is None
    assert (found.config.use_4bit, found.config.bf16, found.config.lora_r) == (False, False, 8)
    assert found.config.effective_batch == 8


def test_a_named_profile_is_taken_as_asked_and_the_difference_is_said() -> None:
    found = resolve_profile(config(profile="mid-range"), {"profile"}, inventory(card(24564)), ram=RAM)
    assert found.config.max_seq_length == 1024
    assert any("this machine suggests high-end" in reason for reason in found.reasons)
    untouched = resolve_profile(config(), set(), inventory(card(24564)), ram=RAM)
    assert untouched.config == config()
    assert untouched.changed == {}


def test_the_longest_real_pair_tightens_the_estimate() -> None:
    """Padding to max_seq_length is an upper bound."""
    arch = architecture_of(LLAMA)
    assert estimate(config(), arch, longest=400).total < estimate(config(), arch).total
    assert estimate(config(), arch, longest=9999).total == estimate(config(), arch).total


def test_the_basic_config_lands_in_the_expected_band() -> None:
    """8–10 GB for DPO on a 7B model in 4-bit, and stays inside a 12 GB card."""
    assert 8.0 <= total_gb(config()) <= 10.0
    assert verdict_of(estimate(config(), architecture_of(LLAMA)).total, 12 * GB) == "fits"


def test_parts_add_up_and_the_peak_is_the_largest_moment() -> None:
    for values in (
        {},
        {"use_4bit": False},
        {"gradient_checkpointing": False},
        {"use_lora": False, "use_4bit": False},
        {"optim": "adafactor"},
        {"precompute_ref_log_probs": True},
        {"strategy": "sft"},
    ):
        found = estimate(config(**values), architecture_of(LLAMA))
        assert sum(part.size for part in found.parts) == found.total == found.peak.size, values
        assert all(part.size >= 0 for part in found.parts)


def test_each_setting_moves_memory_the_way_it_should() -> None:
    """The remedies really save; a rank costs."""
    base = total_gb(config())
    assert total_gb(config(use_4bit=False)) > base + 8
    assert total_gb(config(per_device_train_batch_size=1, gradient_accumulation_steps=8)) < base
    assert total_gb(config(max_seq_length=512)) < base
    assert total_gb(config(gradient_checkpointing=False)) > base
    assert total_gb(config(lora_r=64)) > base
    assert total_gb(config(optim="paged_adamw_8bit")) < base
    assert total_gb(config(lora_target_modules=["q_proj", "v_proj"])) < base
    assert total_gb(config(strategy="sft")) < base
    assert total_gb(config(activation_offloading=True)) < base


def test_changes_come_in_the_required_order_and_each_one_fits() -> None:
    """4-bit, smaller batch with more accumulation, shorter sequences, smaller model."""
    arch = architecture_of(LLAMA)
    big = config(use_4bit=False, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_seq_length=2048)
    found = changes_to_fit(big, arch, 29 * GB)
    assert [next(iter(change.settings)) for change in found][:2] == ["use_4bit", "per_device_train_batch_size"]
    for change in found:
        changed = from_values({**big.model_dump(), **change.settings})
        assert change.fits == (estimate(changed, arch).total <= 29 * GB)


def test_a_smaller_batch_keeps_the_effective_batch_and_is_no_smaller_than_needed() -> None:
    arch = architecture_of(LLAMA)
    asked = config(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    free = int(9.5 * GB)
    batch = next(
        change for change in changes_to_fit(asked, arch, free) if "per_device_train_batch_size" in change.settings
    )
    assert batch.settings == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert batch.fits
    assert batch.saves == pytest.approx(
        (total_gb(asked) - total_gb(from_values({**asked.model_dump(), **batch.settings}))) * GB
    )


def test_when_no_single_change_is_enough_they_form_a_chain() -> None:
    """Made one after the other, the last makes it fit."""
    arch = architecture_of(LLAMA)
    asked = config(use_4bit=False, per_device_train_batch_size=8, gradient_accumulation_steps=1, max_seq_length=4096)
    free = 8 * GB
    found = changes_to_fit(asked, arch, free)
    assert len(found) > 1
    assert [change.fits for change in found] == [False] * (len(found) - 1) + [True]
    values = asked.model_dump()
    for change in found:
        values |= change.settings
    assert estimate(from_values(values), arch).total <= free


def test_a_smaller_model_is_the_last_resort() -> None:
    """And it is one that fits."""
    (change,) = changes_to_fit(config(), architecture_of(LLAMA), 5 * GB)
    smaller = change.settings["model_name"]
    assert change.fits
    assert total_gb(config(model_name=smaller)) <= 5


def test_what_fits_needs_no_change() -> None:
    assert changes_to_fit(config(), architecture_of(LLAMA), 24 * GB) == []


@pytest.mark.parametrize(
    ("free", "verdict"), [(20.0, "fits"), (9.5, "tight"), (9.0, "does-not-fit"), (None, "unknown")]
)
def test_verdicts(free: float | None, verdict: str) -> None:
    total = estimate(config(), architecture_of(LLAMA)).total
    assert verdict_of(total, None if free is None else int(free * GB)) == verdict


def test_a_profile_leaves_the_weights_to_a_table_that_quantises_them() -> None:
    """use_4bit = true beside it would be refused: neither the profile nor advice on what would fit sets it."""
    table = {"quantization_config": {"load_in_8bit": True}}
    made = from_values({"model_name": LLAMA, "dataset": "d", "profile": "auto", "model_init": table})
    found = resolve_profile(made, {"model_init"}, inventory(card(12288)), ram=RAM)
    assert (found.profile_name, found.config.use_4bit) == ("mid-range", False)
    changes = changes_to_fit(found.config, architecture_of(LLAMA), 2 * GB, device="cuda")
    assert changes
    assert all("use_4bit" not in change.settings for change in changes)
