"""What a round leaves for those after it: its counts and its result, read so that a damaged file counts as none."""

from dataclasses import dataclass, field, fields
from typing import Any

from dpo_tui.improve.improvement_folder import RoundFolder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.store import is_id
from dpo_tui.runs.typed_documents import wrong_field


@dataclass(frozen=True)
class RoundResult:
    """The contents of ``result.json``, with which a round is complete.

    Args:
        run: id of the run whose model goes on.
        runs: ids of all that the round trained, this one among them.
        group: id of their group.
        without_result: why combinations of a sweep have none, by the combination.
    """

    run: str
    runs: list[str]
    group: str | None = None
    without_result: dict[str, str] = field(default_factory=dict)


def read_result(folder: RoundFolder) -> RoundResult | None:
    """Return a round's result; None where there is none, or a file that the driver has not written so.

    The driver then makes it again of what is beside it, and asks nobody anything. Ids are checked because they become
    paths.
    """
    document = {key: value for key, value in (read_json(folder.result) or {}).items() if key in _RESULT}
    if not {"run", "runs"} <= document.keys() or wrong_field(RoundResult, document):
        return None
    result = RoundResult(**document)
    return result if result.run in result.runs and all(map(is_id, result.runs)) else None


def read_counts(folder: RoundFolder) -> dict[str, Any] | None:
    """Return a round's counts of answers and pairs; None where there are none, or a file not as it was written."""
    found = read_json(folder.counts) or {}
    whole = all(type(found.get(name)) is kind for name, kind in _COUNTS.items())
    return found if whole else None


_RESULT = frozenset(item.name for item in fields(RoundResult))
_COUNTS = {
    "prompts": int,
    "answers": int,
    "tokens": int,
    "dropped": dict,
    "judgements": int,
    "without_pair": dict,
    "pairs": int,
    "chosen_longer": int,
    "judge": dict,
}
