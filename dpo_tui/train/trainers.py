"""Build the trainer that a strategy asks for. TRL does the training; this only tells the journal where it is."""

from typing import Any

from trl import DPOTrainer, SFTTrainer

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.arguments import dpo_arguments, sft_arguments
from dpo_tui.train.callbacks import RunCallback
from dpo_tui.train.device import Device
from dpo_tui.train.journal import Journal
from dpo_tui.train.model import lora_config
from dpo_tui.train.rows import Rows


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer, telling the journal what it prepares."""

    journal: Journal

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.phase("load-pairs")
        return super()._prepare_dataset(*args, **kwargs)

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.phase("reference")
        return super()._precompute_ref_logps(*args, **kwargs)


class DemonstrationTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer, telling the journal what it prepares."""

    journal: Journal

    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        self.journal.phase("load-pairs")
        return super()._prepare_dataset(*args, **kwargs)


def build_trainer(
    config: Config,
    folder: RunFolder,
    device: Device,
    *,
    model: Any,
    tokenizer: Any,
    rows: Rows,
    callback: RunCallback,
    resumes: bool,
) -> Any:
    """Return a trainer that is ready to train: adapter added, rows tokenised, reference scored if asked for."""
    is_dpo = config.strategy == "dpo"
    kind, arguments = (PairTrainer, dpo_arguments) if is_dpo else (DemonstrationTrainer, sft_arguments)
    kind.journal = callback.journal
    callback.journal.phase("add-adapters" if config.use_lora else "load-pairs")
    return kind(
        model=model,
        args=arguments(config, folder, device, evaluates=rows.held_out is not None, resumes=resumes),
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[callback],
    )
