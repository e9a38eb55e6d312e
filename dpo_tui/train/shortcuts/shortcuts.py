"""The shortcuts of a run: work that is done once or not at all without changing the result. All off is plain TRL."""

from dataclasses import dataclass, field
from typing import Any, Literal

from peft import PeftModel

from dpo_tui.errors import TrainingError
from dpo_tui.train.shortcuts.equivalence_check import Switch, find_mismatch, probe_batch
from dpo_tui.train.shortcuts.prefix_sharing import PrefixSharing, TokenCount, sharing_obstacle
from dpo_tui.train.shortcuts.sparse_lm_head import SparseLMHead, has_fused_head
from dpo_tui.train.worker.journal import Journal


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
    """The shortcuts of one trainer: installed in its models, checked on a probe batch, active while it computes losses.

    Args:
        journal: where the outcome of the check is written.
        share_prefix: the setting of that name.

    Attributes:
        sharing: computes the prompt of a pair once; entered by the trainer around each loss.
        sparse_head: applies the LM head only at positions with a label.
        has_fused_head: whether TRL gave the models the head that ``sparse_head`` needs.
        reference: whether the reference is scored once, decided by
            :mod:`dpo_tui.train.shortcuts.reference_precompute`.
    """

    def __init__(self, journal: Journal, share_prefix: Literal["auto", "on", "off"]) -> None:
        self.journal = journal
        self.share_prefix = share_prefix
        self.sharing = PrefixSharing()
        self.sparse_head = SparseLMHead()
        self.reference = ShortcutStatus()
        self.has_fused_head = False
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
        self.has_fused_head = all(has_fused_head(model) for model in models)
        self._switch_head(False)
        self._switch_sharing(False)
        if self.has_fused_head:
            for model in models:
                self.sparse_head.install(model)
        obstacle = self._sharing_obstacle(models, trainer)
        if not obstacle:
            for model in models:
                self.sharing.install(model, trainer.args.max_length)
        with self.sharing:
            self._check(trainer, obstacle)

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
        return {name: {"on": status.on, "why": status.why, **status.figures} for name, status in statuses.items()}

    def _sharing_obstacle(self, models: list[Any], trainer: Any) -> str | None:
        if self.share_prefix == "off":
            return 'share_prefix = "off"'
        obstacles = (sharing_obstacle(model, trainer.args.max_length) for model in models)
        return next((obstacle for obstacle in obstacles if obstacle), None)

    def _check(self, trainer: Any, obstacle: str | None) -> None:
        """Check the shortcuts on a probe batch and turn on those without a mismatch."""
        batch = probe_batch(trainer)
        if batch is None and not obstacle:
            obstacle = "the pairs have no common prompt"
        switches: dict[str, Switch] = {"head": self._switch_head} if self.has_fused_head else {}
        if not obstacle:
            switches["sharing"] = self._switch_sharing
        mismatches = self._find_mismatches(trainer, batch, switches) if batch is not None and switches else {}
        no_head = "" if self.has_fused_head else "this TRL scores every position"
        self._head_status = _status(no_head or mismatches.get("head"))
        self._sharing_status = _status(obstacle or mismatches.get("sharing"))
        self._switch_head(self._head_status.on)
        self._switch_sharing(self._sharing_status.on)
        # The counts are of the training alone.
        self.sharing.reset()
        self.sparse_head.reset()
        self._report_check(sharing_mismatch="sharing" in mismatches)

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
        if status.on:
            self.journal.event("note", "Each pair's prompt is computed once, not once for each answer")
        elif self.share_prefix == "on":
            raise TrainingError(
                f'share_prefix = "on": {status.why}', hint='leave share_prefix at "auto", or set it "off"'
            )
        elif self.share_prefix == "auto":
            kind = "warning" if sharing_mismatch else "note"
            self.journal.event(kind, f"Prompts are computed for each answer anew: {status.why}")
        if self.has_fused_head and not self._head_status.on:
            self.journal.event("warning", f"The LM head scores every position: {self._head_status.why}")

    def _switch_head(self, on: bool) -> None:
        self.sparse_head.enabled = on

    def _switch_sharing(self, on: bool) -> None:
        self.sharing.enabled = on


def _figures(unit: str, count: TokenCount) -> dict[str, Any]:
    return {unit: count.computed, f"{unit}_plain": count.plain, "saved": round(count.saved, 4)}


def _status(obstacle: str | None) -> ShortcutStatus:
    return ShortcutStatus(on=not obstacle, why=obstacle or "")


def _without_adapter(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
