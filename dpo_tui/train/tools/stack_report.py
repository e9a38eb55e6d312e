"""What the training stack says about itself; `dpo-tui doctor` runs this in a process of its own and reads the JSON.

``python -m dpo_tui.train.tools.stack_report`` imports torch and then bitsandbytes, and prints a line of JSON after each, so that a
slow import of the second does not hide the first. What cannot be imported is reported with its error.
"""

import json
import sys
from typing import Any


def torch_report() -> dict[str, Any]:
    """Describe torch and its devices."""
    found: dict[str, Any] = {}
    try:
        import torch

        found["torch"] = torch.__version__
        found["cuda_build"] = torch.version.cuda
        found["architectures"] = list(torch.cuda.get_arch_list()) if torch.version.cuda else []
        found["available"] = torch.cuda.is_available()
        found["devices"] = [_device(index) for index in range(torch.cuda.device_count())] if found["available"] else []
    except Exception as error:  # a broken installation fails in many ways, each of them is the answer
        found["torch_error"] = f"{type(error).__name__}: {error}"
    return found


def bitsandbytes_report() -> dict[str, Any]:
    """Describe bitsandbytes and its binary."""
    found: dict[str, Any] = {}
    try:
        import bitsandbytes
        from bitsandbytes.cextension import lib

        found["bitsandbytes"] = bitsandbytes.__version__
        found["bitsandbytes_cuda"] = bool(getattr(lib, "compiled_with_cuda", False))
        found["bitsandbytes_library"] = type(lib).__name__
    except Exception as error:
        found["bitsandbytes_error"] = f"{type(error).__name__}: {error}"
    return found


def _device(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "capability": [properties.major, properties.minor]}


if __name__ == "__main__":
    for report in (torch_report, bitsandbytes_report):
        sys.stdout.write(json.dumps(report()) + "\n")
        sys.stdout.flush()
