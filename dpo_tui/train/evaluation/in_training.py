"""In-training evaluation: KL estimate and answers to sample prompts at each of the trainer's evaluations."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.pair import Message
from dpo_tui.strategies.metric_expectations import KL_REASONABLE
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.evaluation.expected_time import expected_seconds
from dpo_tui.train.evaluation.generation import ShouldStop, greedy_answers, prompt_token_ids
from dpo_tui.train.evaluation.kl import KlEstimate, estimate_kl, has_reference
from dpo_tui.train.evaluation.time_budget import EvaluationCost, TimeBudget, TrainingProgress
from dpo_tui.train.model.preserved_state import preserved_state
from dpo_tui.train.model.sharding import is_sharded
from dpo_tui.train.worker.distributed import broadcast_from_first
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

_MIN_KL_ANSWERS = 4
"""Fewer answers make no useful KL estimate. At step 0, where KL is 0, no more are used."""
_KL_OF_RESULT = 0.5
"""Part of the time for the result that the KL estimate gets; the answers to the sample prompts get the rest."""
_OVERRUNS = {"usual": 2.0, "result": 1.5, "before": 1.0}
"""How many times its budget a look may take: what is over is paid for by later looks, of which the last has none."""
T = TypeVar("T")


class InTrainingEvaluation:
    """Estimates KL, answers sample prompts, and writes the metrics, events and samples of both.

    Of several ranks that have the whole model each, rank 0 does it, and the others wait for it in their next
    collective: what is generated depends on time, and on each rank it would be something else. Where the model is
    divided among them (FSDP2), each of its forward passes is a collective: all compute the same, and what depends on
    time is what rank 0 says.

    Args:
        config: of the run.
        trainer: TRL's, ready to train.
        tokenizer: with a chat template.
        prompts: held-out ones where there are any; the first ``sample_prompts`` are answered, the first ``kl_prompts``
            are for the KL estimate.
        tools: for each prompt the schemas of tools that it is trained with; empty without any.
        journal: where samples and events are written.
        stop_requests: a request to stop ends an evaluation at once.
        first_step: the step that this attempt starts from.
    """

    def __init__(
        self,
        config: Config,
        trainer: Any,
        tokenizer: Any,
        *,
        prompts: list[list[Message]],
        tools: Sequence[list[dict[str, Any]] | None] = (),
        journal: Journal,
        stop_requests: StopRequests,
        first_step: int = 0,
    ) -> None:
        self.config, self.trainer, self.tokenizer = config, trainer, tokenizer
        self.journal, self.stop_requests = journal, stop_requests
        self.budget = TimeBudget(config.looks_share, first_step)
        self._sample_prompts = prompts[: config.sample_prompts]
        self._kl_cost, self._sample_cost = EvaluationCost(), EvaluationCost()
        self._tools = list(tools) or [None] * len(prompts)
        self._notes_written: set[str] = set()
        self._kl_prompts = self._prompts_for_kl(prompts)
        self._kl_was_high = False

    def before(self) -> None:
        """Answer the sample prompts before the first step, where policy and reference are the same model."""
        if not self._takes_part():
            return
        if self.config.is_sharded and self.trainer.model.device != self.trainer.accelerator.device:
            self._note_once("before", "No prompt is answered before the training: the model does not fit a GPU whole")
            return
        began = self.budget.clock()
        with preserved_state(self.trainer.model):
            allowed = self._of_first(self.budget.before(self._expected_seconds()))
            samples = self._answer_samples("before", "policy", allowed, overrun=1.0)
        self.budget.spend(self.budget.clock() - began)
        for sample in samples:
            if strategy_of(self.config).has_reference and self.config.ref_model is None:
                self.journal.sample({**sample, "when": "reference", "model": "reference"})

    def after(self, trained: float, step: int | None = None) -> None:
        """Answer the sample prompts with the result.

        Args:
            trained: seconds that the steps of this attempt took.
            step: whose weights are the result, where they are not those of the last one.
        """
        if not self._takes_part():
            return
        began = self.budget.clock()
        self._answer_samples("after", "policy", self._of_first(self.budget.after(trained)), step=step, overrun=1.0)
        self.budget.spend(self.budget.clock() - began, on_result=True)

    def at_evaluation(self, progress: TrainingProgress) -> bool:
        """Estimate KL and answer the sample prompts after one of the trainer's evaluations.

        Returns:
            Whether to end the training early, because the KL estimate is above the config's ``kl_stop``. Only rank 0
            knows; its caller tells the others.
        """
        if not self._takes_part():
            return False
        began = self.budget.clock()
        allowed = self._of_first(self.budget.seconds(progress))
        if progress.is_last and self._sample_prompts:
            allowed *= _KL_OF_RESULT
        # Plain TRL generates nothing here, and a dynamic RoPE would remember the lengths of what is generated.
        with preserved_state(self.trainer.model):
            estimate = self._estimate_kl(progress, allowed)
            left = self._of_first(allowed - (self.budget.clock() - began))
            # Before the first step and after the last one the prompts are answered by themselves.
            if progress.step and not progress.is_last:
                self._sample_within(left)
        self.budget.spend(self.budget.clock() - began, on_result=progress.is_last)
        return estimate is not None and self._exceeds_kl_stop(estimate, progress.step)

    def _prompts_for_kl(self, prompts: list[list[Message]]) -> list[list[int]]:
        """Return the token ids of the prompts for the KL estimate; empty where KL is not estimated."""
        config = self.config
        if not strategy_of(config).has_reference or config.kl_prompts == 0:
            return []
        if not has_reference(self.trainer):
            self._note_once(
                "no-reference",
                "KL is not estimated: with precompute_ref_log_probs no reference model stays in memory",
            )
            return []
        rows = self._token_ids(prompts[: config.kl_prompts])
        return [row for row in rows if len(row) <= config.max_seq_length]

    def _token_ids(self, prompts: Sequence[list[Message]]) -> list[list[int]]:
        """Return the token ids of the first prompts."""
        return [prompt_token_ids(self.tokenizer, *one) for one in zip(prompts, self._tools, strict=False)]

    def _estimate_kl(self, progress: TrainingProgress, allowed: float) -> KlEstimate | None:
        """Estimate KL within ``allowed`` seconds and log it; None where the time or the memory is too short."""
        wanted = len(self._kl_prompts) if progress.step else min(_MIN_KL_ANSWERS, len(self._kl_prompts))
        if not wanted:
            return None
        count = self._of_first(self._kl_cost.affordable(wanted, allowed))
        if count < min(_MIN_KL_ANSWERS, wanted):
            self._note_skipped("The KL estimate is", self._kl_cost, wanted, allowed, progress.step)
            return None
        if count < wanted:
            self._note_once(
                "kl-fewer",
                f"KL is estimated from {count} answers instead of {wanted}, to take at most "
                f"{self.config.looks_share:.0%} of the training time (looks_share)",
            )
        self.journal.progress(0, count, "answers", detail="estimating KL")
        began = self.budget.clock()
        try:
            estimate = estimate_kl(
                self.trainer,
                self.tokenizer,
                self._kl_prompts[:count],
                self.config.kl_max_new_tokens,
                seed=self.config.seed,
                should_stop=self._should_stop(self.budget.deadline(allowed, overrun=_overrun(progress))),
            )
        except torch.OutOfMemoryError:
            if is_sharded(self.trainer.model):
                raise  # on this rank alone, while the others wait for it in a forward pass
            # Give the memory of the failed estimate back before the training continues.
            torch.cuda.empty_cache()
            self._kl_prompts = []
            self._note_once("kl-memory", "KL is not estimated: sampling answers does not fit into the GPU's memory")
            return None
        self._kl_cost = EvaluationCost(estimate.n if estimate else count, self.budget.clock() - began)
        if estimate is None:
            if not self.stop_requests.stop_wanted():
                self._note_skipped("The KL estimate was", self._kl_cost, count, allowed, progress.step)
            return None
        self.trainer.log(
            {
                "eval_kl": estimate.mean,
                "eval_kl_stderr": estimate.stderr,
                "eval_kl_n": estimate.n,
                "kl": estimate.mean,
            }
        )
        return estimate

    def _sample_within(self, allowed: float) -> None:
        """Answer as many sample prompts as ``allowed`` seconds are enough for."""
        count = self._of_first(self._sample_cost.affordable(len(self._sample_prompts), allowed))
        if count < len(self._sample_prompts):
            which = f"{count} of {len(self._sample_prompts)} sample prompts" if count > 0 else "no sample prompts"
            self._note_once(
                "sample",
                f"At evaluations {which} are answered, to take at most {self.config.looks_share:.0%} of the training "
                "time (looks_share)",
            )
        if count > 0:
            self._answer_samples("evaluation", "policy", allowed, count)

    def _answer_samples(
        self,
        when: str,
        model: str,
        allowed: float,
        count: int | None = None,
        *,
        step: int | None = None,
        overrun: float = _OVERRUNS["usual"],
    ) -> list[dict[str, Any]]:
        """Answer the first ``count`` sample prompts, write each answer as it comes, and return what was written."""
        prompts = self._sample_prompts[:count]
        if not prompts:
            return []
        self.journal.phase("sample")
        began = self.budget.clock()
        should_stop = self._should_stop(self.budget.deadline(allowed, overrun=overrun))
        step = self.trainer.state.global_step if step is None else step
        samples: list[dict[str, Any]] = []
        with self.trainer.accelerator.autocast():
            answers = greedy_answers(
                self.trainer.model,
                self.tokenizer,
                self._token_ids(prompts),
                self.config.sample_max_new_tokens,
                should_stop,
            )
            for prompt, answer in zip(prompts, answers, strict=False):
                samples.append({"when": when, "step": step, "model": model, "prompt": prompt, "answer": answer})
                self.journal.sample(samples[-1])
                self.journal.progress(len(samples), len(prompts), "answers")
        self._sample_cost = EvaluationCost(max(len(samples), 1), self.budget.clock() - began)
        if len(samples) < len(prompts) and not self.stop_requests.stop_wanted():
            self.journal.event(
                "warning", f"Only {len(samples)} of {len(prompts)} sample prompts were answered in the time for it"
            )
        return samples

    def _expected_seconds(self) -> float:
        """Estimate how long the training will take; 0 where nothing will be answered."""
        if not self._sample_prompts or self.budget.share >= 1:
            return 0.0
        return expected_seconds(self.trainer, max(self._token_ids(self._sample_prompts), key=len), self.budget.clock)

    def _exceeds_kl_stop(self, estimate: KlEstimate, step: int) -> bool:
        """Warn of a high KL, once while it stays high, and return whether it is above ``kl_stop``."""
        kl = f"{estimate.mean:z.1f} ± {estimate.stderr:.1f} nats an answer ({estimate.n} answers)"
        if estimate.mean > KL_REASONABLE and not self._kl_was_high:
            self.journal.event(
                "warning",
                f"KL to the reference is about {kl}, above {KL_REASONABLE:g}: the policy drifts far from the reference",
                rule="kl",
                step=step,
            )
        self._kl_was_high = estimate.mean > KL_REASONABLE
        if self.config.kl_stop is None or estimate.mean <= self.config.kl_stop:
            return False
        self.journal.event(
            "warning", f"Training ends at step {step}: KL {kl} is above kl_stop = {self.config.kl_stop:g}", step=step
        )
        return True

    def _should_stop(self, deadline: float) -> ShouldStop:
        return lambda: self._of_first(self.budget.clock() > deadline or self.stop_requests.stop_wanted())

    def _takes_part(self) -> bool:
        return self.journal.rank.is_first or is_sharded(self.trainer.model)

    def _of_first(self, value: T) -> T:
        """Return rank 0's value on all ranks that compute together; a collective where the model is divided."""
        return cast(T, broadcast_from_first(value)) if is_sharded(self.trainer.model) else value

    def _note_skipped(self, what: str, cost: EvaluationCost, wanted: int, allowed: float, step: int) -> None:
        expected = cost.seconds * wanted / max(cost.prompts, 1)
        self._note_once(
            "kl-skipped",
            f"{what} left out at step {step}: {wanted} answers take about {expected:.1f} s, and {allowed:.1f} s are "
            f"left of {self.config.looks_share:.0%} of the training time (looks_share, kl_prompts)",
        )

    def _note_once(self, key: str, message: str) -> None:
        if key not in self._notes_written:
            self._notes_written.add(key)
            self.journal.event("note", message)


def _overrun(progress: TrainingProgress) -> float:
    if progress.is_last:
        return _OVERRUNS["result"]
    return _OVERRUNS["before"] if progress.step_seconds is None else _OVERRUNS["usual"]
