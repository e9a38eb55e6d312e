"""Attention for variable lengths on a processor, where torch has no kernel of it: by a reference of its signature."""

import pytest

from benchmarks.gpu_parts import varlen_reference


def referenced(patch: pytest.MonkeyPatch) -> None:
    """Let attention for variable lengths compute, and train, by plain operations, and transformers know of it."""
    from dpo_tui.train.model import varlen_attention

    varlen_reference.stand_in(patch.setattr)
    varlen_attention.register()
