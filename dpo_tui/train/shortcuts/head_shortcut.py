"""The shortcut of strategies with one answer to a prompt: the LM head at positions with a label alone."""

import contextlib
from collections.abc import Iterator
from typing import Any

from peft import PeftModel

from dpo_tui.train.model.preserved_state import preserved_state
from dpo_tui.train.shortcuts.check_budget import DatasetLengths
from dpo_tui.train.shortcuts.equivalence_check import Batch, collated, find_mismatch
from dpo_tui.train.shortcuts.shortcuts import ShortcutStatus
from dpo_tui.train.shortcuts.sparse_lm_head import SparseLMHead, has_fused_head
from dpo_tui.train.worker.journal import Journal

# Rows among which the probe batch is chosen, and rows that it has.
_CANDIDATES = 64
_PROBE_ROWS = 2
_ONE_ANSWER = "an example has one answer"


class HeadShortcut:
    """The sparse LM head of one trainer: installed in its models and checked on its rows.

    Args:
        journal: where a mismatch is written.

    Attributes:
        has_fused_head: whether TRL gave the models the head that is needed.
        on: whether positions without a label are left out.
        reference: whether the reference is scored once, decided by
            :mod:`dpo_tui.train.shortcuts.reference_precompute`.
        probe: the probe batch; None before :meth:`install`.
        sizes: of the training answers; None before :meth:`install`.
        budget: None, since the checks are few.
    """

    budget = None

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.sparse_head = SparseLMHead()
        self.has_fused_head = False
        self.on = False
        self.reference = ShortcutStatus()
        self.probe: Batch | None = None
        self.sizes: DatasetLengths | None = None
        self._installed = False
        self._why = "this TRL scores every position"

    def install(self, trainer: Any) -> None:
        """Install the head where TRL's own is, and turn it on if it computes what TRL's does on a probe batch.

        Later calls do nothing.
        """
        if self._installed:
            return
        self._installed = True
        self.sizes = DatasetLengths.of(trainer.train_dataset, trainer.args.max_length, trainer.scored_columns.tokens)
        self.probe = _probe_batch(trainer)
        models = [trainer.model, *([trainer.ref_model] if trainer.ref_model is not None else [])]
        bare = [model.get_base_model() if isinstance(model, PeftModel) else model for model in models]
        self.has_fused_head = all(map(has_fused_head, bare))
        self._switch(False)
        if not self.has_fused_head:
            return
        for model in bare:
            self.sparse_head.install(model)
        with preserved_state(trainer.model):
            # Training mode, because that is what trains: some models take other code.
            trainer.model.train()
            self._why = find_mismatch(trainer, self.probe, [self._switch]) or ""
        self.sparse_head.reset()
        self.on = not self._why
        self._switch(self.on)
        if self._why:
            self.journal.event("warning", f"The LM head scores every position: {self._why}")

    @contextlib.contextmanager
    def checking(self, model: Any) -> Iterator[None]:
        """Leave no trace of the forward passes of a check: neither in a model nor in what the receipt counts."""
        counted = self.sparse_head.count
        self.sparse_head.reset()
        try:
            with preserved_state(model):
                yield
        finally:
            self.sparse_head.count = counted

    def report(self) -> dict[str, Any]:
        """Return which shortcuts were on and what they saved, for receipt.json."""
        count = self.sparse_head.count
        positions = {"positions": count.computed, "positions_plain": count.plain, "saved": round(count.saved, 4)}
        return {
            "share_prefix": {"on": False, "why": _ONE_ANSWER},
            "labelled_head": {"on": self.on, "why": self._why, **positions},
            "reference_once": {"on": self.reference.on, "why": self.reference.why, **self.reference.figures},
        }

    def _switch(self, on: bool) -> None:
        self.sparse_head.enabled = on


def _probe_batch(trainer: Any) -> Batch:
    """Collate the shortest of the first rows as TRL does, without the answers of the KL term."""
    rows = trainer.train_dataset.select(range(min(_CANDIDATES, len(trainer.train_dataset))))
    order = sorted(rows, key=lambda row: len(row["prompt_ids"]) + len(row["completion_ids"]))
    return collated(trainer, order[:_PROBE_ROWS])
