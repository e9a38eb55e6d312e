"""The rows of a run as TRL's datasets, split into training and held-out parts.

The rows come from :mod:`dpo_tui.data.load_split`. Messages are held by
:class:`dpo_tui.train.trainer.message_dataset.MessageDataset`, whose ``map`` TRL tokenises with. Next:
:mod:`dpo_tui.train.trainer.trainers`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from datasets import Dataset, Value

from dpo_tui.config.schema import Config
from dpo_tui.data.label_balance import LabelBalance
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.load_split import (
    SPLIT_VERSION,
    Row,
    Split,
    prompts_of,
    split_demonstrations,
    split_labelled,
    split_pairs,
)
from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts, prompt_key
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Message, Pair, RowProblem
from dpo_tui.data.pairs.spread_by_prompt import spread_by_prompt
from dpo_tui.data.source.source import Progress
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.stored.spread import spread_places
from dpo_tui.data.stored.stored_rows import StoredRows
from dpo_tui.data.stored.views import as_stored, different_rows
from dpo_tui.data.tokens.template_check import check_config
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.data.tokens.trained_answers import require_trained_answers
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm
from dpo_tui.train.trainer.message_dataset import MessageColumn, MessageDataset


@dataclass(frozen=True)
class RunDatasets:
    """What a run trains and evaluates on.

    Attributes:
        train: training rows, in TRL's columns.
        held_out: evaluation rows; None where nothing is held out.
        prompts: prompts for sampled answers and for the KL estimate, from the held-out part where there is one.
        prompt_tools: for each of these prompts the schemas of tools that its row has; None without any.
        untrained: ids of the held-out prompts that no training row has.
        total: rows in the data.
        dropped: rows that cannot be used, among them pairs that the model's chat template cannot render.
        format: of the data, as recognised.
        sha256: of the data's bytes.
        held_out_sha256: of a separate evaluation file's bytes; empty without one.
        split_version: the version of the split.
        repeated: training rows that are exact copies of an earlier one.
        leaked: held-out rows whose prompt is trained on as well.
        template: what is wrong with the text that the chat template makes of the rows.
        notes: what was assumed about the data's files as a whole, such as their encoding.
        sources: the rows of each location of the training data, where it has several.
        reading: digest of the rows as they were read, see :mod:`dpo_tui.data.reading_digest`.
    """

    train: Dataset
    held_out: Dataset | None
    prompts: list[list[Message]]
    untrained: list[str]
    total: int
    dropped: list[RowProblem]
    format: str
    sha256: str
    held_out_sha256: str = ""
    split_version: int = SPLIT_VERSION
    repeated: int = 0
    leaked: int = 0
    template: tuple[TemplateFinding, ...] = ()
    prompt_tools: list[list[dict[str, Any]] | None] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    sources: tuple[SourceRows, ...] = ()
    reading: str = ""

    @property
    def examples(self) -> int:
        """Number of rows to train and evaluate on, before TRL leaves out those that are too long."""
        return len(self.train) + (len(self.held_out) if self.held_out is not None else 0)


def load_datasets(config: Config, progress: Progress | None = None, *, version: int = SPLIT_VERSION) -> RunDatasets:
    """Read, split and convert the data of a run.

    Args:
        config: the run's settings.
        progress: called with the bytes of a download that are done.
        version: of the split; a resumed run keeps the version of its first attempt.

    Raises:
        DataError: the data cannot be read or has no usable row.
    """
    return _LOADERS[strategy_of(config).data](config, version, progress)


def _pair_rows(config: Config, version: int, progress: Progress | None) -> RunDatasets:
    pairs = split_pairs(config, download=True, progress=progress)
    return _rows(
        config, pairs, _pair_dataset, version, repeated=len(pairs.train) - _different(pairs.train, config.seed)
    )


def _demonstration_rows(config: Config, version: int, progress: Progress | None) -> RunDatasets:
    demonstrations = split_demonstrations(config, version=version, progress=progress)
    for rows in (demonstrations.train, demonstrations.held_out):
        require_trained_answers(config, rows)
    convert = _answered_dataset if config.completion_only_loss else _demonstration_dataset
    return _rows(config, demonstrations, convert, version)


def _labelled_rows(config: Config, version: int, progress: Progress | None) -> RunDatasets:
    answers = split_labelled(config, download=True, progress=progress)
    repeated = LabelBalance.of(answers.train, config.seed).repeated
    ordered = replace(
        answers,
        train=_spread(answers.train, config.seed),
        held_out=_spread(answers.held_out, config.seed),
    )
    return _rows(config, ordered, _labelled_dataset, version, repeated=repeated)


def _spread(rows: Sequence[LabelledAnswer], seed: int) -> Sequence[LabelledAnswer]:
    """The answers in an order in which those to one prompt are far apart."""
    if (stored := as_stored(rows)) is None:
        return spread_by_prompt(rows, seed)
    return stored.select(spread_places(stored.prompt_keys(partial(prompt_key, seed=seed), seed)))


def _rows(
    config: Config, split: Split[Row], convert: Callable[[Sequence[Row]], Dataset], version: int, repeated: int = 0
) -> RunDatasets:
    """Convert a split into datasets. The rows are not kept: training would hold them in memory beside the datasets."""
    prompts = different_prompts(prompts_of(split.held_out or split.train), _most_prompts(config))
    return RunDatasets(
        train=convert(split.train),
        held_out=convert(split.held_out) if split.held_out else None,
        prompts=prompts,
        prompt_tools=split.tools_of(prompts),
        untrained=split.untrained_ids(),
        total=split.total,
        dropped=split.dropped,
        format=split.format,
        sha256=split.sha256,
        held_out_sha256=split.held_out_sha256,
        split_version=version,
        repeated=repeated,
        leaked=split.leaked,
        template=tuple(check_config(config, split.train, download=True)),
        notes=split.notes,
        sources=split.sources,
        reading=split.reading,
    )


_OTHER_TYPES = {"tools": Value("string"), "label": Value("bool")}
"""Types of the columns that are no messages."""
_LOADERS: dict[DataForm, Callable[[Config, int, Progress | None], RunDatasets]] = {
    DataForm.PAIRS: _pair_rows,
    DataForm.DEMONSTRATIONS: _demonstration_rows,
    DataForm.LABELLED: _labelled_rows,
}


def _different(pairs: Sequence[Pair], seed: int) -> int:
    """How many pairs differ from all others."""
    if (stored := as_stored(pairs)) is not None:
        return different_rows(stored, partial(prompt_key, seed=seed), seed)[0]
    return len({(_key(pair.prompt), _key(pair.chosen), _key(pair.rejected)) for pair in pairs})


def _pair_dataset(pairs: Sequence[Pair]) -> Dataset:
    if (stored := as_stored(pairs)) is not None:
        return _stored_dataset(stored)
    columns: dict[str, list[Any]] = {
        "prompt": [pair.prompt for pair in pairs],
        "chosen": [pair.chosen for pair in pairs],
        "rejected": [pair.rejected for pair in pairs],
    }
    return _message_dataset(columns, [pair.tools for pair in pairs])


def _stored_dataset(rows: StoredRows[Any]) -> Dataset:
    names = {name: name for name in rows.columns.messages}
    if "desirable" in rows.columns.names:
        names["label"] = "desirable"
    return MessageDataset.from_stored(rows, names | _tools_of(rows), _OTHER_TYPES)


def _tools_of(rows: StoredRows[Any]) -> dict[str, str]:
    return {"tools": "tools"} if rows.known["has_tools"] else {}


def _demonstration_dataset(rows: Sequence[Demonstration]) -> Dataset:
    if (stored := as_stored(rows)) is not None:
        if (without_text := stored.column_nulls("text")) == len(stored):
            return _stored_dataset(stored)
        if not without_text:
            return MessageDataset.from_stored(stored, {"text": "text"}, {"text": Value("string")})
    if all(row.text is not None for row in rows):
        return Dataset.from_dict({"text": [row.text for row in rows]})
    columns: dict[str, list[Any]] = {"messages": [row.messages for row in rows]}
    return _message_dataset(columns, [row.tools for row in rows])


def _answered_dataset(rows: Sequence[Demonstration]) -> Dataset:
    """Conversations in the columns by which TRL knows the last answer from what comes before it."""
    if (stored := as_stored(rows)) is not None:
        parts = {name: MessageColumn(name) for name in ("prompt", "completion")}
        return MessageDataset.from_stored(
            stored, dict.fromkeys(parts, "messages") | _tools_of(stored), _OTHER_TYPES | parts
        )
    columns: dict[str, list[Any]] = {
        "prompt": [row.messages[:-1] for row in rows],
        "completion": [row.messages[-1:] for row in rows],
    }
    return _message_dataset(columns, [row.tools for row in rows])


def _labelled_dataset(rows: Sequence[LabelledAnswer]) -> Dataset:
    if (stored := as_stored(rows)) is not None:
        return _stored_dataset(stored)
    columns: dict[str, list[Any]] = {
        "prompt": [row.prompt for row in rows],
        "completion": [row.completion for row in rows],
        "label": [row.desirable for row in rows],
    }
    return _message_dataset(columns, [row.tools for row in rows])


def _message_dataset(columns: dict[str, list[Any]], tools: list[list[dict[str, Any]] | None]) -> Dataset:
    # TRL takes the schemas as JSON text: in an Arrow column of structs, every schema would get the keys of all others.
    if any(tools):
        columns["tools"] = [json.dumps(item) if item else None for item in tools]
    return MessageDataset.from_columns(columns, _OTHER_TYPES)


def _key(messages: list[Message]) -> str:
    return json.dumps(messages, sort_keys=True)


def _most_prompts(config: Config) -> int:
    """Return how many prompts in-training evaluation needs at most."""
    return max(config.sample_prompts, config.kl_prompts if strategy_of(config).has_reference else 0)
