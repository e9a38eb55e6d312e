"""The providers by name; a new one is one more row."""

from dpo_tui.config.schema import Config
from dpo_tui.start.providers.huggingface_provider import HuggingFaceProvider
from dpo_tui.start.providers.provider import Provider
from dpo_tui.start.providers.unsloth_provider import UnslothProvider

PROVIDERS: dict[str, Provider] = {"huggingface": HuggingFaceProvider(), "unsloth": UnslothProvider()}
"""By the value of the setting ``provider``; its names in ``config/sections/model.py`` are these."""


def provider_of(config: Config) -> Provider:
    """Return the provider of a config, whose name the schema has checked."""
    return PROVIDERS[config.provider]
