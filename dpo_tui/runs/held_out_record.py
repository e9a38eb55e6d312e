"""held_out.json: the prompts that a run never trained on, written by the worker and read by the judge.

The judge cannot always determine them by splitting the data again: the file may have changed since, and the tokenizer
whose chat template skips rows may be missing. Standard library only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder


@dataclass(frozen=True)
class HeldOutRecord:
    """The held-out prompts of one run.

    Attributes:
        prompts: ids (`dpo_tui.data.pairs.hold_out_by_prompt.prompt_id`) of the prompts that no attempt of the run
            trained on.
    """

    prompts: frozenset[str]


def write_held_out(folder: RunFolder, prompts: Sequence[str], *, keep_only_earlier: bool = False) -> None:
    """Write the record.

    Args:
        folder: the run.
        prompts: ids of the prompts that are held out now.
        keep_only_earlier: leave out those that the record does not name yet, because the run may have trained on them
            before its data changed.
    """
    if keep_only_earlier:
        earlier = read_held_out(folder)
        prompts = [one for one in prompts if earlier is not None and one in earlier.prompts]
    write_json_atomic(folder.held_out, {"version": 1, "prompts": list(prompts)})


def read_held_out(folder: RunFolder) -> HeldOutRecord | None:
    """Return a run's record; None for a run that has none."""
    content = read_json(folder.held_out)
    prompts = content.get("prompts") if content is not None else None
    return HeldOutRecord(frozenset(map(str, prompts))) if isinstance(prompts, list) else None


def held_out_pairs(folder: RunFolder | None) -> int | None:
    """Number of pairs that a run is evaluated on, as its receipt has it; None where it does not say."""
    data = (read_json(folder.receipt) or {}).get("data") if folder is not None else None
    count = data.get("held_out") if isinstance(data, dict) else None
    return count if type(count) is int and count > 0 else None
