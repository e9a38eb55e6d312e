"""Combinations of settings of the reference that cannot work; see :mod:`dpo_tui.config.rules`."""

from collections.abc import Callable

from dpo_tui.config.problems import ConfigProblem
from dpo_tui.config.schema import Config


def moving_reference_needs_a_reference(config: Config) -> ConfigProblem | None:
    """DPOTrainer raises: with an adapter there is no second model to move, and precomputed scores would be stale."""
    if not config.sync_ref_model:
        return None
    if config.use_lora:
        return ConfigProblem("sync_ref_model", True, "needs full fine-tuning: set use_lora = false, or leave it off")
    if config.precompute_ref_log_probs == "on":
        return ConfigProblem(
            "sync_ref_model", True, "cannot go with precompute_ref_log_probs = on: the reference moves"
        )
    return None


def one_reference(config: Config) -> ConfigProblem | None:
    """One of the two would be ignored: both name the whole reference."""
    if config.ref_model is None or config.ref_adapter is None:
        return None
    return ConfigProblem(
        "ref_adapter", config.ref_adapter, "ref_model is set too; keep one: an adapter is merged into its own base"
    )


def revision_of_a_reference(config: Config) -> ConfigProblem | None:
    """The revision would be ignored."""
    if config.ref_model_revision is None or config.ref_model is not None:
        return None
    return ConfigProblem("ref_model_revision", config.ref_model_revision, "does nothing without ref_model")


def reference_of_a_run_that_is_done(config: Config) -> ConfigProblem | None:
    """A stage before in the same command has no model yet when this one is checked against its reference."""
    for name in ("ref_model", "ref_adapter"):
        if getattr(config, name) == "previous":
            message = "must be there before the command starts; name a run that is done, run:ID, or a folder"
            return ConfigProblem(name, "previous", message)
    return None


def provider_takes_a_reference(config: Config) -> ConfigProblem | None:
    """Unsloth loads and patches one model; a second one would go through kernels that were made for the first."""
    if config.provider != "unsloth" or not (config.ref_model or config.ref_adapter):
        return None
    name = "ref_model" if config.ref_model else "ref_adapter"
    return ConfigProblem(name, getattr(config, name), 'does not work with provider = "unsloth"; use "huggingface"')


REFERENCE_RULES: tuple[Callable[[Config], ConfigProblem | None], ...] = (
    moving_reference_needs_a_reference,
    one_reference,
    revision_of_a_reference,
    reference_of_a_run_that_is_done,
    provider_takes_a_reference,
)
