"""What every trainer of preference pairs shares: cached token ids, their order, and dropout rates as they are saved."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import SequentialSampler
from transformers import Trainer

from dpo_tui.train.model.dropout_rates import config_as_loaded
from dpo_tui.train.trainer.grouped_sampler import grouped_sampler
from dpo_tui.train.trainer.token_forms import ID_COLUMNS, PairForm
from dpo_tui.train.trainer.tokenised_rows import RowKind, TokenisedRows

PAIRS = RowKind("pairs", PairForm(), trl_may_divide=True)


class PairRows(TokenisedRows, Trainer):  # type: ignore[misc]
    """Base of trainers on preference pairs, to be named before TRL's class."""

    _config_rates: Any

    def tokenised_pairs(
        self, dataset: Any, processing_class: Any, args: Any, dataset_name: str, prepare: Callable[..., Any]
    ) -> Any:
        """Tokenise pairs as DPOTrainer does, or take them from the token cache; see `TokenisedRows.tokenised`."""
        return self.tokenised(dataset, processing_class, args, dataset_name, prepare, kind=PAIRS)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Group by length as Trainer does, which reads lengths from ``input_ids``, a column that pairs do not have."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        return grouped_sampler(
            self.args, longer_lengths(self.train_dataset if train_dataset is None else train_dataset)
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Evaluate in the order of the dataset, also when training groups by length; pairs have no ``input_ids``."""
        # None: accelerate splits the dataset over the processes.
        return None if self.args.world_size > 1 else SequentialSampler(eval_dataset)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save a model with the dropout rates that its config came with."""
        with config_as_loaded(self._config_rates):
            super()._save(*args, **kwargs)


def longer_lengths(dataset: Any) -> list[int]:
    """Return the tokens of the longer sequence of each tokenised pair, prompt included."""
    lengths: list[int] = []
    for batch in dataset.select_columns(list(ID_COLUMNS)).iter(batch_size=1000):
        pairs = zip(*(batch[column] for column in ID_COLUMNS), strict=True)
        lengths += [len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in pairs]
    return lengths
