"""Reader of the files of answers in an improvement's folder."""

from pathlib import Path

from dpo_tui.judging.answer_sources.answer_source import SampledAnswer
from dpo_tui.runs.metrics_reader import read_lines


def read_answers(path: Path) -> list[SampledAnswer]:
    """Return the answers in a file, in its order; of one that was asked for twice, the first."""
    found: dict[tuple[str, int], SampledAnswer] = {}
    for line in read_lines(path):
        try:
            one = SampledAnswer(
                str(line["id"]), int(line["number"]), str(line["text"]), bool(line["cut"]), int(line["tokens"])
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        found.setdefault((one.id, one.number), one)
    return list(found.values())
