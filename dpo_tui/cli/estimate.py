"""`dpo-tui estimate`: the memory of a run, whether it fits, what would make it fit, and how long it takes."""

import json
import math
from pathlib import Path

import click

from dpo_tui.cli.estimate_result import EstimateResult, document, estimate_run
from dpo_tui.cli.estimate_text import result_lines
from dpo_tui.cli.output import narrate, print_json
from dpo_tui.config.files import load, parse_assignment
from dpo_tui.errors import RunError, UsageError
from dpo_tui.hardware.memory.fit import in_gigabytes
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.start.model_check import trusted

_MOST_VRAM_GB = 10_000


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--vram", type=float, metavar="GB", help="Compare with so much free GPU memory instead of this machine's."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="K=V", help="Change a setting; may be given several times."
)
@click.option("--probe", is_flag=True, help="Run one real step on the GPU and compare it with the estimate.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def estimate(config: Path, vram: float | None, assignments: tuple[str, ...], probe: bool, as_json: bool) -> None:
    """Say how much memory a run takes, part by part, whether it fits, and what to change; steps and time."""
    if vram is not None and not (math.isfinite(vram) and 0 < vram <= _MOST_VRAM_GB):
        raise UsageError(f"--vram {vram:g}: must be a number of gigabytes above 0", hint="for example: --vram 12")
    loaded = load(config, dict(parse_assignment(text) for text in assignments))
    result = estimate_run(loaded, vram)
    if probe:
        _probe(config, assignments, result, as_json=as_json)
    elif as_json:
        print_json(document(result))
    else:
        click.echo("\n".join(result_lines(result)))


def _probe(config: Path, assignments: tuple[str, ...], result: EstimateResult, *, as_json: bool) -> None:
    """Measure one real step, and print it beside the estimate.

    The step runs in a child process, so that this one needs no torch and all memory is free again afterwards.

    Raises:
        RunError: there is no GPU, or the step failed.
    """
    if result.device == "cpu":
        raise RunError("the probe needs a GPU, and none can be used here", hint="`dpo-tui doctor` says why")
    datasets = result.config.dataset
    located = [
        f"model_name={result.config.model_name}",
        f"dataset={datasets if isinstance(datasets, str) else json.dumps(datasets)}",
    ]
    if code := trusted(result.config).trust_remote_code:
        located.append(f"trust_remote_code={code}")
    narrate("Loading the model for one real step; this takes as long as the start of a run…")
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **tool_environment(result.config.gpus, narrate)}
    request = {"config": str(config.absolute()), "settings": [*assignments, *located]}
    measured = run_tool("memory_probe", request, environment=environment)
    estimated = result.memory.total
    comparison = {
        "measured_gb": in_gigabytes(measured["taken"]),
        "estimated_gb": in_gigabytes(estimated),
        "allocated_gb": in_gigabytes(measured["allocated"]),
        "reserved_gb": in_gigabytes(measured["reserved"]),
        "ratio": round(estimated / measured["taken"], 3) if measured["taken"] else None,
        "longest": measured["longest"],
        "step_seconds": round(measured["step_seconds"], 3),
        "device": measured["device"],
    }
    if as_json:
        print_json(comparison)
        return
    click.echo(
        f"measured   {comparison['measured_gb']:.2f} GB on {measured['device']}, one step in "
        f"{comparison['step_seconds']} s"
    )
    click.echo(f"estimated  {comparison['estimated_gb']:.2f} GB")
    click.echo(f"longest    {measured['longest']} tokens of at most {result.config.max_seq_length}")
