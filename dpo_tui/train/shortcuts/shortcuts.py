"""The shortcuts of a run: work that is done once or not at all without changing the result. All off is plain TRL."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from peft import PeftModel

from dpo_tui.errors import TrainingError
from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.preserved_state import preserved_state
from dpo_tui.train.shortcuts.attention_choice import AttentionChoice
from dpo_tui.train.shortcuts.automatic_attention import attention_of_run
from dpo_tui.train.shortcuts.check_budget import (
    CheckBudget,
    CheckedRun,
    DatasetLengths,
    PairSize,
    largest_affordable,
    longest_certain_row,
    step_passes,
)
from dpo_tui.train.shortcuts.equivalence_check import (
    Batch,
    Switch,
    collated,
    find_mismatch,
    probe_batch,
    token_logps,
)
from dpo_tui.train.shortcuts.pair_layout import measure_pairs
from dpo_tui.train.shortcuts.prefix_sharing import PrefixSharing, TokenCount, backbone_of, layout_cost, size_of
from dpo_tui.train.shortcuts.random_draws import random_in_training
from dpo_tui.train.shortcuts.sharing_obstacles import sharing_obstacle
from dpo_tui.train.shortcuts.sparse_lm_head import SparseLMHead, has_fused_head
from dpo_tui.train.shortcuts.training_passes import set_attention
from dpo_tui.train.worker.journal import Journal

# Over the short probe batch: two to find what is random, one as plain TRL and one with the shortcuts.
_SHORT_PASSES = 4


@dataclass
class ShortcutStatus:
    """Whether a run uses one shortcut; a table of ``shortcuts`` in receipt.json.

    Attributes:
        on: whether the run uses it.
        why: the reason, as a clause for a message; empty for a shortcut that is on as usual.
        figures: what it saved, by the keys of the receipt.
    """

    on: bool = False
    why: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Shortcuts:
    """The shortcuts of one trainer: installed in its models, checked on its pairs, active while it computes losses.

    Args:
        journal: where the outcome of the check is written.
        share_prefix: the setting of that name.

    Attributes:
        sharing: computes the prompt of a pair once; entered by the trainer around each loss.
        sparse_head: applies the LM head only at positions with a label.
        has_fused_head: whether TRL gave the models the head that ``sparse_head`` needs.
        reference: whether the reference is scored once, decided by
            :mod:`dpo_tui.train.shortcuts.reference_precompute`.
        probe: the short probe batch; None where no pair has a common prompt.
        sizes: of the training pairs; None before :meth:`install`.
        budget: of the checks; None before :meth:`install`.
        attention: the attention implementation of the run, and why; None before :meth:`install`.
    """

    def __init__(self, journal: Journal, share_prefix: Literal["auto", "on", "off"]) -> None:
        self.journal = journal
        self.share_prefix = share_prefix
        self.sharing = PrefixSharing()
        self.sparse_head = SparseLMHead()
        self.reference = ShortcutStatus()
        self.has_fused_head = False
        self.probe: Batch | None = None
        self.sizes: DatasetLengths | None = None
        self.budget: CheckBudget | None = None
        self.attention: AttentionChoice | None = None
        self._sharing_status = ShortcutStatus()
        self._head_status = ShortcutStatus()
        self._installed = False

    def install(self, trainer: Any) -> None:
        """Install what a trainer's models support and turn off what fails the check; later calls do nothing.

        Raises:
            TrainingError: ``share_prefix = "on"`` with a model that cannot share prompts.
        """
        if self._installed:
            return
        self._installed = True
        models = [_without_adapter(model) for model in (trainer.model, trainer.ref_model) if model is not None]
        self.attention = AttentionChoice(models[0].config._attn_implementation, "as the model was loaded")
        self.has_fused_head = all(has_fused_head(model) for model in models)
        self.sizes = DatasetLengths.of(trainer.train_dataset, trainer.args.max_length)
        if not len(self.sizes):
            return
        # This process's share: the budget of the checks is a part of what it computes itself.
        trained = trainer.config.training_steps(len(self.sizes)) * trainer.config.process_batch
        passes = step_passes(checkpointed=trainer.args.gradient_checkpointing)
        self.budget = CheckBudget(layout_cost(models[0], backbone_of(models[0])), self.sizes, trained, passes)
        run = CheckedRun(trainer, models, self.sizes, self.budget, trained)
        # Off before they are installed: until a check has passed, every pass is plain TRL's, and the checks compare
        # with it.
        self._switch_head(False)
        self._switch_sharing(False)
        if self.has_fused_head:
            for model in models:
                self.sparse_head.install(model)
        obstacle = self._sharing_obstacle(models, trainer)
        if not obstacle:
            for model in models:
                # Both models, as policy and reference see the same batch, and a loss compares their scores.
                self.sharing.install(model, trainer.args.max_length)
        with self.checking(trainer.model):
            # Training mode, because that is what trains: dropout is drawn, and some models take other code.
            trainer.model.train()
            self._check(run, obstacle)

    @contextlib.contextmanager
    def checking(self, model: Any) -> Iterator[None]:
        """Leave no trace of the forward passes of a check: neither in a model nor in what the receipt counts."""
        counted = self.sparse_head.count
        self.sparse_head.reset()
        try:
            with preserved_state(model), self.sharing.checking():
                yield
        finally:
            self.sparse_head.count = counted

    def check_larger_pairs(self, trainer: Any, inputs: dict[str, Any]) -> None:
        """Check sharing again where a batch has a larger pair than those checked so far; before it is computed.

        Only the larger pairs are computed for it, without gradients, so it needs less memory than the batch. Where the
        budget is spent, and with a model spread over processes that all have to run it, the batch is computed as in
        plain TRL instead.

        Raises:
            TrainingError: ``share_prefix = "on"`` and the check finds a mismatch.
        """
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        # The model has refused packed rows since the last batch: the status follows here, where the step is known.
        if self.sharing.ended and self._sharing_status.on:
            self._end_sharing(trainer, self.sharing.ended)
        if not self.sharing.enabled or ids is None or mask is None or _is_sharded(trainer):
            return
        larger = self.sharing.larger_pairs(ids, mask)
        if not larger or self.budget is None:
            return
        size = PairSize(0, 0)
        for _, other in larger:
            size = size.joined(other)
        work = self.budget.cost.of(2 * len(larger), int(size.row)) + self.budget.cost.of(len(larger), int(size.span))
        if not self.budget.spend(work):
            return
        # Of TRL's batch of 2B rows, chosen half first; the pairs that are checked keep that order. Rows are padded on
        # the right, so the columns beyond the longest of these rows hold padding alone.
        rows = [index for index, _ in larger] + [index + len(ids) // 2 for index, _ in larger]
        tensors = {name: inputs[name] for name in ("input_ids", "attention_mask", "completion_mask")}
        batch = {name: tensor[rows, : int(size.row)] for name, tensor in tensors.items()}
        with self.checking(trainer.model):
            mismatch = find_mismatch(trainer, batch, [self._switch_sharing])
        if mismatch:
            self._end_sharing(trainer, mismatch)
        else:
            self._switch_sharing(True)
            self.sharing.largest = self.sharing.largest.joined(size)

    def report(self) -> dict[str, Any]:
        """Return which shortcuts were on and what they saved, for receipt.json."""
        tokens, positions = self.sharing.count, self.sparse_head.count
        self._sharing_status.figures = _figures("tokens", tokens)
        self._head_status.figures = _figures("positions", positions)
        statuses = {
            "share_prefix": self._sharing_status,
            "labelled_head": self._head_status,
            "reference_once": self.reference,
        }
        report = {name: {"on": status.on, "why": status.why, **status.figures} for name, status in statuses.items()}
        return report | ({"attention": self.attention.to_json()} if self.attention else {})

    def _sharing_obstacle(self, models: list[Any], trainer: Any) -> str | None:
        if self.share_prefix == "off":
            return 'share_prefix = "off"'
        obstacles = (sharing_obstacle(model, trainer.args.max_length) for model in models)
        return next((obstacle for obstacle in obstacles if obstacle), None)

    def _check(self, run: CheckedRun, obstacle: str | None) -> None:
        """Check the shortcuts on probe batches and turn on those without a mismatch."""
        trainer, budget = run.trainer, run.budget
        batch = self.probe = probe_batch(trainer)
        if batch is None and not obstacle:
            obstacle = "the pairs have no common prompt"
        mismatches: dict[str, str] = {}
        if batch is not None:
            budget.charge(_SHORT_PASSES * budget.cost.of(*batch["input_ids"].shape))
            # Before the comparison: what is random would differ between its two passes, and be taken for a fault of a
            # shortcut.
            obstacle = self._randomness(trainer, batch, obstacle) or obstacle
            self.attention = attention_of_run(run, self._switch_sharing, obstacle)
            mismatches = self._mismatches(run, batch, shares=not obstacle)
            if "sharing" in mismatches and self._leave_faster_attention(run, mismatches["sharing"]):
                mismatches = self._mismatches(run, batch, shares=True)
        no_head = "" if self.has_fused_head else "this TRL scores every position"
        self._head_status = _status(no_head or mismatches.get("head"))
        self._sharing_status = _status(obstacle or mismatches.get("sharing"))
        self._switch_head(self._head_status.on)
        self._switch_sharing(self._sharing_status.on)
        self._report_check(sharing_mismatch="sharing" in mismatches)

    def _randomness(self, trainer: Any, batch: Batch, obstacle: str | None) -> str | None:
        """Look for what is random in plain TRL's passes over a batch, and return it as a clause; None without any."""
        random = random_in_training(trainer.model, lambda: token_logps(trainer, batch))
        if not random:
            return None
        if trainer.args.disable_dropout:
            message = f"disable_dropout = true does not reach everything that is random in this model: {random}"
            self.journal.event("warning", message)
        return obstacle or f"{random}: a shared prompt would draw its random numbers once for both answers"

    def _large_mismatch(self, run: CheckedRun) -> str | None:
        """Check sharing on the pair with the longest row and on the one with most tokens, as far as the budget goes.

        What these cover is shared without another check.
        """
        trainer, sizes, budget = run.trainer, run.sizes, run.budget
        # Nothing is covered until a check has passed. A batch with a larger pair is checked when it comes
        # (`check_larger_pairs`), so what the budget leaves out here costs speed and never exactness.
        self.sharing.largest = PairSize(0, 0)
        # A model that is going to be spread over processes is whole now, and cannot be checked again later.
        longest_row = float("inf") if _is_sharded(trainer) else longest_certain_row(sizes, run.trained)
        for by in (sizes.rows, sizes.spans):
            index = largest_affordable(sizes, by, budget, longest_row)
            if index is None or self.sharing.largest.covers(PairSize(int(sizes.rows[index]), int(sizes.spans[index]))):
                continue
            budget.spend(float(budget.prices(sizes)[index]))
            batch = collated(trainer, [trainer.train_dataset[index]])
            pairs = measure_pairs(batch["input_ids"], batch["attention_mask"])
            if not pairs:
                continue
            if mismatch := find_mismatch(trainer, batch, [self._switch_sharing]):
                return mismatch
            # Answers that begin alike have a smaller span than was counted for them.
            self.sharing.largest = self.sharing.largest.joined(size_of(pairs[0]))
        return None

    def _leave_faster_attention(self, run: CheckedRun, mismatch: str) -> bool:
        """Go back to the model's own attention; return whether another had been chosen.

        Longer pairs than those that were measured may show a mismatch, and the model's own may share them.
        """
        choice = self.attention
        own = choice.candidates[0].name if choice and choice.candidates else None
        if choice is None or own is None or own == choice.name:
            return False
        why = f"{choice.name} is faster, but {mismatch}"
        self.attention = replace(choice, name=own, why=why)
        set_attention(run.models, own)
        return True

    def _mismatches(self, run: CheckedRun, batch: Batch, *, shares: bool) -> dict[str, str]:
        """Check the head, and sharing if prompts may be shared; return what differs by the shortcut's name."""
        # The head is checked even where prompts cannot be shared, each by itself where both together differ: one that
        # is at fault must not take the other with it.
        switches: dict[str, Switch] = {"head": self._switch_head} if self.has_fused_head else {}
        if shares:
            switches["sharing"] = self._switch_sharing
        mismatches = self._find_mismatches(run.trainer, batch, switches) if switches else {}
        # A short pair proves nothing of a long one: a window, a table of positions or a RoPE that changes with length
        # begins to matter only beyond some length.
        if shares and not mismatches and (mismatch := self._large_mismatch(run)):
            return {"sharing": mismatch}
        return mismatches

    def _find_mismatches(self, trainer: Any, batch: Any, switches: dict[str, Switch]) -> dict[str, str]:
        """Return the mismatch of each shortcut that has one, by its name."""
        # Two forward passes with all of them on are enough where there is no mismatch, which is the usual case.
        if not find_mismatch(trainer, batch, list(switches.values())):
            return {}
        alone = {name: find_mismatch(trainer, batch, [switch]) for name, switch in switches.items()}
        mismatches = {name: mismatch for name, mismatch in alone.items() if mismatch}
        return mismatches or dict.fromkeys(switches, "scores of a real batch differ with both shortcuts together")

    def _report_check(self, *, sharing_mismatch: bool) -> None:
        """Write what the check found into the journal.

        Raises:
            TrainingError: ``share_prefix = "on"`` and prompts are not shared.
        """
        status = self._sharing_status
        if self.attention and self.attention.candidates:
            self.journal.event("note", f"Attention is {self.attention.name}: {self.attention.why}")
        if status.on:
            self.journal.event("note", "Each pair's prompt is computed once, not once for each answer")
        elif self.share_prefix == "on":
            raise TrainingError(
                f'share_prefix = "on": {status.why}', hint='leave share_prefix at "auto", or set it "off"'
            )
        elif self.share_prefix == "auto":
            kind = "warning" if sharing_mismatch else "note"
            self.journal.event(kind, f"Prompts are computed for each answer anew: {status.why}")
        if self.attention and self.attention.name == varlen_attention.NAME and not status.on:
            self.journal.event(
                "warning", 'attn_implementation = "varlen" computes shared prompts alone: attention is sdpa\'s here'
            )
        if self.has_fused_head and not self._head_status.on:
            self.journal.event("warning", f"The LM head scores every position: {self._head_status.why}")

    def _end_sharing(self, trainer: Any, why: str) -> None:
        """Share no prompts in the rest of the run.

        Raises:
            TrainingError: ``share_prefix = "on"``.
        """
        self.sharing.end(why)
        self._sharing_status = ShortcutStatus(False, f"{why}, from step {trainer.state.global_step + 1:,} on")
        if self.share_prefix == "on":
            raise TrainingError(f'share_prefix = "on": {why}', hint='leave share_prefix at "auto", or set it "off"')
        message = f"Prompts are computed for each answer anew from here on: {why}"
        self.journal.event("warning", message, step=trainer.state.global_step)

    def _switch_head(self, on: bool) -> None:
        self.sparse_head.enabled = on

    def _switch_sharing(self, on: bool) -> None:
        self.sharing.enabled = on


def _figures(unit: str, count: TokenCount) -> dict[str, Any]:
    return {unit: count.computed, f"{unit}_plain": count.plain, "saved": round(count.saved, 4)}


def _status(obstacle: str | None) -> ShortcutStatus:
    return ShortcutStatus(on=not obstacle, why=obstacle or "")


def _is_sharded(trainer: Any) -> bool:
    return bool(trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled)


def _without_adapter(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
