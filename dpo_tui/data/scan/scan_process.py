"""Run a scan in a child process, so that the app stays responsive and a scan can be cancelled at any moment."""

import dataclasses
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DataError
from dpo_tui.processes.json_child import ChildError, JsonChild, Message


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to scan, and how.

    Args:
        source: the dataset.
        model: a model's folder or hub id, to count tokens with its tokenizer; None counts characters only.
        max_length: tokens that TRL keeps of prompt and answer; None drops and truncates nothing.
        workers: processes; None for one per core.
        evaluation: the evaluation split, to find leaks; None for the one next to the training split.
        truncation: which end of a pair that is too long TRL keeps.
        template: settings of the model's chat template.
    """

    source: Source
    model: str | None = None
    max_length: int | None = None
    workers: int | None = None
    evaluation: Source | None = None
    truncation: str = "keep_start"
    template: TemplateSettings = field(default_factory=TemplateSettings)

    @classmethod
    def from_json(cls, line: bytes) -> "ScanRequest":
        """Read the request that `ScanProcess` sends to the child."""
        document = json.loads(line)
        source = Source.from_json(document.pop("source"))
        evaluation = document.pop("evaluation")
        return cls(
            source=source,
            template=TemplateSettings(**document.pop("template")),
            evaluation=Source.from_json(evaluation) if evaluation else None,
            **document,
        )


class ScanProcess(JsonChild):
    """One scan, as a child process; leaving the context, or :meth:`close`, ends the child and its workers.

    Args:
        request: what to scan.
    """

    def __init__(self, request: ScanRequest) -> None:
        # Hashes of texts are compared between the processes of a scan, so these share a seed. It is random, so that no
        # file can be crafted whose texts collide.
        environment = {"PYTHONHASHSEED": str(secrets.randbelow(2**32)), "OMP_NUM_THREADS": "1"}
        # A process and not a thread: scanning holds the interpreter's lock for as long as it runs, which would freeze
        # the screen, and a thread cannot be ended from outside. One thread for numpy's libraries, as the scan already
        # has a process for each core.
        super().__init__("dpo_tui.data.scan.scanner", "the scan", environment=environment)
        self.send(dataclasses.asdict(request))

    def events(self) -> Iterator[Message]:
        """Yield the events of the scan as they come; the last one is ``report``.

        Yields:
            ``{"event": "progress", "phase", "done", "total"}``, ``{"event": "partial", "report"}`` and at last
            ``{"event": "report", "report"}``.

        Raises:
            DataError: the dataset cannot be read, or the child died.
        """
        try:
            for event in self.messages():
                if event["event"] == "error":
                    raise DataError(event["message"], hint=event["hint"])
                yield event
                if event["event"] == "report":
                    return
            raise self.died()
        except ChildError as error:
            raise DataError(error.message, hint=error.hint) from error
