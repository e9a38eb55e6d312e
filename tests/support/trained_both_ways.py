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


def ours(config: Config) -> Trained:
    """The trainer of a run, built as the worker builds it."""
    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.callbacks import RunCallback
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import build_trainer
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    folder: RunFolder = make_run(config)
    device = choose_device(config)
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
    return Trained(trainer)
