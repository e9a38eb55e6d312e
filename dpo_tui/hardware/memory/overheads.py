"""GPU memory of a run that no tensor takes: the CUDA context, and what PyTorch's caching allocator loses.

Assumed, until a machine has measured them: ``benchmarks/gpu.py --parts c`` writes ``memory_overheads.toml``, and where
that file lies in the home folder every estimate uses it.
"""

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dpo_tui import paths
from dpo_tui.errors import ConfigError
from dpo_tui.text.plain_documents import parse_toml
from dpo_tui.text.whole_file import read_whole_text


@dataclass(frozen=True)
class Overheads:
    """What is added to the tensors.

    Attributes:
        cuda_context: bytes of torch's context with the kernels of cuBLAS and bitsandbytes loaded.
        slack_of_fixed: share that the allocator loses of what stays: blocks are rounded up to segments of 2 MiB.
        slack_of_activations: share that it loses of what comes and goes, in blocks of many sizes.
        source: "assumed", or on what it was measured.
    """

    cuda_context: int
    slack_of_fixed: float
    slack_of_activations: float
    source: str

    def as_toml(self) -> str:
        """Return the text of ``memory_overheads.toml``."""
        return (
            f"cuda_context = {self.cuda_context}\n"
            f"slack_of_fixed = {self.slack_of_fixed:.5f}\n"
            f"slack_of_activations = {self.slack_of_activations:.5f}\n"
            f"source = {_quoted(self.source)}\n"
        )


ASSUMED = Overheads(cuda_context=500_000_000, slack_of_fixed=0.01, slack_of_activations=0.05, source="assumed")
"""Without a measurement."""
_NUMBERS = {"cuda_context": 8e9, "slack_of_fixed": 1.0, "slack_of_activations": 1.0}
"""The largest value of each that can be a measurement."""


def overheads() -> Overheads:
    """Return the overheads of this machine: those of its file, else :data:`ASSUMED`.

    Raises:
        ConfigError: the file cannot be read, or holds no such numbers.
    """
    path = paths.memory_overheads()
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return ASSUMED
    return _read(path, changed)


@lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> Overheads:
    """Read the file; ``changed`` is its modification time, so that another version of it is read anew."""
    hint = "remove it, or have `python benchmarks/gpu.py --parts c` write it again"
    try:
        found = parse_toml(read_whole_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", hint=hint) from error
    for name, most in _NUMBERS.items():
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
            raise ConfigError(f"{path}: {name} = {value!r}: must be a number from 0 to {most:g}", hint=hint)
    source = found.get("source")
    if not isinstance(source, str) or not source:
        raise ConfigError(f"{path}: source = {source!r}: must say on what it was measured", hint=hint)
    context = math.ceil(found["cuda_context"])
    return Overheads(context, float(found["slack_of_fixed"]), float(found["slack_of_activations"]), source)


def _quoted(text: str) -> str:
    escaped = "".join(sign for sign in text if sign.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
