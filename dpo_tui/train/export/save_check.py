"""Check of each save of a run: a checkpoint that is dead is warned of, and a dead result ends the run as failed.

What is dead: :mod:`dpo_tui.train.export.liveness`.
"""

from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.complete_checkpoints import step_of
from dpo_tui.train.export.liveness import Liveness, liveness_of
from dpo_tui.train.model.base_files import local_base_folder
from dpo_tui.train.worker.journal import Journal

DEAD_RESULT_HINT = (
    "with NaN: lower learning_rate, and see at which step the loss became NaN. With nothing changed: is the better "
    "answer of each pair like the worse one? Has learning_rate, or the optimizer's precision, any effect?"
)


class SaveCheck:
    """Reads what the worker has saved again, and says what it finds in the journal.

    Args:
        config: the run's settings, which name the model it started from.
        journal: receives warnings and notes.
    """

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._said: set[str] = set()

    def check_checkpoint(self, checkpoint: Path, learning_rate_sum: float) -> None:
        """Warn if a checkpoint is dead; the training goes on.

        Args:
            checkpoint: its folder.
            learning_rate_sum: of all steps so far; only if it is above zero something must have changed.
        """
        trained, step = learning_rate_sum > 0, step_of(checkpoint)
        try:
            found = self._read(checkpoint)
            problem = found.problem(trained=trained) if found else ""
        except TrainingError as error:
            # A checkpoint that cannot be read ends no training: the next one may be whole, and so may the result.
            found, problem = None, error.message
        if problem:
            message = f"The checkpoint of step {step} is dead: {problem}"
            self._journal.event("warning", message, rule="dead-checkpoint", step=step)
        elif found:
            self._say_doubts(found, trained=trained)

    def check_result(self, folder: Path, learning_rate_sum: float) -> None:
        """Check a result before it appears under its name.

        Args:
            folder: of the adapter or the model.
            learning_rate_sum: of all steps; only if it is above zero something must have changed.

        Raises:
            TrainingError: it is dead.
        """
        found, trained = self._read(folder), learning_rate_sum > 0
        if found is None:
            return
        problem = found.problem(trained=trained)
        if problem:
            raise TrainingError(f"The result is dead: {problem}. It is not kept", hint=DEAD_RESULT_HINT)
        self._say_doubts(found, trained=trained)
        if trained:
            self._journal.event("note", f"The result was read again: {found.sentence()}")
        else:
            message = "No step had a learning rate above zero: the result is the model that the run started from"
            self._journal.event("warning", message, rule="untrained-result")

    def _read(self, folder: Path) -> Liveness | None:
        """Return what is in a folder; None for a checkpoint in the shards of FSDP or DeepSpeed, which is no model."""
        if not any(folder.glob("*.safetensors")):
            return None
        return liveness_of(folder, local_base_folder(self._config.model_name, self._config.model_revision))

    def _say_doubts(self, found: Liveness, *, trained: bool) -> None:
        """Write each doubt once and not at every checkpoint, though its figures change."""
        for doubt in found.doubts(trained=trained):
            # Without its percentage, which is another one at each checkpoint.
            kind = doubt.partition("%")[2] or doubt
            if kind not in self._said:
                self._said.add(kind)
                self._journal.event("warning", f"{doubt[0].upper()}{doubt[1:]}", rule="unchanged-weights")
