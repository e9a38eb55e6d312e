"""state.json of a group: what its driver has made of the plan. Standard library only."""

from dataclasses import dataclass, field, fields
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import CONTRACT_VERSION, GroupFolder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.status_names import StateName
from dpo_tui.runs.store import is_id
from dpo_tui.runs.typed_documents import wrong_field


@dataclass(frozen=True)
class GroupState:
    """The contents of ``state.json``; times are Unix seconds.

    Args:
        status: the last one that the driver wrote.
        reason: why, as a sentence for the user; empty when the status needs none.
        version: of the contract.
        driver_pid: and ``driver_start``, its start in clock ticks after boot.
        host: where the driver ran, and ``boot_id`` of that machine's kernel.
        started_at: when the first driver took the group; ``ended_at``: when the group ended.
        runs: id of each member's run, by the member's number as text.
        refused: why a member's run could not be started, by its number.
        behind: why a member's run was stopped as clearly behind, by its number.
    """

    status: StateName = "queued"
    reason: str = ""
    version: int = CONTRACT_VERSION
    driver_pid: int | None = None
    driver_start: int | None = None
    host: str = ""
    boot_id: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    runs: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)
    behind: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The object that ``state.json`` holds."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


_FIELDS = frozenset(item.name for item in fields(GroupState))


def read_group_state(folder: GroupFolder) -> GroupState:
    """Read a group's state; that of a group that has not begun where the file is missing or torn.

    Which runs are its own, the driver finds out from the runs, so that a torn file loses nothing.

    Raises:
        RunError: a value has a wrong type.
    """
    document = {key: value for key, value in (read_json(folder.state) or {}).items() if key in _FIELDS}
    wrong = wrong_field(GroupState, document)
    texts = (
        (item for name in ("runs", "refused", "behind") for item in (document.get(name) or {}).items())
        if not wrong
        else ()
    )
    wrong = wrong or next((f"the entry {key!r} is no text" for key, value in texts if not isinstance(value, str)), "")
    # They become paths below the folder of all runs, and `rm GROUP` deletes them.
    runs = document.get("runs", {}).items() if not wrong else ()
    wrong = wrong or next((f"the run of member {key!r} is no run's id" for key, run in runs if not is_id(run)), "")
    if wrong:
        raise RunError(
            f"group {folder.id}: state.json is not a group's state: {wrong}",
            hint=f"Delete the file {folder.state}, then: dpo-tui resume {folder.id}",
        )
    return GroupState(**document)
