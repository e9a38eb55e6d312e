"""Experiment trackers that receive a run's metrics too: whether they are installed, and where they store them."""

import importlib.util
import os
from collections.abc import Sequence

from dpo_tui.errors import ConfigError
from dpo_tui.runs.folder import RunFolder

# tracker -> the module that must be importable; this package has an extra of the tracker's name for each.
MODULES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "dpo-tui"
"""The trackers' project or experiment, unless the user's environment names another."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers are installed.

    Raises:
        ConfigError: some are not; it names them and how to install them.
    """
    missing = [name for name in names if importlib.util.find_spec(MODULES[name]) is None]
    if missing:
        raise ConfigError(
            f"report_to: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f'pip install "dpo-tui[{",".join(missing)}]", or leave it out of report_to',
        )


def set_environment(names: Sequence[str], folder: RunFolder) -> None:
    """Set the environment variables with the trackers' locations; those that the user has set are kept.

    TensorBoard's files go into the run's folder. The others have stores of their own, which their dashboards read.
    """
    defaults = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(folder.path / "tensorboard")},
        "wandb": {"WANDB_PROJECT": PROJECT, "WANDB_DIR": str(folder.path)},
        "mlflow": {"MLFLOW_EXPERIMENT_NAME": PROJECT},
    }
    for name in names:
        for variable, value in defaults.get(name, {}).items():
            os.environ.setdefault(variable, value)
