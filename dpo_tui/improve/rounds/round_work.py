"""What the steps of a round share: the improvement's folder and plan, its prompts, and how to say how far they are."""

from collections.abc import Callable
from dataclasses import dataclass

from dpo_tui.config.files import LoadedConfig, load
from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import ImprovementPlan, read_plan
from dpo_tui.improve.improvement_store import ImprovementPrompt, read_prompts
from dpo_tui.improve.round_result import read_result
from dpo_tui.judging.answer_sources.answer_source import AnswerSource
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder

Progress = Callable[[str, int, int], None]
"""Called between two answers, verdicts or looks at a training with the step in words, and how far it is of how much;
ends the step by an exception where somebody has asked for that, or a limit is reached."""
WITHOUT_DATA = "-"
"""The dataset of the config until the first round has made one."""


@dataclass(frozen=True)
class RoundWork:
    """An improvement as its steps see it.

    Attributes:
        folder: of the improvement.
        plan: what was asked for.
        progress: to be called often.
        training: prompts that rounds sample answers to and train on.
        held_out: prompts that no round trains on.
    """

    folder: ImprovementFolder
    plan: ImprovementPlan
    progress: Progress
    training: tuple[ImprovementPrompt, ...]
    held_out: tuple[ImprovementPrompt, ...]

    @classmethod
    def of(cls, folder: ImprovementFolder, progress: Progress) -> "RoundWork":
        """Read an improvement's files.

        Raises:
            RunError: one of them cannot be read.
        """
        prompts = read_prompts(folder)
        training = tuple(one for one in prompts if not one.held_out)
        held_out = tuple(one for one in prompts if one.held_out)
        return cls(folder, read_plan(folder), progress, training, held_out)

    def config(self, dataset: str = WITHOUT_DATA) -> LoadedConfig:
        """The config of its trainings, with the origins that its values had: what is left out, a profile may choose.

        Raises:
            ConfigError: it cannot be used any more.
        """
        return load(self.folder.config, {"dataset": dataset})

    def run_before(self, number: int) -> RunFolder | None:
        """The run whose model a round starts from; None for the first, which starts from the start model.

        Raises:
            RunError: the round before is not complete, or its run is gone.
        """
        return None if number == 1 else self.run_of(number - 1)

    def run_of(self, number: int) -> RunFolder:
        """The run whose model a complete round has chosen.

        Raises:
            RunError: the round is not complete, or its run is gone.
        """
        result = read_result(self.folder.round(number))
        if result is None:
            raise RunError(f"improvement {self.folder.id}: round {number} has no result")
        run = store.find(result.run)
        if run.id != result.run:  # `find` takes names too
            raise RunError(f"improvement {self.folder.id}: run {result.run} of round {number} is gone")
        return run

    def answers_from(self, run: RunFolder | None) -> AnswerSource:
        """Who answers: a run's model, or the start model for None."""
        if run is not None:
            return AnswerSource(model=f"run:{run.path}")
        return AnswerSource(model=self.plan.model, settings=self.plan.model_settings)
