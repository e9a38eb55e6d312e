"""Child that reports versions and devices of torch and bitsandbytes as JSON, for `dpo-tui doctor`.

``python -m dpo_tui.train.tools.stack_report`` imports torch and then bitsandbytes, and prints a line of JSON after
each, so that a slow import of the second does not delay the report on the first. A failed import is reported with its
error.
"""

import json
import sys
from typing import Any


def torch_report() -> dict[str, Any]:
    """Return torch's version, CUDA build, compute architectures and devices."""
    found: dict[str, Any] = {}
    try:
        import torch

        found["torch"] = torch.__version__
        found["cuda_build"] = torch.version.cuda
        found["architectures"] = list(torch.cuda.get_arch_list()) if torch.version.cuda else []
        found["available"] = torch.cuda.is_available()
        found["devices"] = [_device(index) for index in range(torch.cuda.device_count())] if found["available"] else []
    except Exception as error:  # a broken installation raises anything; that is the report
        found["torch_error"] = f"{type(error).__name__}: {error}"
    return found


def bitsandbytes_report() -> dict[str, Any]:
    """Return bitsandbytes' version, and which native library it has loaded."""
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
