"""The shortcuts of a run: what is computed once or not at all, without changing the result. All off is plain TRL."""

from dataclasses import dataclass, field
from typing import Any, Literal

from peft import PeftModel

from dpo_tui.errors import TrainingError
from dpo_tui.train.shortcuts.equivalence_check import disagreement, probe_batch
from dpo_tui.train.shortcuts.prefix_sharing import PrefixSharing, why_not
from dpo_tui.train.shortcuts.sparse_lm_head import SparseLMHead, has_fused_head
from dpo_tui.train.worker.journal import Journal


@dataclass
class Outcome:
    """What became of one shortcut.

    Attributes:
        on: whether the run takes it.
        why: the reason, in a sentence's end.
        figures: what it saved, for the receipt.
    """

    on: bool = False
    why: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Shortcuts:
    """Installed in one trainer, checked on one of its batches, active while it computes losses.

    Attributes:
        sharing: the prompt of a pair computed once.
        head: the LM head only where there is a label.
        reference: what became of scoring the reference once; :mod:`dpo_tui.train.shortcuts.reference_scores` fills it in.
    """

    def __init__(self, journal: Journal, share_prefix: Literal["auto", "on", "off"]) -> None:
        self.journal = journal
        self.asked = share_prefix
        self.sharing = PrefixSharing()
        self.head = SparseLMHead()
        self.reference = Outcome()
        self.has_fused_head = False
        self._prefix = Outcome()
        self._labels = Outcome()
        self._installed = False

    def install(self, trainer: Any) -> None:
        """Install in a trainer's models what suits them and stands the check; only once.

        Raises:
            TrainingError: ``share_prefix = "on"`` with a model that cannot.
        """
        if self._installed:
            return
        self._installed = True
        models = [_bare(model) for model in (trainer.model, trainer.ref_model) if model is not None]
        self.has_fused_head = all(has_fused_head(model) for model in models)
        self.head.active = self.sharing.enabled = False
        if self.has_fused_head:
            for model in models:
                self.head.install(model)
        obstacle = self._obstacle(models, trainer)
        if not obstacle:
            for model in models:
                self.sharing.install(model, trainer.args.max_length)
        with self.sharing:
            self._check(trainer, obstacle)

    def report(self) -> dict[str, Any]:
        """Return which shortcuts were taken and what they saved, for receipt.json."""
        count = self.sharing.count
        self._prefix.figures = {"tokens": count.computed, "tokens_plain": count.plain, "saved": round(count.saved, 4)}
        self._labels.figures = {
            "positions": self.head.computed,
            "positions_plain": self.head.plain,
            "saved": round(self.head.saved, 4),
        }
        outcomes = {"share_prefix": self._prefix, "labelled_head": self._labels, "reference_once": self.reference}
        return {name: {"on": one.on, "why": one.why, **one.figures} for name, one in outcomes.items()}

    def _obstacle(self, models: list[Any], trainer: Any) -> str | None:
        if self.asked == "off":
            return 'share_prefix = "off"'
        length = trainer.args.max_length
        found = (why_not(model, length) for model in models)
        return next((words for words in found if words), None)

    def _check(self, trainer: Any, obstacle: str | None) -> None:
        batch = probe_batch(trainer)
        if batch is None and not obstacle:
            obstacle = "the pairs have no common prompt"
        ways = {"head": self._switch_head} if self.has_fused_head else {}
        if not obstacle:
            ways["sharing"] = self._switch_sharing
        mismatches: dict[str, str] = {}
        # All at once is the usual end; only a disagreement is worth finding its cause.
        if batch is not None and ways and disagreement(trainer, batch, list(ways.values())):
            found = {name: disagreement(trainer, batch, [switch]) for name, switch in ways.items()}
            mismatches = {name: words for name, words in found.items() if words}
            if not mismatches:
                mismatches = dict.fromkeys(ways, "scores of a real batch differ with both shortcuts together")
        no_head = "" if self.has_fused_head else "this TRL scores every position"
        self._labels = _outcome(no_head or mismatches.get("head"))
        self._prefix = _outcome(obstacle or mismatches.get("sharing"))
        self._switch_head(self._labels.on)
        self._switch_sharing(self._prefix.on)
        self.sharing.reset()
        self.head.reset()
        self._tell(surprised="sharing" in mismatches)

    def _tell(self, *, surprised: bool) -> None:
        if self._prefix.on:
            self.journal.event("note", "Each pair's prompt is computed once, not once for each answer")
        elif self.asked == "on":
            raise TrainingError(
                f'share_prefix = "on": {self._prefix.why}', hint='leave share_prefix at "auto", or set it "off"'
            )
        elif self.asked == "auto":
            kind = "warning" if surprised else "note"
            self.journal.event(kind, f"Prompts are computed for each answer anew: {self._prefix.why}")
        if self.has_fused_head and not self._labels.on:
            self.journal.event("warning", f"The LM head scores every position: {self._labels.why}")

    def _switch_head(self, on: bool) -> None:
        self.head.active = on

    def _switch_sharing(self, on: bool) -> None:
        self.sharing.enabled = on


def _outcome(obstacle: str | None) -> Outcome:
    return Outcome(on=not obstacle, why=obstacle or "")


def _bare(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
