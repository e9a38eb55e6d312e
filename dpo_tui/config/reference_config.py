"""The config by which a run's reference is loaded, where that is another model than its start."""

from dpo_tui.config.library_fields import loading_keywords
from dpo_tui.config.schema import Config


def reference_config(config: Config) -> Config:
    """Return the config with the reference as its model.

    Of [model_init] the keywords of ``from_pretrained`` stay; values that replace those of a model's config.json are
    of ``model_name`` alone.

    Args:
        config: its ``ref_model`` is set.
    """
    keywords = loading_keywords() or frozenset()
    kept = {name: value for name, value in config.model_init.items() if name in keywords}
    named = {"model_name": config.ref_model, "model_revision": config.ref_model_revision}
    # trust_remote_code allows code of the policy's folder.
    return config.model_copy(update={**named, "model_init": kept, "trust_remote_code": None})
