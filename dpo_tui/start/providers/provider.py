"""The interface of a provider: which interpreter a run's worker needs, and whether the machine can train with it.

Adding a provider takes these places:

1. a module here with one class, for example ``axolotl_provider.py``::

       class AxolotlProvider:
           def interpreter(self):
               return paths.environments() / "axolotl" / "bin" / "python"

           def check(self, *, has_gpu):
               if not os.access(self.interpreter(), os.X_OK):
                   raise ConfigError('provider = "axolotl": …what is missing…', hint="…the command that installs it…")

2. a row in ``registry.PROVIDERS``;
3. its name in the setting ``provider`` of ``config/sections/model.py``, and in ``config/rules.py`` a row of
   ``IGNORED_BY_PROVIDER`` where it ignores settings: those are reported by every command that reads a config.

What its worker does differently is ``train/``'s part.
"""

from pathlib import Path
from typing import Protocol


class Provider(Protocol):
    """One way to train, as the checks before a start see it."""

    def interpreter(self) -> Path | None:
        """The Python interpreter that the worker needs; ``None`` for the one that dpo-tui itself runs with."""

    def check(self, *, has_gpu: bool) -> None:
        """Check that a run can train with this provider here.

        Args:
            has_gpu: whether the run may use an NVIDIA GPU of this machine.

        Raises:
            ConfigError: it cannot; the message names what is missing, the hint what to do.
        """
