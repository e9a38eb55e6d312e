"""The separate data that a config evaluates on: where it is, its subset, and which split of it."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpo_tui.data.source.dataset_splits import EVALUATION_WORDS, TRAINING_SPLITS, choose_split
from dpo_tui.data.source.locate import splits_of
from dpo_tui.data.source.source import Source, training_source
from dpo_tui.errors import DataError
from dpo_tui.paths import expanded

if TYPE_CHECKING:
    from dpo_tui.config.schema import Config


@dataclass(frozen=True, slots=True)
class EvaluationSource:
    """Separate evaluation data.

    Args:
        source: the data; its split is named wherever it has several.
        note: which split was taken, and why, in words; empty where there is nothing to choose.
    """

    source: Source
    note: str = ""


def evaluation_source(config: "Config") -> EvaluationSource | None:
    """The separate evaluation data of a config; None when a part of the training data is held out instead.

    Subset and split of the training data are those of its own location only. A split that no setting names is one for
    evaluation, such as ``test``; never the one that is trained on.

    Raises:
        DataError: the location is that of the training data, and has no other split.
    """
    if not config.has_evaluation_data:
        return None
    training = training_source(config)
    same = not config.eval_datasets or any(
        is_same_location(one, place) for one in config.eval_datasets for place in training.locations
    )
    subset = config.eval_dataset_config or (training.subset if same else None)
    locations = config.eval_datasets or training.locations
    source = replace(
        training,
        location=locations[0],
        more=locations[1:],
        subset=subset,
        split=config.eval_dataset_split,
        max_rows=None,
        weights=(),
    )
    trained = replace(training, location=locations[0], more=()) if same and subset == training.subset else None
    if len(locations) > 1 and source.split is None:
        # Each is read as a dataset of its own, with the split that it is found by.
        return EvaluationSource(source, f"evaluation: {_ROWS_TRAINED_ON}" if same else "")
    if source.split is not None:
        own = trained is not None and source.split in ((training.split,) if training.split else TRAINING_SPLITS)
        return EvaluationSource(source, f"evaluation: {_ROWS_TRAINED_ON}" if own else "")
    return _with_split(source, trained)


_ROWS_TRAINED_ON = "on the rows that are trained on, so the result flatters"


def _with_split(source: Source, trained: Source | None) -> EvaluationSource:
    """Choose the split that no setting names.

    Args:
        source: the evaluation data.
        trained: the training data, where it is the same location and subset.
    """
    splits = splits_of(source)
    own = ""
    if trained is not None:
        if not splits:
            if not expanded(source.location).exists():
                raise _nothing_but("no split by name", source)
            return EvaluationSource(source, f"evaluation: {_ROWS_TRAINED_ON}: eval_dataset is the dataset itself")
        own = choose_split(splits, trained.split, source.location)
    kind = re.sub(r"^[a-z]+", "", own or source.split or "")  # such as the _prefs of train_prefs
    wanted = [word + end for end in dict.fromkeys((kind, "", "_prefs")) for word in EVALUATION_WORDS]
    found = next((name for name in wanted if name in splits and name != own), None)
    if found is not None:
        chosen = replace(source, split=found)
        return EvaluationSource(chosen, f"evaluation: on the split {found} of {source.location}")
    if trained is not None:
        raise _nothing_but(f"no split to evaluate on beside {own}, which is trained on", source)
    if len(splits) < 2:  # noqa: PLR2004 (nothing to choose)
        return EvaluationSource(source)
    own = choose_split(splits, None, source.location)
    note = f"evaluation: {source.location} has no split such as test, so its split {own} is used"
    return EvaluationSource(replace(source, split=own), note)


def _nothing_but(what: str, source: Source) -> DataError:
    return DataError(
        f"{source.location} has {what}",
        hint="Leave eval_dataset out: eval_split holds a part of the rows out. Or name a split: eval_dataset_split.",
    )


def is_same_location(one: str, other: str) -> bool:
    """Whether two locations are the same, also where one is a relative path."""
    if one == other:
        return True
    paths = expanded(one), expanded(other)
    return all(path.exists() for path in paths) and paths[0].resolve() == paths[1].resolve()
