"""The provider ``huggingface``: transformers, TRL and PEFT, in the environment of dpo-tui itself."""

from pathlib import Path


class HuggingFaceProvider:
    """Needs nothing but dpo-tui's own dependencies."""

    def interpreter(self) -> Path | None:
        """This process's own."""
        return None

    def check(self, *, has_gpu: bool) -> None:
        """Nothing can be missing: it trains on GPUs and on the CPU."""
