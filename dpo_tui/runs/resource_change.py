"""Resuming a run on other GPUs, or on another number of processes, with the same effective batch.

Standard library only.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from dpo_tui.errors import UsageError
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.out_of_memory_retry import MicroBatch


@dataclass(frozen=True)
class ResourceChange:
    """What a resumed run trains on from now on: fields of `dpo_tui.runs.state.State`.

    Args:
        ranks: number of processes; ``launcher``: how they start.
        devices: that it names, or ``device_request``: candidates for them.
        per_device_train_batch_size: and ``gradient_accumulation_steps``, with which the effective batch stays.
    """

    ranks: int
    launcher: str
    devices: list[str]
    device_request: DeviceRequest | None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int

    def to_json(self) -> str:
        """The text of one command-line argument."""
        request = self.device_request.to_document() if self.device_request else None
        return json.dumps({**asdict(self), "device_request": request})

    @staticmethod
    def state_fields(text: str) -> dict[str, Any]:
        """Read what `to_json` wrote, as fields of the state.

        Raises:
            ValueError: it is something else.
        """
        fields: dict[str, Any] = json.loads(text)
        return fields | {"device_request": DeviceRequest.from_document(fields["device_request"])}


def batch_on(ranks: int, before: MicroBatch, ranks_before: int) -> MicroBatch:
    """The batch of each of so many processes with which a run keeps its effective batch, by another accumulation.

    Args:
        ranks: number of processes from now on.
        before: the batch of each process until now.
        ranks_before: how many there were.

    Raises:
        UsageError: the effective batch cannot be divided so; the message names the numbers that can.
    """
    batches = before.accumulation * ranks_before
    if batches % ranks == 0:
        return MicroBatch(before.micro, batches // ranks)
    fitting = ", ".join(str(count) for count in range(1, batches + 1) if batches % count == 0)
    raise UsageError(
        f"{ranks} processes cannot share an effective batch of {before.micro * batches} in micro-batches of "
        f"{before.micro}: a step has {batches} of them",
        hint=f"numbers of processes that fit: {fitting}",
    )
