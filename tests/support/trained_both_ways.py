"""One config trained by plain TRL and by dpo-tui, for tests that compare the two."""

from typing import Any

import torch

from dpo_tui.config.schema import Config
from dpo_tui.runs.folder import RunFolder
from tests.support.training import make_run


class Trained:
    """What a training left: its log by step, and the weights that it trained."""

    def __init__(self, trainer: Any) -> None:
        trainer.train()
        self.trainer = trainer
        self.log = [line for line in trainer.state.log_history if "loss" in line]
        trained = [whole(weight.detach()) for weight in trainer.model.parameters() if weight.requires_grad]
        self.weights = torch.cat([weight.flatten() for weight in trained])


def whole(weight: Any) -> torch.Tensor:
    """A weight that may be spread over several processes."""
    found: torch.Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return found


def plain_trl(config: Config) -> Trained:
    """TRL's own trainer, with the same arguments and nothing of ours in it."""
    from transformers import set_seed
    from trl import DPOTrainer

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trl_arguments import dpo_arguments

    device = choose_device(config)
    arguments = dpo_arguments(config, make_run(config), device, evaluates=False, resumes=False)
    arguments.save_strategy = "no"
    set_seed(config.seed)
    return Trained(
        DPOTrainer(
            model=load_model(config, device),
            args=arguments,
            train_dataset=load_datasets(config).train,
            processing_class=load_tokenizer(config)[0],
            peft_config=lora_config(config),
        )
    )


def plain_trl_evaluating(config: Config, *, on_start: bool) -> Trained:
    """As :func:`plain_trl`, with the held-out rows of the config.

    Args:
        config: has held-out rows.
        on_start: whether they are evaluated before the first step too.
    """
    from transformers import set_seed
    from trl import DPOTrainer

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trl_arguments import dpo_arguments

    device, rows = choose_device(config), load_datasets(config)
    arguments = dpo_arguments(config, make_run(config), device, evaluates=True, resumes=False)
    arguments.save_strategy, arguments.eval_on_start = "no", on_start
    set_seed(config.seed)
    return Trained(
        DPOTrainer(
            model=load_model(config, device),
            args=arguments,
            train_dataset=rows.train,
            eval_dataset=rows.held_out,
            processing_class=load_tokenizer(config)[0],
            peft_config=lora_config(config),
        )
    )


def plain_trl_without_reference(config: Config) -> Trained:
    """TRL's experimental trainer with our token ids; collator, forward pass, losses and metrics are its own."""
    from transformers import set_seed

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import TRAINERS
    from dpo_tui.train.trainer.trl_arguments import dpo_arguments

    entry, device, tokenizer = TRAINERS[config.strategy], choose_device(config), load_tokenizer(config)[0]
    arguments = entry.arguments(config, make_run(config), device, evaluates=False, resumes=False)
    arguments.save_strategy = "no"
    of_dpo = dpo_arguments(config, make_run(config), device, evaluates=False, resumes=False)
    rows = tokenised_for_dpo(load_datasets(config).train, tokenizer, of_dpo)

    class WithOurTokens(entry.trainer):  # type: ignore[misc, name-defined]
        def tokenize_row(self, row: Any, model: Any = None) -> dict[str, list[int]]:
            return as_experimental_row(row, config.max_seq_length, config.truncation_mode)

    set_seed(config.seed)
    return Trained(
        WithOurTokens(
            model=load_model(config, device),
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
    )


def tokenised_for_dpo(rows: Any, tokenizer: Any, arguments: Any) -> Any:
    """The token ids that DPOTrainer makes of rows, without their text."""
    from types import SimpleNamespace

    from trl import DPOTrainer

    from dpo_tui.train.trainer.token_forms import ID_COLUMNS

    this: Any = SimpleNamespace(_tokenizer=tokenizer)
    found = DPOTrainer._prepare_dataset(this, rows, tokenizer, arguments, "train")
    return found.select_columns(list(ID_COLUMNS))


def as_experimental_row(row: Any, longest: int, truncation: str) -> dict[str, list[int]]:
    """A pair of token ids in the columns of TRL's experimental trainers, cut as DPOTrainer's collator does."""
    cut = slice(None, longest) if truncation == "keep_start" else slice(-longest, None)
    found = {"prompt_input_ids": row["prompt_ids"], "prompt_attention_mask": [1] * len(row["prompt_ids"])}
    for name in ("chosen", "rejected"):
        ids = row["prompt_ids"] + row[f"{name}_ids"]
        labels = [-100] * len(row["prompt_ids"]) + row[f"{name}_ids"]
        found |= {f"{name}_input_ids": ids[cut], f"{name}_labels": labels[cut]}
        found[f"{name}_attention_mask"] = [1] * len(ids[cut])
    return found


def ours(config: Config) -> Trained:
    """The trainer of a run, built as the worker builds it."""
    return Trained(worker_trainer(config))


def worker_trainer(config: Config, device: Any = None) -> Any:
    """The trainer itself, on a device other than the one that the config leads to if that is given."""
    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.callbacks import RunCallback
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import build_trainer
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    folder: RunFolder = make_run(config)
    device = device or choose_device(config)
    trainer = build_trainer(
        config,
        folder,
        device,
        model=load_model(config, device),
        tokenizer=load_tokenizer(config)[0],
        rows=load_datasets(config),
        callback=RunCallback(Journal(folder), StopRequests(folder), config.save_total_limit),
        resumes=False,
    )
    trainer.args.save_strategy = "no"
    return trainer
