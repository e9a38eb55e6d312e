"""Choose a dataset's split, and the files that belong to it by their names."""

import re
from pathlib import Path

from dpo_tui.errors import DataError

# train, test … between separators, and a suffix such as the _prefs of UltraFeedback.
_SPLIT = re.compile(
    r"(?:^|[/_.-])(train(?:ing)?|test(?:ing)?|validation|valid|val|dev|eval(?:uation)?)(_[A-Za-z]+)?(?=$|[/_.-])",
    re.IGNORECASE,
)
_SAME = {"training": "train", "testing": "test", "evaluation": "eval"}
"""Other words for a split, as the `datasets` library has them."""

TRAINING_SPLITS = ("train", "train_prefs")
"""Splits that are trained on where no setting names one, the usual one first."""
_NAMES_SHOWN = 4
WHOLE = "train"
"""What the `datasets` library calls all rows of files whose names have no split in them."""
EVALUATION_WORDS = ("test", "validation", "valid", "val", "dev", "eval")
"""Names of splits to evaluate on, the usual one first."""


class NoPartsError(DataError):
    """A split or subset was named of a dataset that has none, because it is one file."""


def files_of_split(files: list[Path], names: list[str], split: str | None, where: Path | str) -> list[Path]:
    """Choose the files of one split by their names (``train-00000-of-00002.parquet``, ``test.jsonl.gz``).

    Args:
        files: the data files of a dataset.
        names: their names relative to the dataset, in the same order.
        split: the split to take; None takes ``train``, or the only one there is.
        where: the dataset, for the error.

    Raises:
        DataError: there are several splits, none of them ``train``, and none was asked for; or the split that was
            asked for is not there.
    """
    found = [split_word(name) for name in names]
    splits = sorted({word for word in found if word})
    if not splits and split == WHOLE and are_parts(names):
        return files
    if not splits and split is None:
        raise DataError(
            f"{where} holds {len(files)} data files: {', '.join(names[:6])}{', …' if len(names) > 6 else ''}",  # noqa: PLR2004
            hint="Name the file that is meant; or all of a kind by a pattern such as *.jsonl, or several as a list.",
        )
    wanted = choose_split(splits, split, where)
    return [file for file, word in zip(files, found, strict=True) if word == wanted]


def are_parts(names: list[str]) -> bool:
    """Whether files can be parts of one dataset: no name has a split in it, and all are of one kind.

    Args:
        names: relative to the dataset.
    """
    return not any(map(split_word, names)) and len({tuple(Path(name).suffixes[-2:]) for name in names}) == 1


def choose_split(splits: list[str], asked: str | None, where: Path | str) -> str:
    """The split that was asked for, or else the only one, or else ``train``.

    Raises:
        DataError: the split does not exist, or it is not clear which one is meant.
    """
    if asked is not None:
        if asked in splits:
            return asked
        raise DataError(f"{where} has no split {asked!r}", hint=f"It has: {', '.join(splits) or 'none'}.")
    if len(splits) == 1:
        return splits[0]
    for usual in TRAINING_SPLITS:
        if usual in splits:
            return usual
    raise DataError(f"{where} has several splits and none is called train", hint=f"Choose one: {', '.join(splits)}.")


def require_split(split: str, where: Path) -> None:
    """Check that one file may be meant by a split: the one in its name, or ``train``, as `datasets` calls any file.

    Raises:
        NoPartsError: it is another split.
    """
    word = split_word(where.name)
    if split not in (WHOLE, word):
        what = f"which is {word} by its name" if word else "without splits"
        raise NoPartsError(
            f"{where} is one file, {what}: it has no split {split!r}",
            hint="Leave the split out (dataset_split or eval_dataset_split, inspect: --split), or name the file meant.",
        )


def left_note(where: Path, names: list[str], chosen: list[str], kind: str = "split") -> str:
    """Say which files of a folder, or which lists of a file, are read and which are not; empty where all are.

    Args:
        where: the folder or the file.
        names: all of them.
        chosen: those that are read.
        kind: what a name's split is called.
    """
    left = [name for name in names if name not in chosen]
    if not left:
        return ""
    return f"{where.name}: {_named(chosen, kind)} is read; not read: {_named(left, kind)}"


def _named(names: list[str], kind: str) -> str:
    shown = [f"{name} ({kind} {word})" if (word := split_word(name)) and word != name else name for name in names]
    return ", ".join(shown[:_NAMES_SHOWN]) + (", …" if len(shown) > _NAMES_SHOWN else "")


def split_word(name: str) -> str:
    """The split in a file's name, such as ``train`` or ``test_prefs``; empty when there is none."""
    found = _SPLIT.findall(name)
    if not found:
        return ""
    word, kind = map(str, found[-1])
    return _SAME.get(word.lower(), word.lower()) + kind
