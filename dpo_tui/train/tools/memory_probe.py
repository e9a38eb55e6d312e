"""Child that measures the memory of real training steps on the longest pairs or answers, to compare with the estimate.

It loads the model and takes two optimizer steps with the run's micro-batch: the first allocates the optimizer's state,
the second has its peak with that state present. Nothing is saved.
"""

import heapq
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_tui.config.files import load, parse_assignment
from dpo_tui.config.schema import Config
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair, text_of
from dpo_tui.data.source.source import training_source
from dpo_tui.errors import TrainingError, UsageError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm
from dpo_tui.train.tools.json_service import Send, serve

_STEPS = 2
# Micro-batches of the longest pairs; more than two, because TRL drops pairs whose prompt fills max_seq_length.
_MICRO_BATCHES = 8


def longest_pairs(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return the pairs with the most characters in prompt and longer answer together."""

    def size(pair: Pair) -> int:
        return len(text_of(pair.prompt)) + max(len(text_of(pair.chosen)), len(text_of(pair.rejected)))

    return heapq.nlargest(count, pairs, key=size)


def longest_answers(rows: Sequence[LabelledAnswer], count: int) -> list[LabelledAnswer]:
    """Return the labelled answers with the most characters in prompt and answer together."""
    return heapq.nlargest(count, rows, key=lambda row: len(text_of(row.prompt)) + len(text_of(row.completion)))


def probe_config(config: Config) -> Config:
    """Return the config of a probe: two steps, no accumulation, no evaluation, no tracker."""
    changes: dict[str, Any] = {
        "max_steps": _STEPS,
        "gradient_accumulation_steps": 1,
        "eval_split": 0.0,
        "eval_dataset": None,
        "report_to": [],
        "group_by_length": False,
    }
    return config.model_copy(update=changes)


def take_steps(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Train for two steps and measure.

    Returns:
        ``device``; ``allocated`` and ``reserved`` (peaks of torch's allocator) and ``taken`` (from the GPU, CUDA
        context included) in bytes, None on a CPU; ``step_seconds``; ``longest`` sequence in tokens; ``pairs``, or
        labelled answers, that TRL did not drop.

    Raises:
        DpoTuiError: data, model or device cannot be used, or memory ran out.
    """
    import torch
    from datasets import Dataset

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config
    from dpo_tui.train.trainer.trainer_registry import TRAINERS

    device = choose_device(config)
    rows = _longest_rows(config)
    on_gpu = device.kind == "cuda"
    before = torch.cuda.mem_get_info()[0] if on_gpu else 0
    tokenizer, _ = load_tokenizer(config)
    entry = TRAINERS[config.strategy]
    arguments = entry.arguments(config, folder, device, evaluates=False, resumes=False)
    arguments.save_strategy = "no"
    trainer = entry.trainer(
        model=load_model(config, device),
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
        peft_config=lora_config(config),
    )
    began = time.perf_counter()
    try:
        trainer.train()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"memory ran out in the probe: {error}", hint="dpo-tui estimate says what would fit"
        ) from None
    seconds = (time.perf_counter() - began) / _STEPS
    return {
        "device": torch.cuda.get_device_name(0) if on_gpu else device.kind,
        "allocated": torch.cuda.max_memory_allocated() if on_gpu else None,
        "reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
        # Free memory that the driver has lost since the start: the allocator's pool and the CUDA context.
        "taken": before - torch.cuda.mem_get_info()[0] if on_gpu else None,
        "step_seconds": seconds,
        "longest": max(_sequence_length(row) for row in trainer.train_dataset),
        "pairs": len(trainer.train_dataset),
    }


def _longest_rows(config: Config) -> dict[str, list[Any]]:
    """Return the longest rows of the data by TRL's columns, for more micro-batches than the probe takes."""
    count = config.per_device_train_batch_size * _MICRO_BATCHES
    if strategy_of(config).data is DataForm.LABELLED:
        answers = longest_answers(load_labelled(training_source(config)).rows, count)
        columns = {"prompt": "prompt", "completion": "completion", "label": "desirable"}
        return {column: [getattr(row, name) for row in answers] for column, name in columns.items()}
    pairs = longest_pairs(load_pairs(training_source(config)).pairs, count)
    return {name: [getattr(pair, name) for pair in pairs] for name in ("prompt", "chosen", "rejected")}


def _sequence_length(row: Mapping[str, Any]) -> int:
    """Return the tokens of the longer sequence of a tokenised pair, or of an answer, prompt included."""
    if "completion_ids" in row:
        return len(row["prompt_ids"]) + len(row["completion_ids"])
    if "chosen_input_ids" in row:  # TRL's experimental trainers keep the prompt in front of each answer
        return max(len(row["chosen_input_ids"]), len(row["rejected_input_ids"]))
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def probe(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for a probe.

    Args:
        request: ``config`` (a file), ``settings`` (a list of K=V that replace the file's).
        send: not used: a probe has no progress to report.

    Returns:
        The measurements of `take_steps`.

    Raises:
        DpoTuiError: the config, its data or the device cannot be used, or memory ran out.
    """
    config = load(Path(request["config"]), dict(parse_assignment(text) for text in request["settings"])).config
    _require_probe(config)
    with tempfile.TemporaryDirectory(prefix="dpo-tui-probe-") as folder:
        return take_steps(probe_config(config), RunFolder(Path(folder)))


def _require_probe(config: Config) -> None:
    """Check that a probe is possible.

    Raises:
        UsageError: the strategy trains on neither pairs nor labelled answers.
        TrainingError: torch sees no GPU.
    """
    import torch

    form = strategy_of(config).data
    if form not in (DataForm.PAIRS, DataForm.LABELLED):
        raise UsageError(
            f"the probe takes its steps on pairs or labelled answers; strategy = {config.strategy} trains on "
            f"{form.value}"
        )
    if config.gpus == "none" or not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        raise TrainingError(f"the probe needs a GPU that torch can use; torch {torch.__version__} ({built}) sees none")


if __name__ == "__main__":
    sys.exit(serve(probe))
