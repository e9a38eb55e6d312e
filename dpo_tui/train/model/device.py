"""Choose the torch device and the precision of a run; the choice is described in a sentence, with its reason."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.devices import DEVICES_VARIABLE
from dpo_tui.train.model import varlen_attention

# NVIDIA Ampere; older devices emulate bfloat16, slowly or not at all.
_BF16_CAPABILITY = (8, 0)
Precision = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class TrainingDevice:
    """The device and precision that a model computes with.

    Attributes:
        kind: torch's name of the device type.
        precision: of the matrix products.
        description: the choice in a sentence, with the reason where it differs from the config.
    """

    kind: Literal["cuda", "mps", "cpu"]
    precision: Precision
    description: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of the precision."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.precision]


def choose_device(config: Config) -> TrainingDevice:
    """Choose device and precision for a config.

    Raises:
        TrainingError: the config names a GPU, or the run holds one, and torch sees none.
    """
    if config.gpus != "none" and torch.cuda.is_available():
        return _cuda(config)
    held = os.environ.get(DEVICES_VARIABLE, "") if not config.named_gpus and config.gpus != "none" else ""
    if config.named_gpus or config.gpus == "all" or held:
        built = torch.version.cuda or "without CUDA"
        asked = f"this run has {held}" if held else f"gpus = {config.gpus}"
        raise TrainingError(
            f"{asked}: torch {torch.__version__} (built {built}) sees no GPU",
            hint='run `dpo-tui doctor`, or set gpus = "none" to train on the CPU',
        )
    asked = ": fp16 is for NVIDIA GPUs" if config.fp16 else ""
    if config.gpus == "auto" and torch.backends.mps.is_available():
        return TrainingDevice("mps", "fp32", f"On the Apple GPU in fp32{asked}")
    asked = ": bfloat16 is for GPUs" if config.bf16 else asked
    return TrainingDevice("cpu", "fp32", f"On the CPU in fp32{asked}")


def require_trainable_attention(config: Config, device: TrainingDevice) -> None:
    """Check that the attention implementation has a backward pass on a device.

    Raises:
        TrainingError: FlexAttention or attention for variable lengths without a GPU that has it; torch would fail in
            the first step, after the model is loaded.
    """
    varlen = config.attn_implementation == varlen_attention.NAME
    if varlen and (obstacle := varlen_obstacle(device.kind, device.dtype)):
        raise TrainingError(
            f'attn_implementation = "{varlen_attention.NAME}": {obstacle}', hint='leave attn_implementation at "auto"'
        )
    if config.attn_implementation == "flex_attention" and device.kind != "cuda":
        raise TrainingError(
            'attn_implementation = "flex_attention" trains on GPUs only: torch has no gradient for it here',
            hint='leave attn_implementation at "auto"',
        )


def varlen_obstacle(kind: str, dtype: torch.dtype) -> str | None:
    """Return why attention for variable lengths does not train on a device, as a clause; None where it does.

    Args:
        kind: torch's name of the device type.
        dtype: of the matrix products.
    """
    if kind != "cuda":
        return "torch has a kernel of it for NVIDIA GPUs only"
    if dtype not in (torch.bfloat16, torch.float16):
        return "it computes in bf16 and fp16, and this run in fp32"
    if (found := torch.cuda.get_device_capability(torch.cuda.current_device())) < varlen_attention.CAPABILITY:
        return "it needs compute capability {}.{}, and this GPU has {}.{}".format(*varlen_attention.CAPABILITY, *found)
    return varlen_attention.kernel_obstacle()


def _cuda(config: Config) -> TrainingDevice:
    # Not device 0: each of several processes has set its own (dpo_tui.train.worker.distributed).
    index = torch.cuda.current_device()
    name = torch.cuda.get_device_name(index)
    if config.fp16:
        return TrainingDevice("cuda", "fp16", f"On {name} in fp16, as fp16 = true asks")
    if not config.bf16:
        return TrainingDevice("cuda", "fp32", f"On {name} in fp32, as bf16 = false asks")
    capability = torch.cuda.get_device_capability(index)
    if capability >= _BF16_CAPABILITY:
        return TrainingDevice("cuda", "bf16", f"On {name} in bfloat16")
    major, minor = capability
    return TrainingDevice(
        "cuda", "fp16", f"On {name} in fp16: bfloat16 needs compute capability 8.0, it has {major}.{minor}"
    )
