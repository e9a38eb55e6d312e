"""Why the reference of a config cannot be used, for those who check or estimate a config and start no run."""

from pathlib import Path

from dpo_tui.config.files import LoadedConfig, local_paths, with_changes
from dpo_tui.errors import ConfigError
from dpo_tui.strategies.strategy import has_other_reference


def reference_refusal(loaded: LoadedConfig) -> ConfigError | None:
    """Return why the reference of a config cannot be used, where that is known on this machine; None without a reason.

    Args:
        loaded: the config; a folder may be relative to where it was loaded.
    """
    if not has_other_reference(loaded.config.model_dump(include={"ref_model", "ref_adapter"})):
        return None
    config = with_changes(loaded, local_paths(loaded), "file").config
    named = str(config.ref_adapter or config.ref_model)
    if not Path(named).is_absolute() and config.ref_adapter is None:
        return None  # of the hub, which is asked when a run starts
    from dpo_tui.start.reference_model import check_reference  # with all checks of a model's files: few configs need it

    try:
        check_reference(config)
    except ConfigError as error:
        return error
    return None


def reference_remarks(loaded: LoadedConfig) -> tuple[str, ...]:
    """Return why the reference of a config cannot be used, in sentences; see :func:`reference_refusal`."""
    error = reference_refusal(loaded)
    return (f"A run would not start: {error.message}. {error.hint or ''}".strip(),) if error else ()
