"""The rows of a run as TRL's datasets, split into training and held-out parts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from dpo_tui.config.schema import Config
from dpo_tui.data.demonstrations import Demonstration, load_demonstrations
from dpo_tui.data.from_config import evaluation_source, training_source
from dpo_tui.data.pairs import Message, Pair, RowProblem
from dpo_tui.data.read import load_pairs
from dpo_tui.data.refused import without_refused
from dpo_tui.data.source import Progress
from dpo_tui.data.split import different_prompts, split_by_prompt
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm


@dataclass(frozen=True)
class Rows:
    """What a run trains and evaluates on.

    Attributes:
        train: training rows, in TRL's columns.
        held_out: evaluation rows; None where nothing is held out.
        prompts: to answer for people and for the KL estimate, from the held-out part where there is one.
        total: rows in the data.
        dropped: rows that cannot be used, pairs that the model's chat template refuses among them.
        format: as recognised.
        sha256: of the data's bytes.
        repeated: training rows that are exact copies of an earlier one.
        leaked: held-out rows whose prompt is trained on as well.
    """

    train: Dataset
    held_out: Dataset | None
    prompts: list[list[Message]]
    total: int
    dropped: list[RowProblem]
    format: str
    sha256: str
    repeated: int = 0
    leaked: int = 0


def load_rows(config: Config, progress: Progress | None = None) -> Rows:
    """Read, split and convert the data of a run.

    Raises:
        DataError: the data cannot be read or has no usable row.
    """
    return _LOADERS[strategy_of(config).data](config, progress)


def _pair_rows(config: Config, progress: Progress | None) -> Rows:
    loaded = load_pairs(training_source(config), progress)
    pairs, refused = without_refused(loaded.pairs, config, download=True)
    separate = evaluation_source(config)
    if separate is not None:
        train, held_out = pairs, without_refused(load_pairs(separate, progress).pairs, config, download=True)[0]
    else:
        train, held_out = split_by_prompt(pairs, config.eval_split, config.seed)
    return Rows(
        train=_pair_dataset(train),
        held_out=_pair_dataset(held_out) if held_out else None,
        prompts=different_prompts([pair.prompt for pair in held_out or train], _asked_of(config)),
        total=loaded.total,
        dropped=[*loaded.dropped, *refused],
        format=loaded.format,
        sha256=loaded.sha256,
        repeated=len(train) - len({(_key(pair.prompt), _key(pair.chosen), _key(pair.rejected)) for pair in train}),
        leaked=_shared_prompts([pair.prompt for pair in held_out], [pair.prompt for pair in train]),
    )


def _demonstration_rows(config: Config, progress: Progress | None) -> Rows:
    loaded = load_demonstrations(training_source(config), progress)
    separate = evaluation_source(config)
    if separate is not None:
        train, held_out = loaded.rows, load_demonstrations(separate, progress).rows
    else:
        count = min(round(len(loaded.rows) * config.eval_split), len(loaded.rows) - 1)
        train, held_out = loaded.rows[count:], loaded.rows[:count]
    questions = [row.messages[:-1] for row in held_out or train if len(row.messages) > 1]
    return Rows(
        train=_demonstration_dataset(train),
        held_out=_demonstration_dataset(held_out) if held_out else None,
        prompts=different_prompts(questions, _asked_of(config)),
        total=loaded.total,
        dropped=loaded.dropped,
        format=loaded.format,
        sha256=loaded.sha256,
    )


_LOADERS: dict[DataForm, Callable[[Config, Progress | None], Rows]] = {
    DataForm.PAIRS: _pair_rows,
    DataForm.DEMONSTRATIONS: _demonstration_rows,
}


def _pair_dataset(pairs: Sequence[Pair]) -> Dataset:
    columns: dict[str, list[Any]] = {
        "prompt": [pair.prompt for pair in pairs],
        "chosen": [pair.chosen for pair in pairs],
        "rejected": [pair.rejected for pair in pairs],
    }
    return Dataset.from_dict(_with_tools(columns, [pair.tools for pair in pairs]))


def _demonstration_dataset(rows: Sequence[Demonstration]) -> Dataset:
    if all(row.text is not None for row in rows):
        return Dataset.from_dict({"text": [row.text for row in rows]})
    columns: dict[str, list[Any]] = {"messages": [row.messages for row in rows]}
    return Dataset.from_dict(_with_tools(columns, [row.tools for row in rows]))


def _with_tools(columns: dict[str, list[Any]], tools: list[list[dict[str, Any]] | None]) -> dict[str, list[Any]]:
    # TRL takes the schemas as JSON text, which spares Arrow a union of all their shapes.
    if any(tools):
        columns["tools"] = [json.dumps(item) if item else None for item in tools]
    return columns


def _key(messages: list[Message]) -> str:
    return json.dumps(messages, sort_keys=True)


def _shared_prompts(held_out: Sequence[list[Message]], train: Sequence[list[Message]]) -> int:
    trained = {_key(prompt) for prompt in train}
    return sum(_key(prompt) in trained for prompt in held_out)


def _asked_of(config: Config) -> int:
    return max(config.sample_prompts, config.kl_prompts if strategy_of(config).has_reference else 0)
