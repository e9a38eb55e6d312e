"""TRL's KTOTrainer with phases in the journal, the sparse LM head, and names that say which KL is meant."""

from typing import Any

import trl
from packaging.version import Version
from trl import KTOTrainer

from dpo_tui.config.schema import Config
from dpo_tui.data.tokens.too_long import nothing_fits
from dpo_tui.strategies.kto import KL_TERM
from dpo_tui.train.model.dropout_rates import config_as_loaded, disable_dropout
from dpo_tui.train.model.reference_loading import release_reference
from dpo_tui.train.shortcuts.head_shortcut import HeadShortcut
from dpo_tui.train.trainer.trainers import TrainerInputs
from dpo_tui.train.worker.journal import Journal

if Version(trl.__version__) < Version("1.16"):
    raise ImportError("KTOTrainer became stable in TRL 1.16; earlier ones have other methods and another KL term")
__all__ = ["KTOTrainer", "LabelledTrainer", "build_labelled_trainer"]


class LabelledTrainer(KTOTrainer):  # type: ignore[misc]
    """TRL's KTOTrainer; the loss is TRL's.

    Args:
        config: the run's settings.
        journal: receives phases and notes.
        **options: of KTOTrainer.

    Attributes:
        shortcuts: the sparse LM head, for the receipt.
    """

    def __init__(self, config: Config, journal: Journal, **options: Any) -> None:
        self.config = config
        self.journal = journal
        self.shortcuts = HeadShortcut(journal)
        # TRL's disable_dropout reaches torch's dropout modules only.
        self._config_rates = disable_dropout(options["model"]) if options["args"].disable_dropout else []
        super().__init__(**options)
        if self.ref_model is not None and self.args.disable_dropout:
            disable_dropout(self.ref_model)
        if self.precompute_ref_logps and self.ref_model is not None:
            release_reference(self)
        self.shortcuts.install(self)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Tokenise a dataset as TRL does."""
        self.journal.phase("load-pairs")
        rows = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        part = "training" if dataset_name == "train" else "held-out"
        if not len(rows):
            raise nothing_fits(self.config, len(dataset), part)
        if self.calculate_KL and len(rows) % args.per_device_train_batch_size == 1:
            self.journal.event(
                "note",
                f"The last micro-batch of the {len(rows):,} {part} answers has one answer: its KL term is of that "
                "answer itself, as in TRL",
            )
        return rows

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.phase("reference")
        return super()._precompute_ref_logps(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what TRL does, its KL term under a name of its own: ``kl`` is estimated from sampled answers."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        if "kl" in metrics:
            metrics[KL_TERM] = metrics.pop("kl")
        super().log(logs, *args, **kwargs)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save a model with the dropout rates that its config came with."""
        with config_as_loaded(self._config_rates):
            super()._save(*args, **kwargs)


def build_labelled_trainer(inputs: TrainerInputs) -> Any:
    """Construct the trainer of labelled answers: a :class:`LabelledTrainer`, or TRL's own under Unsloth."""
    if inputs.config.provider == "unsloth":
        if inputs.config.disable_dropout:
            disable_dropout(inputs.options["model"])
        return KTOTrainer(args=inputs.make_arguments(), **inputs.options)
    return LabelledTrainer(inputs.config, inputs.callback.journal, args=inputs.make_arguments(), **inputs.options)
