"""Read a run's data and split it into training and held-out rows; worker, judge and screens all use this split.

The rows are read by :mod:`dpo_tui.data.load_pairs`; those that the chat template refuses are left out, and what is left
is split by prompt (:mod:`dpo_tui.data.pairs.hold_out_by_prompt`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from dpo_tui.config.schema import Config
from dpo_tui.data.label_balance import LabelBalance
from dpo_tui.data.load_demonstrations import Demonstration, LoadedDemonstrations, load_demonstrations
from dpo_tui.data.load_labelled import LoadedLabelled, load_labelled, require_both_labels
from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts, held_out_rows, prompt_id, prompt_key
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Message, Pair, RowProblem
from dpo_tui.data.reading_digest import reading_digest
from dpo_tui.data.source.evaluation_source import evaluation_source
from dpo_tui.data.source.source import Progress, training_source
from dpo_tui.data.source_mix import SourceRows
from dpo_tui.data.stored.views import as_stored, divided, divided_by_key, is_without_tools, prompts_in_both
from dpo_tui.data.tokens.renderable_pairs import renderable_demonstrations, renderable_labelled, renderable_pairs
from dpo_tui.errors import DataError
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm

SPLIT_VERSION = 2
"""Version of the split that new runs use; ``receipt.json`` records it, since a resumed run must split as before.

