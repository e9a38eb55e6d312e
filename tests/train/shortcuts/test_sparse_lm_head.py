"""The LM head at labelled positions only: what it returns is TRL's, and what it leaves out is counted."""

import copy
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from dpo_tui.train.shortcuts.prefix_sharing import TokenCount, backbone_of
from dpo_tui.train.shortcuts.sparse_lm_head import SparseLMHead

pytestmark = pytest.mark.skipif(importlib.metadata.version("trl") < "1.16", reason="this TRL has no fused head")
FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 0, 0]])
LABELS = torch.tensor([[-100, -100, 7, 8, 9, 10], [-100, 12, -100, 14, -100, -100]])
LABELLED = 6
"""Labels of both rows; the first token of a row is predicted by nothing, and has none here."""


@pytest.fixture
def models(tiny_model: Path) -> tuple[Any, Any, SparseLMHead]:
    """The same model with TRL's head alone, and with ours in front of it."""
    from trl.trainer.utils import add_fused_lm_head

    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    sparse, head = copy.deepcopy(plain), SparseLMHead()
    for model in (plain, sparse):
        add_fused_lm_head(model, outputs=FIELDS)
    head.install(sparse)
    return plain, sparse, head


def test_every_field_is_trls_at_the_labels_and_zero_elsewhere(models: tuple[Any, Any, SparseLMHead]) -> None:
    plain, sparse, head = models
    expected, found = (model(input_ids=IDS, labels=LABELS, fused_lm_head=True) for model in (plain, sparse))
    labelled = LABELS[:, 1:] != -100
    assert torch.equal(found.label_mask, labelled)
    for name in FIELDS:
        values, theirs = getattr(found, name), getattr(expected, name)
        assert values.shape == labelled.shape, name
        torch.testing.assert_close(values[labelled], theirs[labelled], msg=name)
        assert not values[~labelled].any(), name
    assert head.count == TokenCount(plain=labelled.numel(), computed=LABELLED)


def test_switched_off_it_leaves_every_position_to_trl(models: tuple[Any, Any, SparseLMHead]) -> None:
    """The check at the start compares both: one that is never off would compare a head with itself."""
    plain, sparse, head = models
    hooks_while_off: list[int] = []
    forward = sparse.base_model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        hooks_while_off.append(len(sparse.base_model._forward_hooks))
        return forward(*args, **kwargs)

    sparse.base_model.forward = watched
    head.enabled = False
    found = sparse(input_ids=IDS, labels=LABELS, fused_lm_head=True)
    expected = plain(input_ids=IDS, labels=LABELS, fused_lm_head=True)
    assert hooks_while_off == [0]
    assert head.count == TokenCount()
    assert torch.equal(found.log_probs, expected.log_probs)


def test_calls_that_are_none_of_a_loss_are_the_models_own(models: tuple[Any, Any, SparseLMHead]) -> None:
    """Generation, evaluation by transformers' loss, and labels that TRL has shifted itself."""
    plain, sparse, head = models
    assert torch.equal(sparse(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    assert torch.equal(sparse(input_ids=IDS, labels=LABELS).loss, plain(input_ids=IDS, labels=LABELS).loss)
    shifted = torch.nn.functional.pad(LABELS, (0, 1), value=-100)[:, 1:]
    theirs = plain(input_ids=IDS, shift_labels=shifted, fused_lm_head=True)
    assert torch.equal(sparse(input_ids=IDS, shift_labels=shifted, fused_lm_head=True).log_probs, theirs.log_probs)
    assert head.count == TokenCount()


def test_a_batch_without_any_label_can_still_be_differentiated(models: tuple[Any, Any, SparseLMHead]) -> None:
    _, sparse, head = models
    found = sparse(input_ids=IDS, labels=torch.full_like(LABELS, -100), fused_lm_head=True)
    assert not found.log_probs.any()
    found.log_probs.sum().backward()
    assert head.count == TokenCount(plain=10, computed=0)


def test_an_error_of_the_model_leaves_no_hook_behind(models: tuple[Any, Any, SparseLMHead]) -> None:
    """A hook that stays would cut the hidden states of every later pass."""
    plain, sparse, _ = models
    with pytest.raises(IndexError):
        sparse(input_ids=IDS + 10_000, labels=LABELS, fused_lm_head=True)
    assert not backbone_of(sparse)._forward_hooks
    assert torch.equal(sparse(input_ids=IDS).logits, plain(input_ids=IDS).logits)


def test_tokens_before_the_text_are_counted_from_the_end(models: tuple[Any, Any, SparseLMHead]) -> None:
    """Prompt-learning adapters put virtual tokens in front, which labels do not count."""
    plain, sparse, _ = models
    forward = sparse.base_model.forward

    def longer(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        front = outputs.last_hidden_state[:, :2] * 0 + 7
        outputs.last_hidden_state = torch.cat([front, outputs.last_hidden_state], dim=1)
        return outputs

    sparse.base_model.forward = longer
    found = sparse(input_ids=IDS, labels=LABELS, fused_lm_head=True)
    expected = plain(input_ids=IDS, labels=LABELS, fused_lm_head=True)
    labelled = LABELS[:, 1:] != -100
    torch.testing.assert_close(found.log_probs[labelled], expected.log_probs[labelled])
