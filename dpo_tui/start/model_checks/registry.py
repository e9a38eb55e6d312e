"""The checks of a model folder, in their order; a new one is one more row of :data:`CHECKS`."""

from collections.abc import Callable
from dataclasses import dataclass

from dpo_tui.config.schema import Config
from dpo_tui.start.model_checks.adapter_targets import check_adapter
from dpo_tui.start.model_checks.config_file import check_config_file
from dpo_tui.start.model_checks.mixture_of_experts import check_mixture_of_experts
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.own_code import brings_code
from dpo_tui.start.model_checks.quantised_files import check_quantised_files
from dpo_tui.start.model_checks.quantised_weights import check_quantisation
from dpo_tui.start.model_checks.tokenizer_check import check_tokenizer
from dpo_tui.start.model_checks.weight_files import check_weights
from dpo_tui.start.model_checks.weights_fit_config import check_weights_fit_config
from dpo_tui.start.model_checks.worker_packages import WorkerPackages


@dataclass(frozen=True)
class ModelUse:
    """How a run will use a model.

    Attributes:
        config: of the run.
        packages: of the interpreter that trains.
        has_gpu: whether the run may use a GPU.
    """

    config: Config
    packages: WorkerPackages
    has_gpu: bool


Check = Callable[[ModelFolder, ModelUse], list[str]]
"""Returns what is unusual, in sentences; raises ConfigError where the model cannot be used."""

CHECKS: tuple[Check, ...] = (
    lambda folder, use: check_weights(folder),
    lambda folder, use: check_config_file(folder, use.config, use.packages),
    lambda folder, use: check_quantised_files(folder, use.packages, has_gpu=use.has_gpu),
    # Asking transformers would run the code of a model that brings some.
    lambda folder, use: [] if brings_code(folder, use.packages) else check_weights_fit_config(folder, use.config),
    lambda folder, use: check_quantisation(folder, use.config, use.packages, has_gpu=use.has_gpu),
    lambda folder, use: check_tokenizer(folder, use.config),
    lambda folder, use: check_mixture_of_experts(folder, use.config),
    lambda folder, use: [] if brings_code(folder, use.packages) else check_adapter(folder, use.config),
)
"""Weights first: a folder without any is not what the user meant, whatever else is wrong with it."""
