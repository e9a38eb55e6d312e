"""[data]: the preference pairs."""

from typing import Literal

from dpo_tui.config.setting import Section, setting


class DataSection(Section):
    """Where the pairs come from and how long they may be."""

    dataset: str = setting(
        ...,
        "dataset",
        "Preference pairs: a JSONL, JSON, CSV or Parquet file (.gz too), a datasets folder, or a hub id.",
        min_length=1,
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
        "Column that says which of two answers is better, where there are several such columns.",
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
