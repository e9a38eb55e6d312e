"""A reference other than the model that training starts from: ``ref_model`` or ``ref_adapter`` of a config.

It may be what ``model_name`` may be: a hub id, a folder, ``run:ID``, or an adapter, which is merged into its base.
Before the run is made it becomes a model's folder or hub id in ``ref_model``: the frozen config names one model.
"""

from dpo_tui.config.files import LoadedConfig, local_paths, with_changes
from dpo_tui.config.reference_config import reference_config
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.start.adapter_start import is_adapter, merged_model, read_adapter
from dpo_tui.start.earlier_run_model import ProgressCallback, is_earlier_run, model_of
from dpo_tui.start.model_check import model_files
from dpo_tui.start.model_checks.config_file import check_config_file
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.own_code import brings_code
from dpo_tui.start.model_checks.quantised_files import check_quantised_files
from dpo_tui.start.model_checks.reference_tokens import check_reference_tokens
from dpo_tui.start.model_checks.weight_files import check_weights
from dpo_tui.start.model_checks.weights_fit_config import check_weights_fit_config
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from dpo_tui.start.providers.registry import provider_of


def with_resolved_reference(loaded: LoadedConfig, report: ProgressCallback) -> LoadedConfig:
    """Replace ``ref_adapter``, ``run:ID`` or an adapter in ``ref_model`` by the model folder that it means.

    Raises:
        ConfigError: there is no adapter where one is named, or it cannot be merged.
        RunNotFoundError: there is no such run.
        RunError: it has no result.
    """
    setting = "ref_adapter" if loaded.config.ref_adapter else "ref_model"
    name = getattr(loaded.config, setting)
    if name is None:
        return loaded
    if is_earlier_run(name):
        folder = model_of(name, report, setting)
    else:
        at = with_changes(loaded, local_paths(loaded), loaded.origin(setting)).config
        if not is_adapter(getattr(at, setting)):
            _require_model(at)
            return loaded
        folder = merged_model(at, report, setting)
    changes = {"ref_model": folder, "ref_adapter": None, "ref_model_revision": None}
    return with_changes(loaded, changes, loaded.origin(setting))


def check_reference(config: Config, *, has_gpu: bool = True) -> list[str]:
    """Check that the worker will be able to load the reference, and that it has the tokens of the policy.

    Args:
        config: names are absolute folders or hub ids; ``run:ID`` is not looked into.
        has_gpu: whether the run may use a GPU.

    Returns:
        What is unusual and may be right, in sentences.

    Raises:
        ConfigError: the reference is no complete model, or one of other tokens.
    """
    setting = "ref_adapter" if config.ref_adapter else "ref_model"
    name = getattr(config, setting)
    if name is None or is_earlier_run(name):
        return []
    if is_adapter(name):
        adapter = read_adapter(name, setting)
        return [*_token_notes(config, adapter.base), f"The reference is {adapter.base_name} with {name} merged into it"]
    _require_model(config)
    folder = model_files(name, config.ref_model_revision, setting)
    if folder is None:
        return []
    packages = WorkerPackages(provider_of(config).interpreter())
    if brings_code(folder, packages):
        raise folder.error(
            "it is made by code that it brings, and code of a reference is not run", "name a model of transformers"
        )
    notes = [
        *check_weights(folder),
        *check_config_file(folder, reference_config(config), packages),
        *check_quantised_files(folder, packages, has_gpu=has_gpu),
        *check_weights_fit_config(folder, reference_config(config)),
    ]
    return [*notes, *_token_notes(config, folder)]


def _require_model(config: Config) -> None:
    if config.ref_adapter is not None:
        raise ConfigError(
            f"ref_adapter = {config.ref_adapter}: is no folder of an adapter (adapter_config.json)",
            hint="name the folder that PEFT saved; a whole model is named by ref_model",
        )


def _token_notes(config: Config, reference: ModelFolder) -> list[str]:
    """Compare the tokens where both models' files are on this machine."""
    if is_earlier_run(config.model_name):
        return []
    if is_adapter(config.model_name):
        return check_reference_tokens(read_adapter(config.model_name).base, reference)
    policy = model_files(config.model_name, config.model_revision)
    return check_reference_tokens(policy, reference) if policy is not None else []
