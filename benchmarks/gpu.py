"""Everything that only a GPU can tell, in one command of at most nine minutes.

    python benchmarks/gpu.py                       every part, most valuable first
    python benchmarks/gpu.py --parts c,speed       some of them, by letter or name; each takes at most four minutes
    python benchmarks/gpu.py --dry-run             tiny sizes on the CPU, to see that it runs; measures nothing

No network, no downloads: models have real architectures and random weights, data is made up. Every part is a process
group with a deadline: one that fails, hangs or runs out of memory is reported, and the next one runs. Time that a part
does not need goes to the later ones. Every row is appended to OUT/gpu.jsonl when it is known (the next run into the
same folder begins it anew); OUT/gpu.md is the page of tables, ready for benchmarks/results/gpu.md, and OUT/gpu.log has
the output and the tracebacks. Rows that did not fit into the time say so: run their parts alone.

The parts, in their order (`benchmarks/gpu_parts/registry.py`); each table is preceded by what its figures mean:

- a hardware: NVML's figures against torch's; `doctor` and `hardware`.
- g kernels: signature and causal alignment of torch's varlen attention, SDPA's kernels with and without a mask.
- h start-up: the check of shared prompts in bf16 and NF4 with its noise, precisions, KL beside training.
- b worker: supervised runs of the demo's model: LoRA, NF4 stopped and resumed, out of memory and retried.
- c memory: estimate ÷ measured peak − 1 for each row; measured is the allocator's peak and the CUDA context, under
  caps that imitate cards of 12, 16 and 24 GB. Below zero the estimate promises too much.
- d speed: pairs/s, tokens/s, MFU, peak, first step, loss difference: TRL, TRL with precompute, ours by a mask,
  FlexAttention, and attention for variable lengths, packed and pair by pair. In a dry run a reference computes these.
- e profile: where the GPU's time goes in the fastest of our ways.
- f exactness: ours against TRL, beside TRL against itself in another batch layout.

A row of a feature that dpo-tui does not have says "not built".
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_parts.machine import describe
from benchmarks.gpu_parts.report import page
from benchmarks.gpu_parts.runner import Places, run_parts
from benchmarks.gpu_parts.session import append

_MINUTES = 9.0
_DRY_MINUTES = 60.0  # nobody waits so long, but a busy processor is no failure


def main() -> int:
    """Run the parts, print the page; 1 where a part did not run to its end."""
    # Not at the top: every part's process loads this file, and needs its own part's imports only.
    from benchmarks.gpu_parts.measured_overheads import measured_overheads
    from benchmarks.gpu_parts.registry import PARTS, chosen

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(part.letter for part in PARTS), help="letters or names")
    parser.add_argument("--out", type=Path, help="folder for the results; $OUT, else a new temporary folder")
    parser.add_argument("--minutes", type=float, help=f"for all parts together (default {_MINUTES:g})")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    given = parser.parse_args()
    try:
        parts = chosen(given.parts)
    except ValueError as error:
        parser.error(str(error))
    out = given.out or Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="dpo-tui-gpu-"))
    out.mkdir(parents=True, exist_ok=True)
    minutes = given.minutes or (_DRY_MINUTES if given.dry_run else _MINUTES)
    with tempfile.TemporaryDirectory(prefix="dpo-tui-gpu-scratch-", ignore_cleanup_errors=True) as scratch:
        places = Places(results=out / "gpu.jsonl", log=out / "gpu.log", scratch=Path(scratch))
        places.results.unlink(missing_ok=True)
        machine = {"machine": describe(), "date": time.strftime("%Y-%m-%d"), "dry": given.dry_run}
        append(places.results, machine)
        _set_environment(places, dry=given.dry_run)
        whole = run_parts(parts, places, minutes * 60, dry=given.dry_run)
    text = page(places.results, parts, " ".join(["python benchmarks/gpu.py", *sys.argv[1:]]))
    (out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    if (overheads := measured_overheads(places.results)) is not None:
        (out / "memory_overheads.toml").write_text(overheads.as_toml(), encoding="utf-8")
        print("Estimates use memory_overheads.toml where it lies in $DPO_TUI_HOME", file=sys.stderr)
    print(f"Written to {out}", file=sys.stderr)
    return 0 if whole else 1


def _set_environment(places: Places, *, dry: bool) -> None:
    """For all processes below: no network, caches that are deleted at the end, this checkout's modules."""
    root = str(Path(__file__).parents[1])
    earlier = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *([earlier] if earlier else [])])
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = str(places.scratch / "datasets")
    os.environ["DPO_TUI_HOME"] = str(places.home)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as for the worker: threads that spin starve each other
    if dry:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


if __name__ == "__main__":
    sys.exit(main())
