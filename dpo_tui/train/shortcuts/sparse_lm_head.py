"""The LM head only where there is a label, on every device.

TRL 1.16 projects hidden states onto the vocabulary without keeping all the logits, but where there is no Triton (CPU,
MPS) it projects every position, prompts and padding too, and sets what it then does not need to zero. Here only the
positions with a label reach the head, through TRL's own `shift_labels`; the others are zero, as TRL has them.
"""

import functools
from types import MethodType
from typing import Any

import torch

from dpo_tui.train.shortcuts.prefix_sharing import backbone_of

_IGNORED = -100
# Per-token fields of TRL's FusedCausalLMOutput.
_PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


class SparseLMHead:
    """Installed in causal language models that have TRL's fused head.

    Attributes:
        active: whether it does anything.
        plain: positions that TRL would have projected.
        computed: positions that were.
    """

    def __init__(self) -> None:
        self.active = True
        self.plain = 0
        self.computed = 0

    def reset(self) -> None:
        """Begin the count anew."""
        self.plain = self.computed = 0

    @property
    def saved(self) -> float:
        """The part of the positions that was not projected, 0 to 1."""
        return 1 - self.computed / self.plain if self.plain else 0.0

    def install(self, model: Any) -> None:
        """Wrap the forward that `trl.trainer.utils.add_fused_lm_head` gave the model."""
        fused = model.forward

        @functools.wraps(type(model).forward)
        def forward(
            module: Any,
            *args: Any,
            fused_lm_head: bool = False,
            labels: torch.Tensor | None = None,
            shift_labels: torch.Tensor | None = None,
            **kwargs: Any,
        ) -> Any:
            if not (fused_lm_head and self.active) or labels is None or shift_labels is not None:
                more = {"labels": labels, "shift_labels": shift_labels, "fused_lm_head": fused_lm_head or None}
                return fused(*args, **kwargs, **{name: value for name, value in more.items() if value is not None})
            wanted = labels[:, 1:]
            keep = wanted != _IGNORED
            chosen = wanted[keep]
            hook = backbone_of(module).register_forward_hook(functools.partial(_keep_labelled, keep))
            try:
                outputs = fused(*args, fused_lm_head=True, shift_labels=chosen.unsqueeze(0), **kwargs)
            finally:
                hook.remove()
            for name in _PER_TOKEN:
                if getattr(outputs, name, None) is not None:
                    setattr(outputs, name, _spread(getattr(outputs, name), keep))
            outputs.label_mask = keep
            self.plain += keep.numel()
            self.computed += chosen.numel()
            return outputs

        model.forward = MethodType(forward, model)


def has_fused_head(model: Any) -> bool:
    """Return whether TRL gave the model its fused head (trl 1.16 does, 1.14 does not)."""
    forward = getattr(model, "forward", None)
    code = getattr(getattr(forward, "__func__", forward), "__code__", None)
    return code is not None and {"fused_lm_head", "shift_labels"} <= set(code.co_varnames)


def _keep_labelled(keep: torch.Tensor, module: Any, arguments: Any, outputs: Any) -> Any:
    states = outputs.last_hidden_state[:, :-1]
    # Prompt-learning adapters put virtual tokens before the text.
    outputs.last_hidden_state = states[:, -keep.shape[1] :][keep.to(states.device)].unsqueeze(0)
    return outputs


def _spread(values: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Put one row's values back where their labels stand; zero elsewhere, and still tied to the model if none is."""
    keep = keep.to(values.device)
    return values.new_zeros(keep.shape).masked_scatter(keep, values.squeeze(0))
