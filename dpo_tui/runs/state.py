"""state.json: the state of a run as its supervisor writes it. Standard library only."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.contract_version import CONTRACT_VERSION, refuse_newer
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.naming import given_name
from dpo_tui.runs.status_names import StateName
from dpo_tui.runs.typed_documents import wrong_field


@dataclass(frozen=True)
class State:
    """The contents of ``state.json``; times are Unix seconds.

    Args:
        version: of the run folder's contract.
        id: the run's id.
        name: given by the user; need not be unique.
        status: the last one that the supervisor wrote.
        reason: why, as a sentence for the user; empty when the status needs none.
        attempt: how many times a worker was started: 0 before the first, one more for each resume and each retry.
        returncode: the last worker's, negative for a signal.
        supervisor_pid: and ``supervisor_start``, its start in clock ticks after boot, which distinguishes it from a
            later process with the same pid.
        worker_pid: and ``worker_start``, likewise.
        host: where the supervisor ran, and ``boot_id`` of that machine's kernel.
        created_at: when the run was created; ``queued_at``: when it, or its resume, entered the queue.
        started_at: when its first worker started; ``attempt_started_at``: when its latest did.
        ended_at: when the supervisor saw the end.
        after: id of a run that must have ended, in any way, before this one starts.
        devices: devices that it uses alone, such as ``["gpu:0"]``; empty for none, and with a ``device_request`` until
            the run leaves the queue.
        device_request: candidates for its devices; ``None`` for a run that names its devices or needs none.
        per_device_train_batch_size: and ``gradient_accumulation_steps``: their values after out-of-memory retries;
            ``None`` while those of the config apply.
        worker_argv: the command of the last worker.
        python: the interpreter that the worker needs; ``None`` for that of the process that starts the run.
        launcher: how its worker starts, a name in `dpo_tui.runs.launchers.registry`.
        ranks: number of processes that train together.
        job: the batch job that its supervisor runs in: ``id``, ``node`` and ``restarts``, and ``nodes`` where they are
            several; ``None`` without one.
        group: the group that started it: ``id``, ``kind``, ``member`` (from 1) and ``values``, the settings that
            differ within the group; ``None`` for a run of its own.
    """

    id: str
    name: str
    status: StateName = "queued"
    version: int = CONTRACT_VERSION
    reason: str = ""
    attempt: int = 0
    returncode: int | None = None
    supervisor_pid: int | None = None
    supervisor_start: int | None = None
    worker_pid: int | None = None
    worker_start: int | None = None
    host: str = ""
    boot_id: str = ""
    created_at: float = 0.0
    queued_at: float = 0.0
    started_at: float | None = None
    attempt_started_at: float | None = None
    ended_at: float | None = None
    after: str | None = None
    devices: list[str] = field(default_factory=list)
    device_request: DeviceRequest | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    worker_argv: list[str] | None = None
    python: str | None = None
    launcher: str = "local"
    ranks: int = 1
    job: dict[str, Any] | None = None
    group: dict[str, Any] | None = None

    def attempt_since(self, now: float) -> float | None:
        """From when on files are the current attempt's; None where that is not known.

        It is not where the attempt began in the future: the clock has been set back since, and the times of its files
        would make them an earlier attempt's until it has caught up.

        Args:
            now: Unix time.
        """
        began = self.attempt_started_at
        return began if began is not None and began <= now else None

    def to_dict(self) -> dict[str, Any]:
        """The object that ``state.json`` holds."""
        document = {name: getattr(self, name) for name in _FIELDS}
        if self.device_request is not None:
            document["device_request"] = self.device_request.to_document()
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any], run: str = "?") -> "State":
        """Read what `to_dict` wrote; unknown keys of the same version are ignored.

        Args:
            document: the object.
            run: id of the run that an error names, which the object need not have.

        Raises:
            RunError: a newer dpo-tui wrote it, or a required key is missing or of a wrong type.
        """
        refuse_newer(document, run)
        known = {key: value for key, value in document.items() if key in _FIELDS}
        try:
            if wrong := wrong_field(cls, known):
                raise ValueError(wrong)
            if "device_request" in known:
                known["device_request"] = DeviceRequest.from_document(known["device_request"])
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise RunError(
                f"run {run}: state.json is not a run's state: {error}",
                hint=f"Delete the run: dpo-tui rm {run}. Or start a new one from its config.toml.",
            ) from None


_FIELDS = dict.fromkeys(item.name for item in fields(State))
"""Names of the fields, in their order; made once, since a list of a thousand runs asks for them every second."""


def read_state(folder: RunFolder) -> State | None:
    """Read a run's state, with its current name; ``None`` when the file is missing or torn.

    Raises:
        RunError: a newer dpo-tui wrote it, or a field is missing or of a wrong type.
    """
    document = read_json(folder.state)
    if document is None:
        return None
    state = State.from_dict(document, folder.id)
    given = given_name(folder)
    return replace(state, name=given) if given else state


def write_state(folder: RunFolder, state: State) -> None:
    """Replace ``state.json``: the supervisor, and `store.create` before there is one.

    While a job of the run waits for its supervisor, its launcher holds the run's lock for the moment of writing.

    Raises:
        OSError: it could not be written; the old state is unchanged.
    """
    write_json_atomic(folder.state, state.to_dict())
