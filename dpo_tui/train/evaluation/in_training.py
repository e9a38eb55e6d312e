"""Looks at the model while it trains: the KL estimate and the sampled answers, at each evaluation, in little time."""

from typing import Any

import torch

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.pair import Message
from dpo_tui.strategies.metric_expectations import KL_REASONABLE
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.train.evaluation.generation import Halt, prompt_ids
from dpo_tui.train.evaluation.kl import KlEstimate, estimate_kl, has_reference
from dpo_tui.train.evaluation.samples import answers
from dpo_tui.train.evaluation.time_budget import EvaluationCost, StepTimer, TimeBudget
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequests

FEWEST = 4
"""Answers below which a KL estimate is not worth its name; enough at the start, where it is zero."""
_OUTSIDE_SECONDS = 60.0
"""How long answering may take before and after the training."""


class InTrainingEvaluation:
    """Estimates KL and samples answers; writes metrics, events and samples of a run.

    Args:
        config: of the run.
        trainer: TRL's, built.
        tokenizer: with a chat template.
        prompts: held-out prompts where there are any: the first are answered for people, more are for KL.
        journal: where answers and events go.
        interruption: a request to stop ends a look at once.
        first_step: the step that this attempt starts from.
    """

    def __init__(
        self,
        config: Config,
        trainer: Any,
        tokenizer: Any,
        *,
        prompts: list[list[Message]],
        journal: Journal,
        interruption: StopRequests,
        first_step: int = 0,
    ) -> None:
        self.config, self.trainer, self.tokenizer = config, trainer, tokenizer
        self.journal, self.interruption = journal, interruption
        self.shown = prompts[: config.sample_prompts]
        self.allowance = TimeBudget(config.looks_share, first_step)
        self._kl_cost, self._sample_cost = EvaluationCost(), EvaluationCost()
        self._kl_prompts = self._prompts_for_kl(prompts)
        self._said: set[str] = set()
        self._above = False

    def before(self) -> None:
        """Answer the prompts before the first step; policy and reference are the same model then."""
        for sample in self._answer("before", "policy", _OUTSIDE_SECONDS):
            if strategy_of(self.config).has_reference:
                self.journal.sample({**sample, "when": "reference", "model": "reference"})

    def after(self) -> None:
        """Answer the prompts after the last step."""
        self._answer("after", "policy", _OUTSIDE_SECONDS)

    def at_evaluation(self, pace: StepTimer) -> bool:
        """Look at the model after an evaluation.

        Returns:
            Whether the training should end early, because the KL estimate is above the config's ``kl_stop``.
        """
        began = self.allowance.clock()
        allowed = self.allowance.seconds(pace)
        estimate = self._estimate(pace, allowed)
        left = allowed - (self.allowance.clock() - began)
        if pace.step and not pace.is_last:
            self._sample(left)
        self.allowance.spend(self.allowance.clock() - began)
        return estimate is not None and self._judge(estimate, pace.step)

    def _prompts_for_kl(self, prompts: list[list[Message]]) -> list[list[int]]:
        config = self.config
        if not strategy_of(config).has_reference or config.kl_prompts == 0:
            return []
        if not has_reference(self.trainer):
            self._say_once(
                "no-reference",
                "KL is not estimated: with precompute_ref_log_probs and full fine-tuning no reference stays in memory",
            )
            return []
        rows = [prompt_ids(self.tokenizer, prompt) for prompt in prompts[: config.kl_prompts]]
        return [row for row in rows if len(row) <= config.max_seq_length]

    def _estimate(self, pace: StepTimer, allowed: float) -> KlEstimate | None:
        wanted = len(self._kl_prompts) if pace.step else min(FEWEST, len(self._kl_prompts))
        if not wanted:
            return None
        count = self._kl_cost.affordable(wanted, allowed)
        if count < min(FEWEST, wanted):
            self._say_too_dear("The KL estimate is", self._kl_cost, wanted, allowed, pace.step)
            return None
        if count < wanted:
            self._say_once(
                "kl-fewer",
                f"KL is estimated from {count} answers instead of {wanted}, to take at most "
                f"{self.config.looks_share:.0%} of the training time (looks_share)",
            )
        self.journal.progress(0, count, "answers", detail="estimating KL")
        began = self.allowance.clock()
        try:
            estimate = estimate_kl(
                self.trainer,
                self.tokenizer,
                self._kl_prompts[:count],
                self.config.kl_max_new_tokens,
                seed=self.config.seed,
                halt=self._halt(self.allowance.deadline(allowed)),
            )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._kl_prompts = []
            self._say_once("kl-memory", "KL is not estimated: sampling answers does not fit into the GPU's memory")
            return None
        self._kl_cost = EvaluationCost(estimate.n if estimate else count, self.allowance.clock() - began)
        if estimate is None:
            if not self.interruption.stop_wanted():
                self._say_too_dear("The KL estimate was", self._kl_cost, count, allowed, pace.step)
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

    def _sample(self, allowed: float) -> None:
        count = self._sample_cost.affordable(len(self.shown), allowed)
        if count < len(self.shown):
            which = f"{count} of {len(self.shown)} sample prompts" if count > 0 else "no sample prompts"
            self._say_once(
                "sample",
                f"At evaluations {which} are answered, to take at most {self.config.looks_share:.0%} of the training "
                "time (looks_share)",
            )
        if count > 0:
            self._answer("evaluation", "policy", allowed, count)

    def _answer(self, when: str, model: str, allowed: float, count: int | None = None) -> list[dict[str, Any]]:
        prompts = self.shown[:count]
        if not prompts:
            return []
        self.journal.phase("sample")
        began = self.allowance.clock()
        halt = self._halt(self.allowance.deadline(allowed))
        step = self.trainer.state.global_step
        found: list[dict[str, Any]] = []
        with self.trainer.accelerator.autocast():
            texts = answers(self.trainer.model, self.tokenizer, prompts, self.config.sample_max_new_tokens, halt)
            for prompt, answer in zip(prompts, texts, strict=False):
                found.append({"when": when, "step": step, "model": model, "prompt": prompt, "answer": answer})
                self.journal.sample(found[-1])
                self.journal.progress(len(found), len(prompts), "answers")
        self._sample_cost = EvaluationCost(max(len(found), 1), self.allowance.clock() - began)
        if len(found) < len(prompts) and not self.interruption.stop_wanted():
            self.journal.event(
                "warning", f"Only {len(found)} of {len(prompts)} sample prompts were answered in the time for it"
            )
        return found

    def _judge(self, estimate: KlEstimate, step: int) -> bool:
        words = f"{estimate.mean:.1f} ± {estimate.stderr:.1f} nats an answer ({estimate.n} answers)"
        if estimate.mean > KL_REASONABLE and not self._above:
            self.journal.event(
                "warning",
                f"KL to the reference is about {words}, above {KL_REASONABLE:g}: "
                "the policy drifts far from the reference",
                rule="kl",
                step=step,
            )
        self._above = estimate.mean > KL_REASONABLE
        if self.config.kl_stop is None or estimate.mean <= self.config.kl_stop:
            return False
        self.journal.event(
            "warning", f"Training ends at step {step}: KL {words} is above kl_stop = {self.config.kl_stop:g}", step=step
        )
        return True

    def _halt(self, deadline: float) -> Halt:
        return lambda: self.allowance.clock() > deadline or self.interruption.stop_wanted()

    def _say_too_dear(self, what: str, cost: EvaluationCost, wanted: int, allowed: float, step: int) -> None:
        expected = cost.seconds * wanted / max(cost.prompts, 1)
        self._say_once(
            "kl-skipped",
            f"{what} left out at step {step}: {wanted} answers take about {expected:.1f} s, and {allowed:.1f} s are "
            f"left of {self.config.looks_share:.0%} of the training time (looks_share, kl_prompts)",
        )

    def _say_once(self, key: str, message: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self.journal.event("note", message)
