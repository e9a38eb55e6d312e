"""[trl], [peft], [model_init]: arguments of the libraries that no setting names, passed on as they are."""

from typing import Any

from pydantic import field_validator

from dpo_tui.config.setting import Section, setting


def _checked_table(value: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, which stands for the library's default, and refuse what no TOML file can hold."""
    kept = {str(name): item for name, item in value.items() if item is not None}
    for name, item in kept.items():
        _require_plain(name, item)
    return kept


def _require_plain(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(f"{name}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            _require_plain(name, item)
    elif isinstance(value, float) and value - value != 0:  # infinity and NaN
        raise ValueError(f"{name} must be a finite number")
    elif not isinstance(value, str | int | float):
        raise ValueError(f"{name} holds {value!r}; only text, numbers, true/false, lists and tables can be passed on")


class TrlTable(Section):
    """Arguments of TRL's DPOConfig (SFTConfig in stage one) that no setting names."""

    trl: dict[str, Any] = setting(
        {},
        "TRL arguments",
        "Fields of DPOConfig, or of the strategy's own class, that no setting names, such as neftune_noise_alpha = 5. "
        "They are passed on as they are, and checked against the installed TRL before a run starts.",
        advanced=True,
    )

    @field_validator("trl")
    @classmethod
    def _plain_trl(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _checked_table(value)


class PeftTable(Section):
    """Arguments of PEFT's LoraConfig that no setting names."""

    peft: dict[str, Any] = setting(
        {},
        "PEFT arguments",
        "Fields of LoraConfig that no setting names, such as exclude_modules or rank_pattern, checked like "
        "those of [trl].",
        advanced=True,
    )

    @field_validator("peft")
    @classmethod
    def _plain_peft(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _checked_table(value)


class ModelInitTable(Section):
    """Arguments of from_pretrained that no setting names."""

    model_init: dict[str, Any] = setting(
        {},
        "loading arguments",
        "Keywords of AutoModelForCausalLM.from_pretrained, or values that replace those of the model's config.json, "
        "such as rope_parameters. An adapter needs the same ones wherever it is loaded.",
        advanced=True,
    )

    @field_validator("model_init")
    @classmethod
    def _plain_model_init(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _checked_table(value)
