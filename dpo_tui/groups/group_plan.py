"""plan.json: what a group is to train, frozen when it was made. Standard library only.

A plan is a list of members, each a run that has been checked, and the limits within which a driver starts them.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.groups.group_folder import CONTRACT_VERSION, GroupFolder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.frozen_run import FrozenRun
from dpo_tui.runs.typed_documents import wrong_field


@dataclass(frozen=True)
class GroupMember:
    """A member of a group; its config is a file of its own.

    Args:
        number: counted from 1.
        name: of its run.
        values: the settings that differ within the group, by name.
        reads: a digest of the settings that decide which data, tokens and reference scores its run needs; members with
            the same one share them.
        devices: as in `dpo_tui.runs.frozen_run.FrozenRun`, like all that follow.
        device_request: likewise.
        python: likewise.
        launcher: likewise.
        ranks: likewise.
        estimated_gb: likewise.
    """

    number: int
    name: str
    values: dict[str, Any]
    reads: str = ""
    devices: list[str] = field(default_factory=list)
    device_request: DeviceRequest | None = None
    python: str | None = None
    launcher: str = "local"
    ranks: int = 1
    estimated_gb: dict[str, Any] = field(default_factory=dict)

    @property
    def slots(self) -> int | None:
        """How many such runs this machine can train side by side; None where that is not this machine's to say."""
        if self.launcher == "slurm":
            return None
        return len(self.device_request.candidates) // self.device_request.count if self.device_request else 1

    @property
    def waits_for_devices(self) -> bool:
        """Whether it waits in the queue for a GPU that another run has; without one it would start at once."""
        return bool(self.devices) or self.device_request is not None

    def frozen(self, folder: GroupFolder) -> FrozenRun:
        """The run as it is to be made.

        Raises:
            RunError: the file of its config cannot be read.
        """
        try:
            text = folder.member_config(self.number).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RunError(f"group {folder.id}: the config of its run {self.number} cannot be read: {error}") from None
        return FrozenRun(
            text,
            tuple(self.devices),
            self.device_request,
            self.python,
            self.launcher,
            self.ranks,
            dict(self.estimated_gb),
        )


@dataclass(frozen=True)
class GroupPlan:
    """The contents of ``plan.json``; times are Unix seconds.

    Args:
        id: the group's id.
        name: given by the user; need not be unique.
        kind: what kind of group it is: ``sweep``, or ``round`` of an improvement.
        version: of the contract.
        created_at: when it was made.
        source: the config file that it was made from, as the user named it.
        settings: names of the settings that differ within the group.
        members: in the order in which they start.
        at_most: how many runs may be live at once at most; None for as many as there are GPUs.
        not_before: when the first run may start; None for at once.
        early_stop: whether runs that are clearly behind are stopped.
        argv: the command line, for the receipts of its runs.
        part_of: what has made it, where that is no person: the improvement and its round.
    """

    id: str
    name: str
    kind: str = "sweep"
    version: int = CONTRACT_VERSION
    created_at: float = 0.0
    source: str = ""
    settings: list[str] = field(default_factory=list)
    members: tuple[GroupMember, ...] = ()
    at_most: int | None = None
    not_before: float | None = None
    early_stop: bool = False
    argv: list[str] = field(default_factory=list)
    part_of: dict[str, Any] | None = None

    @property
    def bound(self) -> int:
        """How many of its runs may run or wait in the queue at once.

        One more than can run where there are GPUs: it waits in the queue, takes a GPU at the moment when one is free,
        and is there to be seen. Without a GPU nothing would make the second one wait. Jobs wait in Slurm's queue: as
        many are there as the user says.
        """
        slots = [member.slots for member in self.members]
        if None in slots:
            return _JOBS if self.at_most is None else self.at_most
        most = max((slot for slot in slots if slot), default=1)
        if all(member.waits_for_devices for member in self.members):
            most += 1
        return most if self.at_most is None else min(most, self.at_most)

    def to_dict(self) -> dict[str, Any]:
        """The object that ``plan.json`` holds."""
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        return document | {"members": [_member_document(member) for member in self.members]}


_JOBS = 16
"""Jobs of Slurm that are submitted at once at most, where the user does not say; how many of them run is Slurm's
decision."""
_FIELDS = frozenset(item.name for item in fields(GroupPlan))
_MEMBER_FIELDS = frozenset(item.name for item in fields(GroupMember))


def read_plan(folder: GroupFolder) -> GroupPlan:
    """Read a group's plan.

    Raises:
        RunError: it is missing, torn, of a newer version, or a value has a wrong type.
    """
    document = read_json(folder.plan)
    if document is None:
        raise RunError(f"group {folder.id}: {folder.plan.name} is missing or torn", hint=_delete(folder))
    version = document.get("version", CONTRACT_VERSION)
    if type(version) is int and version > CONTRACT_VERSION:
        raise RunError(
            f"group {folder.id}: its folder has version {version}, written by a newer dpo-tui; "
            f"this one reads up to version {CONTRACT_VERSION}",
            hint="Update dpo-tui, or look at the group with the version that made it.",
        )
    known = {key: value for key, value in document.items() if key in _FIELDS}
    try:
        if not isinstance(members := known.pop("members", None), list):
            raise ValueError("members is not a list")
        if wrong := wrong_field(GroupPlan, known):
            raise ValueError(wrong)
        read = tuple(_member(one) for one in members)
        if [member.number for member in read] != list(range(1, len(read) + 1)):
            raise ValueError("its members are not numbered 1, 2, 3 …")
        return GroupPlan(**{**known, "id": folder.id}, members=read)
    except (TypeError, ValueError) as error:
        raise RunError(f"group {folder.id}: plan.json is not a group's plan: {error}", hint=_delete(folder)) from None


def _member(document: Any) -> GroupMember:
    if not isinstance(document, dict):
        raise ValueError("a member is not an object")
    known = {key: value for key, value in document.items() if key in _MEMBER_FIELDS}
    if wrong := wrong_field(GroupMember, known):
        raise ValueError(wrong)
    if "device_request" in known:
        known["device_request"] = DeviceRequest.from_document(known["device_request"])
    return GroupMember(**known)


def _member_document(member: GroupMember) -> dict[str, Any]:
    request = member.device_request
    return asdict(member) | {"device_request": request.to_document() if request else None}


def _delete(folder: GroupFolder) -> str:
    return f"Delete the group: dpo-tui rm {folder.id}. Its runs stay."
