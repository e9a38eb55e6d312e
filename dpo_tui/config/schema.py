"""The config schema, from which every form, file, check and page about settings is made.

A new setting is one declaration in the module of its section under ``sections/``.
"""

import math
from typing import Any

from pydantic import ConfigDict
from pydantic.fields import FieldInfo

from dpo_tui.config.sections.batch_job import SlurmSection
from dpo_tui.config.sections.compute import ComputeSection
from dpo_tui.config.sections.cpo_loss import CpoSection
from dpo_tui.config.sections.data import DataSection
from dpo_tui.config.sections.dpo_loss import DpoSection
from dpo_tui.config.sections.evaluation import EvalSection
from dpo_tui.config.sections.kto_loss import KtoSection
from dpo_tui.config.sections.library_tables import ModelInitTable, PeftTable, TrlTable
from dpo_tui.config.sections.lora import LoraSection
from dpo_tui.config.sections.model import ModelSection
from dpo_tui.config.sections.run import RunSection
from dpo_tui.config.sections.sft_loss import SftSection
from dpo_tui.config.sections.training import TrainingSection
from dpo_tui.config.setting import OneOf, Section, SettingText
from dpo_tui.strategies.registry import STRATEGIES, strategy_of

# table name -> the section's class, in the order in which files and forms show them.
SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "lora": LoraSection,
    "training": TrainingSection,
    "dpo": DpoSection,
    "kto": KtoSection,
    "cpo": CpoSection,
    "sft": SftSection,
    "eval": EvalSection,
    "compute": ComputeSection,
    "slurm": SlurmSection,
    "run": RunSection,
    "trl": TrlTable,
    "peft": PeftTable,
    "model_init": ModelInitTable,
}
PASSTHROUGH = ("trl", "peft", "model_init")
"""The tables whose keys are not settings but arguments of a library; each is one setting, a mapping."""


class Config(
    ModelSection,
    DataSection,
    LoraSection,
    TrainingSection,
    DpoSection,
    KtoSection,
    CpoSection,
    SftSection,
    EvalSection,
    ComputeSection,
    SlurmSection,
    RunSection,
    TrlTable,
    PeftTable,
    ModelInitTable,
):
    """All settings of a run; immutable. :func:`dpo_tui.config.files.with_changes` makes changed copies."""

    # Here and not at the first use, which may be in two threads at once.
    model_config = ConfigDict(defer_build=False)

    @property
    def named_gpus(self) -> tuple[str, ...]:
        """The GPUs that ``gpus`` names, by number or UUID; empty where it is ``auto``, ``all`` or ``none``."""
        return () if self.gpus in ("auto", "all", "none") else tuple(self.gpus.split(","))

    @property
    def world_size(self) -> int:
        """Number of processes that train together, on all nodes: one a GPU, or ``ranks`` of them on the CPU.

        With ``gpus = "all"`` it is 1 until :mod:`dpo_tui.hardware.gpu_count` has counted the machine's GPUs.
        """
        return self.node_processes * self.nodes

    @property
    def node_processes(self) -> int:
        """Number of processes on one machine."""
        if self.gpus == "none":
            return self.ranks
        return len(self.named_gpus) or self.gpu_count or 1

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP2 divides the model among several processes."""
        return self.distributed == "fsdp2" and self.world_size > 1

    @property
    def process_batch(self) -> int:
        """Pairs of an optimizer step that one process computes: micro-batch × accumulation."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def effective_batch(self) -> int:
        """Pairs that one optimizer step sees: micro-batch × accumulation × processes."""
        return self.process_batch * self.world_size

    @property
    def batch_text(self) -> str:
        """The effective batch as its factors, such as ``2 × 4``, or ``2 × 2 × 2 processes``."""
        processes = f" × {self.world_size} processes" if self.world_size > 1 else ""
        return f"{self.per_device_train_batch_size} × {self.gradient_accumulation_steps}{processes}"

    def steps_per_epoch(self, rows: int) -> int:
        """Optimizer steps of one epoch, counted as transformers' Trainer does.

        The last batch may be short, and so may the last accumulation. With several processes accelerate deals the
        batches out in turn and repeats rows from the start where they do not come out even.

        Args:
            rows: training rows, held-out ones excluded.
        """
        batches = math.ceil(math.ceil(rows / self.per_device_train_batch_size) / self.world_size)
        return max(1, math.ceil(batches / self.gradient_accumulation_steps))

    def training_steps(self, rows: int) -> int:
        """Optimizer steps of the whole training: ``max_steps`` where it is set, else those of all epochs, rounded up.

        Args:
            rows: training rows, held-out ones excluded.
        """
        return self.max_steps or math.ceil(self.num_train_epochs * self.steps_per_epoch(rows))

    @property
    def alpha(self) -> int:
        """LoRA's alpha with its default, twice the rank, filled in."""
        return self.lora_alpha if self.lora_alpha is not None else 2 * self.lora_r

    @property
    def adapted_modules(self) -> str | list[str]:
        """LoRA's target modules as PEFT takes them: ``all-linear`` is a string there, not a list with one item."""
        targets = list(self.lora_target_modules)
        return "all-linear" if targets == ["all-linear"] else targets

    @property
    def adapter_dropout(self) -> float:
        """The rate of dropout that the adapter trains with: 0 where the strategy's trainer switches dropout off."""
        disabled = strategy_of(self).disables_dropout({"disable_dropout": self.disable_dropout})
        return 0.0 if disabled else self.lora_dropout


def fields() -> dict[str, FieldInfo]:
    """Return every setting, by name, in the order of the sections."""
    return {name: info for section in SECTIONS.values() for name, info in section.model_fields.items()}


def default_of(name: str, strategy: str) -> Any:
    """Return the default of a setting, which a strategy may have changed; None where there is none."""
    described = STRATEGIES.get(strategy)
    if described is not None and name in described.defaults:
        return described.defaults[name]
    return fields()[name].get_default(call_default_factory=True)


def section_of(name: str) -> str:
    """Return the table that a setting belongs to.

    Raises:
        KeyError: there is no such setting.
    """
    for table, section in SECTIONS.items():
        if name in section.model_fields:
            return table
    raise KeyError(name)


def setting_text(info: FieldInfo) -> SettingText:
    """Return the title, help and unit of a setting."""
    extra: Any = info.json_schema_extra
    return SettingText(**extra["text"])


def choices(info: FieldInfo) -> tuple[str, ...]:
    """Return the values that a setting is limited to; empty where it is free."""
    registered = next((rule.names() for rule in info.metadata if isinstance(rule, OneOf)), None)
    return _literals(info.annotation) if registered is None else registered


def bounds(info: FieldInfo) -> dict[str, float]:
    """Return the numeric limits of a setting: any of ``gt``, ``ge``, ``lt``, ``le``."""
    found: dict[str, float] = {}
    for rule in info.metadata:
        for key in ("gt", "ge", "lt", "le"):
            value = getattr(rule, key, None)
            if value is not None:
                found[key] = value
    return found


def _literals(annotation: Any) -> tuple[str, ...]:
    arguments = getattr(annotation, "__args__", ())
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return tuple(arguments)
    for argument in arguments:
        if inner := _literals(argument):
            return inner
    return ()
