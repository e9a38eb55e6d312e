"""state.json of an improvement: what its driver does now, and what it has used. Standard library only."""

from dataclasses import dataclass, field, fields
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_folder import CONTRACT_VERSION, ImprovementFolder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.status_names import StateName
from dpo_tui.runs.typed_documents import fits_number, wrong_field


@dataclass(frozen=True)
class ImprovementState:
    """The contents of ``state.json``; times are Unix seconds.

    Args:
        status: the last one that the driver wrote.
        reason: why, as a sentence for the user; empty when the status needs none.
        version: of the contract.
        driver_pid: and ``driver_start``, its start in clock ticks after boot.
        host: where the driver ran, and ``boot_id`` of that machine's kernel.
        started_at: when the first driver took it; ``ended_at``: when it ended.
        round: the round that it is in, counted from 1; 0 before the first.
        step: what it does there, in words.
        done: how far the step is, of ``total``; both 0 where it has no number.
        seconds: spent in each step, over all drivers.
        joules: used by the GPUs that NVML reads, over all drivers; None where none is read.
        unmetered_seconds: in which no GPU told its power, of those in ``seconds``.
        stop: which rule ended it, by the name in `dpo_tui.improve.stop_rules`; empty for none.
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
    round: int = 0
    step: str = ""
    done: int = 0
    total: int = 0
    seconds: dict[str, Any] = field(default_factory=dict)
    joules: float | None = None
    unmetered_seconds: float = 0.0
    stop: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that ``state.json`` holds."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def hours(self) -> float:
        """How long it has worked, over all drivers."""
        return float(sum(self.seconds.values())) / 3600


_FIELDS = frozenset(item.name for item in fields(ImprovementState))


def read_improvement_state(folder: ImprovementFolder) -> ImprovementState:
    """Read an improvement's state; that of one that has not begun where the file is missing or torn.

    Raises:
        RunError: a value has a wrong type.
    """
    document = {key: value for key, value in (read_json(folder.state) or {}).items() if key in _FIELDS}
    wrong = wrong_field(ImprovementState, document)
    seconds = (document.get("seconds") or {}).values() if not wrong else ()
    if not all(map(fits_number, seconds)):
        wrong = "seconds has a value that is no number"
    if wrong:
        raise RunError(
            f"improvement {folder.id}: state.json is not the state of an improvement: {wrong}",
            hint=f"Delete the file {folder.state}, then: dpo-tui resume {folder.id}",
        )
    return ImprovementState(**document)
