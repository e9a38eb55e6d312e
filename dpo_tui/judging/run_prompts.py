"""Prompts of a run's data to judge it on: the held-out ones, which it was not trained on."""

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.data.changed_data import DataChange, checksum_change
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.load_split import Split, prompts_of, split_of, split_version
from dpo_tui.data.pairs.hold_out_by_prompt import different_prompts, prompt_id
from dpo_tui.data.pairs.pair import Message, Pair
from dpo_tui.errors import DataError
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.held_out_record import read_held_out

TRAINED_ON = "Nothing was held out: these prompts were trained on, so the result flatters."


@dataclass(frozen=True)
class Prompts:
    """Prompts to judge a run on.

    Attributes:
        prompts: distinct conversations, in the order of the data.
        held_out: whether they were kept out of the training.
        caution: what to know before believing the result, as a sentence; empty without anything.
        tools: the schemas of tools by the id of the prompt that they are for.
    """

    prompts: list[list[Message]]
    held_out: bool
    caution: str = ""
    tools: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def run_prompts(folder: RunFolder, count: int) -> Prompts:
    """Return up to ``count`` prompts of a run's data: held-out ones, or trained ones where nothing was held out.

    The run's own record says which were held out. A run of an earlier version has none: there its data is split again,
    as its worker did.

    Raises:
        ConfigError: the run's config cannot be read.
        DataError: its data cannot be read any more, or holds none of the prompts that were held out.
    """
    config = load(folder.config).config
    receipt = read_json(folder.receipt)
    split: Split[Any] = split_of(_with_tokenizer(config, folder), download=False, version=split_version(receipt))
    found = _prompts_of(folder, split, receipt, count)
    tools = zip(found.prompts, split.tools_of(found.prompts), strict=True)
    return replace(found, tools={prompt_id(prompt): schemas for prompt, schemas in tools if schemas})


def _prompts_of(folder: RunFolder, split: Split[Any], receipt: Any, count: int) -> Prompts:
    change = checksum_change(receipt, load(folder.config).config, split)
    record = read_held_out(folder)
    if record is None:
        return _split_again(split, change, count)
    # The record has ids of prompts; the data may have changed since, and be split in another way now.
    everything = itertools.chain(split.held_out, split.train)
    kept = different_prompts(prompt for prompt in prompts_of(everything) if prompt_id(prompt) in record.prompts)
    if kept:
        still = f"{len(kept):,} of the {len(record.prompts):,} prompts that the run held out are still there"
        return Prompts(kept[:count], held_out=True, caution=f"{change.message}: {still}." if change else "")
    if record.prompts:
        raise DataError(
            f"none of the {len(record.prompts):,} prompts that run {folder.id} held out is in its data any more",
            hint="Put the data back as it was when the run began.",
        )
    everything = itertools.chain(split.held_out, split.train)
    return Prompts(different_prompts(prompts_of(everything), count), held_out=False, caution=TRAINED_ON)


def _split_again(split: Split[Any], change: DataChange | None, count: int) -> Prompts:
    untrained = split.untrained_prompts()
    if change is not None:
        unknown = "which prompts were held out is not known. Some of these may have been trained on"
        return Prompts(
            untrained[:count] or _trained(split, count), held_out=False, caution=f"{change.message}, so {unknown}."
        )
    if untrained:
        return Prompts(untrained[:count], held_out=True)
    return Prompts(_trained(split, count), held_out=False, caution=TRAINED_ON)


def _trained(split: Split[Pair] | Split[Demonstration], count: int) -> list[list[Message]]:
    return different_prompts(prompts_of(split.train), count)


def _with_tokenizer(config: Config, folder: RunFolder) -> Config:
    """The config with a tokenizer that is on this machine: the model's, or the copy that the result holds.

    Its chat template decides which pairs are dropped, and so which are held out.
    """
    if local_model_folder(config.model_name, config.model_revision) is not None:
        return config
    result = next((one for one in (folder.adapter, folder.merged) if (one / "tokenizer_config.json").is_file()), None)
    return config if result is None else config.model_copy(update={"model_name": str(result), "model_revision": None})
