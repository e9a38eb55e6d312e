"""The provider ``unsloth``: Unsloth's own kernels on NVIDIA GPUs, in a Python environment of its own."""

from pathlib import Path

from dpo_tui.errors import ConfigError
from dpo_tui.processes import unsloth_environment


class UnslothProvider:
    """Trains under the interpreter of `dpo_tui.processes.unsloth_environment`, which the doctor checks too."""

    def interpreter(self) -> Path | None:
        """That environment's Python."""
        return unsloth_environment.interpreter()

    def check(self, *, has_gpu: bool) -> None:
        """Check for a GPU, the environment, its packages and their versions.

        Raises:
            ConfigError: one of them is missing.
        """
        found = unsloth_environment.obstacle(has_gpu=has_gpu)
        if found is not None:
            raise ConfigError(f'provider = "unsloth": {found.message}', hint=found.fix)
