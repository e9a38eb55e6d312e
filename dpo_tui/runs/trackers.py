"""Other trackers that receive a run's metrics too: whether they are there, and where they keep what they get."""

import importlib.util
import os
from collections.abc import Sequence

from dpo_tui.errors import ConfigError
from dpo_tui.runs.folder import RunFolder

# tracker -> the module that must be importable; each is an extra of this package under the tracker's name.
MODULES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "dpo-tui"
"""What runs are filed under, where the person has not said otherwise."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed.

    Raises:
        ConfigError: naming them, and how to install them.
    """
    missing = [name for name in names if importlib.util.find_spec(MODULES[name]) is None]
    if missing:
        raise ConfigError(
            f"report_to: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f'pip install "dpo-tui[{",".join(missing)}]", or leave it out of report_to',
        )


def set_environment(names: Sequence[str], folder: RunFolder) -> None:
    """Tell trackers where to put what they get; what the person's own environment says wins.

    TensorBoard's files go into the run's folder. The others have places of their own, which their dashboards read.
    """
    defaults = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(folder.path / "tensorboard")},
        "wandb": {"WANDB_PROJECT": PROJECT, "WANDB_DIR": str(folder.path)},
        "mlflow": {"MLFLOW_EXPERIMENT_NAME": PROJECT},
    }
    for name in names:
        for variable, value in defaults.get(name, {}).items():
            os.environ.setdefault(variable, value)