Version 1 holds out the first demonstrations of the file, version 2 chooses them by prompt. Pairs are split by prompt in
both.
"""

Row = TypeVar("Row", Pair, Demonstration, LabelledAnswer)


@dataclass(frozen=True)
class Split(Generic[Row]):
    """Rows to train on and rows held out.

    Attributes:
        train: the rows to train on, in the order of the source.
        held_out: the rows to evaluate on; empty where nothing is held out.
        total: rows in the training data, before anything is held out.
        usable: examples in it that can be used, held out or not.
        dropped: rows of it that cannot be used, including pairs that the model's chat template refuses.
        format: name of the rows' format.
        sha256: of the training data's bytes.
        held_out_sha256: of the separate evaluation data's bytes; empty where a part of the training data is held out.
        notes: what was assumed about the files as a whole, such as their encoding, and what is doubtful about them.
        sources: the rows of each location of the training data, where it has several.
        reading: digest of the rows as they were read, before the chat template leaves any out.
        seed: of the split.
    """

    train: Sequence[Row]
    held_out: Sequence[Row]
    total: int
    usable: int
    dropped: list[RowProblem]
    format: str
    sha256: str
    held_out_sha256: str = ""
    notes: tuple[str, ...] = ()
    sources: tuple[SourceRows, ...] = ()
    reading: str = ""
    seed: int = 0

    @property
    def examples(self) -> int:
        """Number of rows to train and evaluate on."""
        return len(self.train) + len(self.held_out)

    @property
    def leaked(self) -> int:
        """Number of held-out rows whose prompt is trained on as well: possible only with separate evaluation data."""
        return sum(prompt_id(prompt) in self._held_out_and_trained for prompt in prompts_of(self.held_out))

    def untrained_prompts(self) -> list[list[Message]]:
        """The different prompts of the held-out rows that no training row has."""
        different = different_prompts(prompts_of(self.held_out))
        return [prompt for prompt in different if prompt_id(prompt) not in self._held_out_and_trained]

    def untrained_ids(self) -> list[str]:
        """The ids of :meth:`untrained_prompts`, without holding the prompts: there may be hundreds of thousands."""
        ids = dict.fromkeys(prompt_id(prompt) for prompt in prompts_of(self.held_out))
        return [one for one in ids if one not in self._held_out_and_trained]

    @cached_property
    def _held_out_and_trained(self) -> set[str]:
        """Ids of the prompts that are held out and trained on."""
        train, held_out = as_stored(self.train), as_stored(self.held_out)
        if train is not None and held_out is not None and train.columns.has_prompt:
            both = prompts_in_both(held_out, train, partial(prompt_key, seed=self.seed), self.seed)
            return {prompt_id(prompt) for prompt in prompts_of(held_out.where(both))}
        ids = {prompt_id(prompt) for prompt in prompts_of(self.held_out)}
        return {found for prompt in prompts_of(self.train) if (found := prompt_id(prompt)) in ids} if ids else set()

    def tools_of(self, prompts: Sequence[list[Message]]) -> list[list[dict[str, Any]] | None]:
        """The schemas of tools that rows with each of some prompts have; None where they have none."""
        ids = {prompt_id(prompt) for prompt in prompts}
        found: dict[str, list[dict[str, Any]]] = {}
        for rows in (self.held_out, self.train):
            for row in () if is_without_tools(rows) else rows:
                if row.tools and (one := prompt_id(prompt_of(row))) in ids:
                    found.setdefault(one, row.tools)
        return [found.get(prompt_id(prompt)) if found else None for prompt in prompts]


def split_of(
    config: Config, *, download: bool, version: int = SPLIT_VERSION, progress: Progress | None = None
) -> Split[Pair] | Split[Demonstration] | Split[LabelledAnswer]:
    """Read a config's data and split it.

    Args:
        config: the run's settings.
        download: whether the tokenizer's files may be downloaded; without its chat template no pair is refused.
        version: of the split, :data:`SPLIT_VERSION` for a new run, :func:`split_version` for an earlier one.
        progress: called with the bytes of a download that are done.

    Raises:
        DataError: the data cannot be read or has no usable row.
    """
    if strategy_of(config).data is DataForm.DEMONSTRATIONS:
        return split_demonstrations(config, download=download, version=version, progress=progress)
    if strategy_of(config).data is DataForm.LABELLED:
        return split_labelled(config, download=download, progress=progress)
    return split_pairs(config, download=download, progress=progress)


def require_held_out(config: Config, held_out: int) -> None:
    """Refuse a run that keeps its best checkpoint and has no rows to compare checkpoints on.

    Raises:
        DataError: nothing is held out.
    """
    if config.load_best != "none" and not held_out:
        raise DataError(
            f'load_best = "{config.load_best}" compares checkpoints on held-out rows, and none is held out',
            hint="rows are held out by prompt: give more of them, a larger eval_split, or an eval_dataset",
        )


def split_pairs(config: Config, *, download: bool, progress: Progress | None = None) -> Split[Pair]:
    """Read and split preference pairs, without those that the chat template refuses; see :func:`split_of`."""
    loaded = load_pairs(training_source(config), progress)
    usable, refused = renderable_pairs(loaded.pairs, config, download=download)
    notes = loaded.notes
    separate = evaluation_source(config)
    if separate is None:
        train, held_out = hold_out_pairs(usable, config)
        sha256, reading = "", reading_digest(loaded.pairs)
    else:
        evaluation = load_pairs(separate.source, progress)
        train, held_out = usable, renderable_pairs(evaluation.pairs, config, download=download)[0]
        sha256, reading = evaluation.sha256, reading_digest(loaded.pairs, evaluation.pairs)
        notes = [*notes, *filter(None, [separate.note]), *evaluation.notes]
    split = _unsplit(loaded, len(usable), refused, config.seed)
    return replace(split, train=train, held_out=held_out, held_out_sha256=sha256, notes=tuple(notes), reading=reading)


def hold_out_pairs(pairs: Sequence[Pair], config: Config) -> tuple[Sequence[Pair], Sequence[Pair]]:
    """Split the usable pairs of one dataset into training and held-out pairs, as a config says."""
    return _hold_out(pairs, lambda pair: pair.prompt, config)


def split_demonstrations(
    config: Config, *, download: bool = True, version: int = SPLIT_VERSION, progress: Progress | None = None
) -> Split[Demonstration]:
    """Read and split demonstrations; see :func:`split_of`."""
    loaded = load_demonstrations(training_source(config), progress)
    usable, refused = renderable_demonstrations(loaded.rows, config, download=download)
    notes = loaded.notes
    separate = evaluation_source(config)
    if separate is None:
        hold_out = _first_demonstrations if version == 1 else hold_out_demonstrations
        train, held_out = hold_out(usable, config)
        sha256, reading = "", reading_digest(loaded.rows)
    else:
        evaluation = load_demonstrations(separate.source, progress)
        train, held_out = usable, renderable_demonstrations(evaluation.rows, config, download=download)[0]
        sha256, reading = evaluation.sha256, reading_digest(loaded.rows, evaluation.rows)
        notes = [*notes, *filter(None, [separate.note]), *evaluation.notes]
    split = _unsplit(loaded, len(usable), refused, config.seed)
    return replace(split, train=train, held_out=held_out, held_out_sha256=sha256, notes=tuple(notes), reading=reading)


def split_labelled(config: Config, *, download: bool, progress: Progress | None = None) -> Split[LabelledAnswer]:
    """Read and split labelled answers; see :func:`split_of`.

    Raises:
        DataError: all answers, or all that are trained on, have the same label.
    """
    loaded = load_labelled(training_source(config), progress)
    require_both_labels(config.dataset_text, loaded.rows)
    usable, refused = renderable_labelled(loaded.rows, config, download=download)
    separate = evaluation_source(config)
    evaluation = load_labelled(separate.source, progress) if separate is not None else None
    if evaluation is None:
        train, held_out = hold_out_labelled(usable, config)
        sha256, reading, of_evaluation = "", reading_digest(loaded.rows), []
    else:
        train, held_out = usable, renderable_labelled(evaluation.rows, config, download=download)[0]
        sha256, reading = evaluation.sha256, reading_digest(loaded.rows, evaluation.rows)
        of_evaluation = [*filter(None, [separate.note if separate else ""]), *evaluation.notes]
    require_both_labels(config.dataset_text, train, "training")
    notes = [*loaded.notes, *of_evaluation, *LabelBalance.of(train, config.seed).sentences(config.model_dump())]
    split = _unsplit(loaded, len(usable), refused, config.seed)
    return replace(split, train=train, held_out=held_out, held_out_sha256=sha256, notes=tuple(notes), reading=reading)


def hold_out_labelled(
    rows: Sequence[LabelledAnswer], config: Config
) -> tuple[Sequence[LabelledAnswer], Sequence[LabelledAnswer]]:
    """Split the usable labelled answers of one dataset by prompt, as a config says."""
    return _hold_out(rows, lambda row: row.prompt, config)


def _hold_out(
    rows: Sequence[Row], key_prompt: Callable[[Row], list[Message]], config: Config
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Split rows by what counts as their prompt, as a config says."""
    stored = as_stored(rows)
    if stored is None:
        held_out = held_out_rows(map(key_prompt, rows), config.eval_split, config.seed)
        return divided(rows, [place for place, out in enumerate(held_out) if out])
    return divided_by_key(
        stored, lambda prompt: prompt_key(prompt, config.seed), key_prompt, config.eval_split, config.seed
    )


