"""How long `dpo-tui runs` takes with many long runs (the bound is 0.5 s for 500 runs of 10,000 log lines each).

    python benchmarks/runs_listing.py [--runs 500] [--lines 10000] [--repeat 7]

It builds a home in a temporary folder (about 2.5 GB with the defaults), lists it in fresh processes, interpreter start
included, and prints the median and the extremes. Most runs are done; some failed, one is running.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dpo_tui.runs import run_lock, store
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.state import State, read_state, write_state

_METRIC = {
    "loss": 0.51234,
    "grad_norm": 1.234,
    "learning_rate": 4.2e-07,
    "rewards/chosen": -0.1234,
    "rewards/rejected": -0.5678,
    "rewards/accuracies": 0.7125,
    "rewards/margins": 0.4444,
    "logps/chosen": -123.4,
    "logps/rejected": -145.6,
    "logits/chosen": -1.2345678,
    "logits/rejected": -1.3456789,
    "mean_token_accuracy": 0.6123456,
    "entropy": 1.2345678901,
    "num_tokens": 1234567.0,
    "tokens_per_second": 2412.0,
    "step_seconds": 3.21,
    "data_seconds": 0.0123,
    "vram_peak_gb": 10.12345,
}
_EVALUATION = {f"eval_{name}": value for name, value in _METRIC.items()}
_KL = {"eval_kl": 2.5, "eval_kl_stderr": 0.2, "eval_kl_n": 32, "kl": 2.5}


def main() -> None:
    """Build the home, list it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--no-evaluations", action="store_true", help="runs that never evaluated")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpo-tui-listing-") as home:
        os.environ["DPO_TUI_HOME"] = home
        _build(told.runs, told.lines, evaluate=not told.no_evaluations)
        for what in (["runs"], ["runs", "--json"]):
            taken = [_list(what) for _ in range(told.repeat)]
            seconds, processor = [one for one, _ in taken], [one for _, one in taken]
            print(
                f"dpo-tui {' '.join(what):12} {told.runs} runs × {told.lines:,} log lines: "
                f"median {statistics.median(seconds):.3f} s, {min(seconds):.3f} to {max(seconds):.3f} s; "
                f"of the processor {statistics.median(processor):.3f} s"
            )


def _build(runs: int, lines: int, *, evaluate: bool) -> None:
    """One history is written once and copied: the listing must not care."""
    began = time.time() - lines
    history = "".join(
        json.dumps({"t": began + step, "step": step, "epoch": step / lines * 3, **values}) + "\n"
        for step in range(lines + 1)
        for values in ([_METRIC] if step else [])
        + ([_EVALUATION, _KL] if evaluate and step % (lines // 5) == 1 else [])
    )
    model: Path | None = None
    for number in range(runs):
        folder = store.create("[training]\nlearning_rate = 5e-7\n", name=f"run-{number}", devices=[])
        if model is None:
            folder.metrics.write_text(history, encoding="utf-8")
            model = folder.metrics
        else:
            shutil.copyfile(model, folder.metrics)
        progress = {"phase": "train", "done": lines, "total": lines, "unit": "step", "step": lines, "max_steps": lines}
        write_json_atomic(folder.progress, {**progress, "epoch": 3.0, "t": time.time()})
        folder.events.write_text('{"t":1,"kind":"advice","severity":"info","message":"Healthy."}\n', encoding="utf-8")
        state = read_state(folder)
        assert state is not None  # noqa: S101 - it was just made
        write_state(folder, State(**{**state.to_dict(), **_end(number)}))
        if number == runs - 1:
            run_lock.acquire(folder.lock)


def _end(number: int) -> dict[str, object]:
    times = {"attempt": 1, "started_at": time.time() - 9000, "attempt_started_at": time.time() - 9000}
    if number % 10 == 9:
        return {**times, "status": "running" if number % 50 == 49 else "failed", "reason": "killed by signal 9"}
    return {**times, "status": "done", "ended_at": time.time(), "returncode": 0}


def _list(what: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, "-c", "from dpo_tui.cli import main; main()", *what], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, processor


if __name__ == "__main__":
    main()
