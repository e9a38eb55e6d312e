"""FlexAttention on a processor, by torch's own unfused code: that has gradients, which torch allows on GPUs only."""

import pytest


def unfused(patch: pytest.MonkeyPatch) -> None:
    """Let flex attention compute, and train, without torch's compiler.

    The compiler takes 10 to 60 s a shape on a processor, and its kernel has no gradient there. The unfused code
    (``sdpa_dense`` and its backward) is what torch holds its kernels against; it asks the mask for every query and key.
    """
    import torch
    from torch.nn.attention import flex_attention
    from transformers.integrations.flex_attention import WrappedFlexAttention

    patch.setattr(torch, "compile", lambda function, **_: function)
    # It keeps what it compiled.
    patch.setattr(WrappedFlexAttention, "_instance", None)
    patch.setattr(flex_attention, "_validate_device", lambda query, key, value: None)