def _unsplit(
    loaded: LoadedPairs | LoadedDemonstrations | LoadedLabelled, usable: int, refused: Sequence[RowProblem], seed: int
) -> Split[Any]:
    """What was loaded, as a split that has no rows yet.

    Args:
        loaded: the training data.
        usable: its rows that can be used.
        refused: those that the chat template refuses.
        seed: of the split.
    """
    dropped = [*loaded.dropped, *(replace(one, place=loaded.places.of(one.row)) for one in refused)]
    return Split(
        train=[],
        held_out=[],
        total=loaded.total,
        usable=usable,
        dropped=dropped,
        format=loaded.format,
        sha256=loaded.sha256,
        sources=tuple(loaded.sources),
        seed=seed,
    )


def hold_out_demonstrations(
    rows: Sequence[Demonstration], config: Config
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Split the usable demonstrations of one dataset by prompt, as a config says."""
    return _hold_out(rows, _split_key, config)


def _first_demonstrations(
    rows: Sequence[Demonstration], config: Config
) -> tuple[Sequence[Demonstration], Sequence[Demonstration]]:
    """Version 1: the first rows of the file are held out, which is a biased part of sorted data."""
    count = min(round(len(rows) * config.eval_split), len(rows) - 1)
    return rows[count:], rows[:count]


def _split_key(row: Demonstration) -> list[Message]:
    # Plain text and a lone message have no prompt: they are their own key, so that copies stay together.
    return prompt_of(row) or row.messages or [{"role": "", "content": row.text}]


def prompt_of(row: Pair | Demonstration | LabelledAnswer) -> list[Message]:
    """The prompt of a row: its own, or of a demonstration all but the last message; empty for plain text."""
    return row.messages[:-1] if isinstance(row, Demonstration) else row.prompt


def prompts_of(rows: Iterable[Pair | Demonstration | LabelledAnswer]) -> Iterator[list[Message]]:
    """The prompt of each row that has one."""
    return (prompt for row in rows if (prompt := prompt_of(row)))


def split_version(receipt: Mapping[str, Any] | None) -> int:
    """The version of the split that a run was made with.

    Args:
        receipt: the run's ``receipt.json``; None when it has not been written yet: the run uses the newest version.
    """
    if receipt is None:
        return SPLIT_VERSION
    version = receipt.get("split_version")  # absent in receipts older than version 2
    return version if isinstance(version, int) else 1


def training_count(config: Config, rows: int) -> int:
    """How many usable rows are trained on, if no two of them have the same prompt: for data too large to read now."""
    if config.has_evaluation_data or not config.eval_split or rows < 2:  # noqa: PLR2004 (one on each side)
        return rows
    # held_out_keys stops before a row that would leave the part as far above the fraction as it was below: so one half
    # rounds down.
    held_out = max(1, math.ceil(rows * config.eval_split - 0.5))
    return rows - min(held_out, rows - 1)
