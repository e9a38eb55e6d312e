"""[data]: the preference pairs."""

from typing import Literal

from pydantic import field_validator

from dpo_tui.config.setting import Section, setting
from dpo_tui.text.encoding_names import is_text_encoding
from dpo_tui.text.location_list import as_text


def one_is_no_list(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return a list of one dataset as the dataset: configs with and without brackets mean and freeze the same.

    Raises:
        ValueError: a name is empty.
    """
    locations = (value,) if isinstance(value, str) else value
    if not locations or not all(locations):
        raise ValueError("must name a dataset" if len(locations) < 2 else "has an empty name in it")  # noqa: PLR2004
    return locations[0] if len(locations) == 1 else locations


class DataSection(Section):
    """Where the pairs come from and how long they may be."""

    dataset: str | tuple[str, ...] = setting(
        ...,
        "dataset",
        "Preference pairs: a JSONL, JSON, CSV or Parquet file (.gz too), a folder of part files, a pattern such as "
        "parts/*.jsonl, a datasets folder, or a hub id; or a list of these.",
    )
    dataset_weights: list[float] | None = setting(
        None,
        "weights of datasets",
        "Share of each dataset of the list in the mix, such as [0.7, 0.3]. The mix is the largest in which no row "
        "occurs twice; seed chooses the rows. Left out: all rows of each.",
        advanced=True,
    )
    max_seq_length: int = setting(
        1024,
        "longest sequence",
        "Prompt and answer together. A longer answer is cut; a pair whose prompt alone fills it is dropped.",
        unit="tokens",
        ge=16,
        le=1_048_576,
    )
    dataset_config: str | None = setting(None, "subset", "Name of a subset of a hub dataset.", advanced=True)
    dataset_split: str | None = setting(
        None, "split", "Which split to train on. Left out: train, or the only one there is.", advanced=True
    )
    encoding: str | None = setting(
        None,
        "encoding",
        "Encoding of data files that are not UTF-8, such as gb18030 or cp1251. Empty: recognised from the bytes.",
        advanced=True,
    )
    prompt_field: str | None = setting(None, "prompt column", "Column that holds the prompt.", advanced=True)
    chosen_field: str | None = setting(None, "chosen column", "Column that holds the better answer.", advanced=True)
    rejected_field: str | None = setting(None, "rejected column", "Column that holds the worse answer.", advanced=True)
    system_field: str | None = setting(None, "system column", "Column that holds a system message.", advanced=True)
    prefix_field: str | None = setting(
        None,
        "prefix column",
        "Column that holds the beginning of both answers, such as the first steps of a solution; put before both.",
        advanced=True,
    )
    label_field: str | None = setting(
        None,
        "label column",
        "Column that says which of two answers is better, where there are several such columns; for labelled answers "
        "(kto), whether the answer is desirable.",
        advanced=True,
    )
    completion_field: str | None = setting(
        None, "answer column", "Column that holds a labelled answer, for strategy kto.", advanced=True
    )
    rating_threshold: float | None = setting(
        None,
        "rating threshold",
        "Where answers have ratings in place of a label, for strategy kto: from this rating on, one is desirable.",
        advanced=True,
    )
    ranking_pairs: Literal["all", "best-worst"] | None = setting(
        None,
        "pairs of a ranking",
        "Which pairs of a list of answers are made. Left out: all of ranked answers, best and worst of scored ones.",
        advanced=True,
    )
    max_samples: int | None = setting(
        None,
        "rows at most",
        "Use only so many pairs from the start of the data, for a quick trial.",
        advanced=True,
        ge=1,
    )
    truncation_mode: Literal["keep_start", "keep_end"] = setting(
        "keep_start", "truncation", "Which end of a pair that is too long is kept.", advanced=True
    )
    dataset_num_proc: int | None = setting(
        None, "tokenising processes", "Processes that tokenise the data.", advanced=True, ge=1, le=256
    )

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets, one or several."""
        return (self.dataset,) if isinstance(self.dataset, str) else self.dataset

    @property
    def dataset_text(self) -> str:
        """The datasets as one text for people."""
        return as_text(self.dataset)

    @field_validator("dataset")
    @classmethod
    def _one_dataset_is_no_list(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return one_is_no_list(value)

    @field_validator("dataset_weights")
    @classmethod
    def _weights_above_zero(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not all(weight > 0 for weight in value):
            raise ValueError("must be above 0; leave a dataset out of the list instead")
        return value or None

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        if not is_text_encoding(value):
            raise ValueError("is no encoding of text that Python knows; for example utf-8, cp1252, gb18030, shift_jis")
        return value.strip()
