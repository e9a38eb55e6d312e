"""The folder of an improvement, ``$DPO_TUI_HOME/improvements/<id>/``: the paths of its files.

The driver is the one writer of all but what `dpo_tui.improve.improvement_store.create` writes once (``plan.json``,
``config.toml``, ``prompts.jsonl``), ``control/``, which takes requests, and ``person.jsonl``. The runs
of its rounds are ordinary runs, each in a group of its round.
"""

from dataclasses import dataclass
from pathlib import Path

from dpo_tui.groups.driven_folder import DrivenFolder

CONTRACT_VERSION = 1
"""The version of the contract that this package writes, and the newest that it reads."""


class ImprovementFolder(DrivenFolder):
    """One improvement's folder: its plan is that of `improvement_plan`, its state that of `improvement_state`."""

    @property
    def config(self) -> Path:
        """The config of its trainings, without data."""
        return self.path / "config.toml"

    @property
    def prompts(self) -> Path:
        """Its prompts, one a line, each with whether it is held out."""
        return self.path / "prompts.jsonl"

    @property
    def start_answers(self) -> Path:
        """The start model's answers to the held-out prompts."""
        return self.path / "start-answers.jsonl"

    @property
    def waiting(self) -> Path:
        """Comparisons that wait for a person: see `dpo_tui.improve.person_verdicts`."""
        return self.path / "waiting.json"

    @property
    def person_verdicts(self) -> Path:
        """Verdicts of a person, one a line; written by whoever asks the person."""
        return self.path / "person.jsonl"

    @property
    def report(self) -> Path:
        """The report as text; ``report.html`` is the same with curves, ``report.json`` its figures."""
        return self.path / "report.md"

    @property
    def report_html(self) -> Path:
        """The report as one HTML file that loads nothing."""
        return self.path / "report.html"

    @property
    def report_figures(self) -> Path:
        """The figures of the report, which can be computed again from the other files and the runs."""
        return self.path / "report.json"

    def round(self, number: int) -> "RoundFolder":
        """The folder of a round, counted from 1."""
        return RoundFolder(self.path / "rounds" / str(number))


@dataclass(frozen=True)
class RoundFolder:
    """One round's folder; the properties name its files, which may not exist yet.

    Args:
        path: the folder itself.
    """

    path: Path

    @property
    def number(self) -> int:
        """The round's number, counted from 1."""
        return int(self.path.name)

    @property
    def answers(self) -> Path:
        """Sampled answers to the training prompts, one a line."""
        return self.path / "answers.jsonl"

    @property
    def judgements(self) -> Path:
        """What the judge said of the answers: a score, or a comparison of two, a line."""
        return self.path / "judgements.jsonl"

    @property
    def pairs(self) -> Path:
        """The preference pairs that the round trains on."""
        return self.path / "pairs.jsonl"

    @property
    def counts(self) -> Path:
        """How many answers and pairs there are, and what was left out and why."""
        return self.path / "counts.json"

    @property
    def result(self) -> Path:
        """The run whose model goes on; its presence means that the round is complete."""
        return self.path / "result.json"

    def held_out_answers(self, run: str) -> Path:
        """Answers of a run's model to the held-out prompts, one a line."""
        return self.path / "held-out" / f"{run}.answers.jsonl"

    def verdicts(self, run: str) -> Path:
        """Verdicts on these answers against those of the start model and of the round before, one a line."""
        return self.path / "held-out" / f"{run}.verdicts.jsonl"
