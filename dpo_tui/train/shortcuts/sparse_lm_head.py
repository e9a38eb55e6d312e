"""Sparse LM head: hidden states are projected onto the vocabulary only at positions with a label, on every device.

TRL 1.16 projects hidden states without keeping all the logits, but where there is no Triton (CPU, MPS) it projects
every position, prompts and padding included, and then sets those without a label to zero. Here only the positions with
a label reach the head, through TRL's own ``shift_labels``; the others are zero, as in TRL.

Dimensions in names with a suffix: ``N`` rows of the batch, ``S`` predicted tokens of a row (its length less one), ``K``
positions with a label in the whole batch.
"""

import functools
from types import MethodType
from typing import Any

import torch

from dpo_tui.train.shortcuts.prefix_sharing import TokenCount, backbone_of

_IGNORE_INDEX = -100
# Per-token fields of TRL's FusedCausalLMOutput.
_PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


class SparseLMHead:
    """Projects only labelled positions in the models it is installed in, as long as it is enabled.

    Attributes:
        enabled: whether positions are left out.
        count: positions through the LM heads while it is enabled.
    """

    def __init__(self) -> None:
        self.enabled = True
        self.count = TokenCount()

    def reset(self) -> None:
        """Set the count to zero."""
        self.count = TokenCount()

    def install(self, model: Any) -> None:
        """Wrap the ``forward`` that ``trl.trainer.utils.add_fused_lm_head`` gave a causal language model."""
        fused = model.forward

        # wraps: whoever asks with inspect.signature which arguments the model takes, as `generate` does with those that
        # it is given, still sees those of the model's class.
        @functools.wraps(type(model).forward)
        def forward(
            module: Any,
            *args: Any,
            fused_lm_head: bool = False,
            labels: torch.Tensor | None = None,
            shift_labels: torch.Tensor | None = None,
            **kwargs: Any,
        ) -> Any:
            if not (fused_lm_head and self.enabled) or labels is None or shift_labels is not None:
                given = {"labels": labels, "shift_labels": shift_labels, "fused_lm_head": fused_lm_head or None}
                return fused(*args, **kwargs, **{name: value for name, value in given.items() if value is not None})
            # The hidden state at a position predicts the token after it.
            labels_NS = labels[:, 1:]
            labelled_NS = labels_NS != _IGNORE_INDEX
            labels_K = labels_NS[labelled_NS]
            # The head is called inside TRL's forward: a hook on the backbone is the one place to drop positions first.
            hook = backbone_of(module).register_forward_hook(functools.partial(_select_labelled, labelled_NS))
            try:
                outputs = fused(*args, fused_lm_head=True, shift_labels=labels_K.unsqueeze(0), **kwargs)
            finally:
                hook.remove()
            for name in _PER_TOKEN:
                if getattr(outputs, name, None) is not None:
                    setattr(outputs, name, _scatter(getattr(outputs, name), labelled_NS))
            outputs.label_mask = labelled_NS
            self.count.plain += labelled_NS.numel()
            self.count.computed += labels_K.numel()
            return outputs

        model.forward = MethodType(forward, model)


def has_fused_head(model: Any) -> bool:
    """Return whether TRL gave the model its fused head (trl 1.16 does, 1.14 does not)."""
    forward = getattr(model, "forward", None)
    code = getattr(getattr(forward, "__func__", forward), "__code__", None)
    return code is not None and {"fused_lm_head", "shift_labels"} <= set(code.co_varnames)


def _select_labelled(labelled_NS: torch.Tensor, module: Any, arguments: Any, outputs: Any) -> Any:
    """Forward hook that reduces the last hidden states to ``[1, K, D]``."""
    # The last position predicts nothing that has a label.
    states = outputs.last_hidden_state[:, :-1]
    # Prompt-learning adapters put virtual tokens before the text, so count from the end.
    states_NSD = states[:, -labelled_NS.shape[1] :]
    outputs.last_hidden_state = states_NSD[labelled_NS.to(states.device)].unsqueeze(0)
    return outputs


def _scatter(values_1K: torch.Tensor, labelled_NS: torch.Tensor) -> torch.Tensor:
    """Put values back at the positions of their labels, ``[N, S]``, zero elsewhere.

    The result depends on ``values_1K`` in autograd even where no position has a label, so backward() still works.
    """
    labelled_NS = labelled_NS.to(values_1K.device)
    return values_1K.new_zeros(labelled_NS.shape).masked_scatter(labelled_NS, values_1K.squeeze(0))
