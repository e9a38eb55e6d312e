"""What a scan is asked to do, as the line of JSON that goes to its process."""

from dataclasses import dataclass

import orjson

from dpo_tui.data.source.source import Source


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to scan.

    Args:
        source: the dataset.
        model: a model's folder or hub id, to count tokens with its tokenizer; None counts characters only.
        max_length: tokens that TRL keeps of prompt and answer; None drops and cuts nothing.
        workers: processes; None takes one for each core.
        evaluation: the evaluation split, to look for leaks; None looks beside the training split.
    """

    source: Source
    model: str | None = None
    max_length: int | None = None
    workers: int | None = None
    evaluation: Source | None = None

    @classmethod
    def from_json(cls, line: bytes) -> "ScanRequest":
        """Read such a line."""
        document = orjson.loads(line)
        source = Source(**document.pop("source"))
        evaluation = document.pop("evaluation")
        return cls(source=source, evaluation=Source(**evaluation) if evaluation else None, **document)
