"""A model with random weights, its config and pairs, and trainers for it in this process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import random_models, varlen
from benchmarks.gpu_parts.ways import Way, trainer_of
from dpo_tui.config.files import from_values
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import store
from dpo_tui.train.model.device import TrainingDevice, choose_device
from dpo_tui.train.model.load import load_tokenizer
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets


@dataclass(frozen=True)
class Setup:
    """A model's dimensions, the config to train it with, and the pairs; every trainer of it gets fresh weights.

    Attributes:
        model: id in the shipped table of architectures.
        config: of the run; ``model_name`` is a folder with tokenizer and config.json, without weights.
        device: where it trains.
        rows: of the data.
        tokenizer: of the model folder.
        tiny: the family alone.
    """

    model: str
    config: Config
    device: TrainingDevice
    rows: RunDatasets
    tokenizer: Any
    tiny: bool

    @classmethod
    def prepared(cls, scratch: Path, model: str, data: Path, settings: dict[str, Any], *, tiny: bool) -> "Setup":
        """Write the model folder and read the pairs.

        Args:
            scratch: where the model folder goes.
            model: id in the shipped table.
            data: pairs as JSON lines.
            settings: over the defaults; nothing is held out and nothing sampled.
            tiny: the family alone, on the CPU.
        """
        folder = scratch / "models" / (model.rpartition("/")[2] + ("-tiny" if tiny else ""))
        if not (folder / "config.json").is_file():
            random_models.write_folder(folder, model, tiny=tiny)
        config = from_values(
            {
                "model_name": str(folder),
                "dataset": str(data),
                "eval_split": 0.0,
                "sample_prompts": 0,
                "kl_prompts": 0,
                "lora_dropout": 0.0,
                "save_steps": 1_000_000,
                "gpus": "none" if tiny else "auto",
                **settings,
            }
        )
        return cls(model, config, choose_device(config), load_datasets(config), load_tokenizer(config)[0], tiny)

    @property
    def attention(self) -> str:
        """What computes attention, for a table."""
        stands_in = self.config.attn_implementation == "varlen" and self.device.kind != "cuda"
        return self.config.attn_implementation + (", by a reference in plain operations" if stands_in else "")

    def on(self, device: TrainingDevice) -> "Setup":
        """Return the same with another device, or another precision on it."""
        return replace(self, device=device)

    def trainer(self, way: Way, adjust: Callable[[Any], None] = lambda model: None) -> Any:
        """Build a model with random weights, always the same, and a trainer for it.

        Args:
            way: which trainer.
            adjust: called with the model first.

        Raises:
            NotMeasured: this GPU, or this torch, lacks the attention that the config names.
        """
        if self.config.attn_implementation == "varlen":
            varlen.make_available(self.device)
        model = random_models.random_model(
            self.model,
            "cuda" if self.device.kind == "cuda" else "cpu",
            four_bit=self.config.use_4bit,
            dtype=self.device.dtype,
            attention=None if self.config.attn_implementation == "auto" else self.config.attn_implementation,
            tiny=self.tiny,
            seed=self.config.seed,
        )
        adjust(model)
        folder = store.create(to_toml(self.config), name="benchmark", devices=[])
        return trainer_of(way, self.config, folder, self.device, model=model, tokenizer=self.tokenizer, rows=self.rows)


def free_memory() -> None:
    """Give back what a dropped trainer held, and begin a new peak."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
