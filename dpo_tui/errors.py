"""The exceptions that users see: one base class, an exit code for each kind.

Every error says what happened, where, and what to do next; the command line prints it without a stack trace and exits
with ``exit_code``. Anything outside this family is a bug and keeps its traceback.
"""


class DpoTuiError(Exception):
    """Base class of the errors that are shown to the user.

    Args:
        message: what happened and where (file, line, field).
        hint: what to do next, as one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(DpoTuiError):
    """The command line was used in a way that cannot work."""

    exit_code = 2


class ConfigError(DpoTuiError):
    """A config file, or a setting in it, cannot be used."""

    exit_code = 2


class DataError(DpoTuiError):
    """A dataset cannot be read, or has no row that can be used."""

    exit_code = 2


class HomeError(DpoTuiError):
    """The home folder cannot be read or written."""

    exit_code = 2


class RunNotFoundError(DpoTuiError):
    """No run, or more than one, has that id or name."""

    exit_code = 3


class RunError(DpoTuiError):
    """A run failed, or its state does not allow what was requested."""


class TrainingError(DpoTuiError):
    """The worker cannot continue: the model, the device or the disk does not allow it."""
