"""The ways to train that are compared: TRL's DPOTrainer and the trainer that dpo-tui's worker builds."""

from dataclasses import dataclass
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import lora_config
from dpo_tui.train.trainer.callbacks import RunCallback
from dpo_tui.train.trainer.run_datasets import RunDatasets
from dpo_tui.train.trainer.trainer_registry import build_trainer
from dpo_tui.train.trainer.trl_arguments import dpo_arguments
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        name: in tables.
        ours: dpo-tui's trainer, with the shortcuts that the config allows; else TRL's with the same arguments.
        reference_once: whether the reference is scored once, before training; None leaves it to dpo-tui.
        padding: rows padded to a multiple of this (TRL only), for another batch layout.
        attention: attn_implementation.
        one_pair_at_a_time: a batch in as many passes as it has pairs, accumulated; so pairs are not packed.
    """

    name: str
    ours: bool
    reference_once: bool | None = False
    padding: int | None = None
    attention: str = "auto"
    one_pair_at_a_time: bool = False

    def settings(self, batch: int, *, dry: bool) -> dict[str, Any]:
        """Return the settings by which a config trains in this way.

        Args:
            batch: pairs of a step.
            dry: on the CPU, where FlexAttention does not train.
        """
        attention = "auto" if dry and self.attention == "flex_attention" else self.attention
        passes = batch if self.one_pair_at_a_time else 1
        return {
            "attn_implementation": attention,
            "per_device_train_batch_size": batch // passes,
            "gradient_accumulation_steps": passes,
        }


TRL = Way("trl", ours=False)
TRL_PRECOMPUTE = Way("trl, precompute", ours=False, reference_once=True)
OURS = Way("ours", ours=True, reference_once=None)


def trainer_of(
    way: Way,
    config: Config,
    folder: RunFolder,
    device: TrainingDevice,
    *,
    model: Any,
    tokenizer: Any,
    rows: RunDatasets,
) -> Any:
    """Return a trainer that is ready to train; all ways get the same arguments, rows and seed.

    Args:
        way: which trainer.
        config: the run's settings.
        folder: a run folder, for the trainer's own files.
        device: where it trains.
        model: its model, which the trainer changes: every trainer needs a fresh one.
        tokenizer: of the model.
        rows: to train on.
    """
    from transformers import set_seed
    from trl import DPOTrainer

    if way.ours:
        if way.reference_once is not None:
            config = config.model_copy(update={"precompute_ref_log_probs": "on" if way.reference_once else "off"})
        trainer = build_trainer(
            config,
            folder,
            device,
            model=model,
            tokenizer=tokenizer,
            rows=rows,
            callback=RunCallback(Journal(folder), StopRequests(folder), 1),
            resumes=False,
        )
    else:
        arguments = dpo_arguments(
            config, folder, device, evaluates=False, resumes=False, reference_once=bool(way.reference_once)
        )
        arguments.pad_to_multiple_of = way.padding
        set_seed(config.seed)
        trainer = DPOTrainer(
            model=model,
            args=arguments,
            train_dataset=rows.train,
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
    trainer.args.save_strategy = "no"
    return trainer
