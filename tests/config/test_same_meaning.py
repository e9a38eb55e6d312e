"""Hints on unknown keys and values: the setting of the same meaning, a slip of the hand, or nothing."""

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.library_fields import peft_fields, trl_fields
from dpo_tui.config.problems import InvalidConfigError, unknown_key
from dpo_tui.config.same_meaning import MEANING, SAME_SETTING, nearest
from dpo_tui.config.schema import fields, section_of

NEEDED = {"model_name": "m", "dataset": "d"}


def test_every_name_of_another_tool_stands_for_a_setting_that_exists() -> None:
    assert {section_of(name) for name in SAME_SETTING.values()}
    assert not (SAME_SETTING.keys() | MEANING.keys()) & fields().keys()
    assert not SAME_SETTING.keys() & MEANING.keys()


@pytest.mark.parametrize(
    ("key", "said", "never"),
    [
        ("rpo_alpha", 'loss_type = ["sigmoid", "sft"]', "lora_alpha"),
        ("deepspeed", "DeepSpeed is not used", "seed"),
        ("mixed_precision", "did you mean bf16", "model_revision"),
        ("dpo_loss_type", "did you mean loss_type", "dpo_label"),
        ("adapter_name_or_path", "merged into its base model first", "model_name_or_path"),
        ("neftune_noise_alpha", "can be passed on, in [trl]", "lora_alpha"),
        ("layers_to_transform", "can be passed on, in [peft]", "lora"),
        ("push_to_hub", "dpo-tui export", "did you mean"),
        ("local_rank", "which GPUs train together", "lora"),
        ("warmup_step", "did you mean warmup_steps", "eval_steps"),
        ("learnin_rate", "did you mean learning_rate", "none"),
        ("num_epoch", "did you mean num_train_epochs", "none"),
        ("Lora-R", "did you mean lora_r", "none"),
        ("temperature", "lists every setting", "did you mean"),
        ("simpo", "lists every setting", "ipo,"),
    ],
)
def test_a_key_is_told_what_it_means_and_nothing_that_it_does_not(key: str, said: str, never: str) -> None:
    message = unknown_key(key, 1).message
    assert said in message and never not in message


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("simpo", "SimPO trains without a reference"),
        ("kto_pair", "TRL removed it"),
        ("orpo", "ORPO trains without a reference"),
        ("dpo", 'it is called "sigmoid"'),
        ("cdpo", "label_smoothing"),
        ("sigmiod", "did you mean sigmoid?"),
    ],
)
def test_a_loss_of_another_tool_is_told_its_counterpart(loss: str, said: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        from_values(NEEDED | {"loss_type": loss})
    assert said in str(caught.value)
    assert "did you mean ipo" not in str(caught.value) and "exo_pair?" not in str(caught.value)


def test_a_real_key_of_a_library_is_never_taken_for_a_slip() -> None:
    for name in {*(trl_fields("DPOConfig") or {}), *(trl_fields("SFTConfig") or {}), *(peft_fields() or {})}:
        message = unknown_key(name, 1).message
        if name not in SAME_SETTING and name not in fields():
            assert "did you mean" not in message or nearest(name, fields()) == "", (name, message)


@pytest.mark.parametrize(
    ("written", "known", "expected"),
    [
        ("ipo", ["ipo_", "exo"], "ipo_"),
        ("apo", ["ipo"], ""),  # three letters: one of them is too much
        ("bata", ["beta"], "beta"),
        ("adam_beta3", ["adam_beta1", "adam_beta2"], ""),
        ("adam_bta2", ["adam_beta1", "adam_beta2"], "adam_beta2"),
        ("save_total_limits", ["save_total_limit"], "save_total_limit"),
        ("completely_other", ["save_total_limit"], ""),
    ],
)
def test_the_distance_that_counts_as_a_slip_is_small(written: str, known: list[str], expected: str) -> None:
    assert nearest(written, known) == expected
