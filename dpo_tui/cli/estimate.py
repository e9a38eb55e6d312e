"""`estimate`: will this run fit, what would make it fit, and how long does it take."""

import math
from pathlib import Path

import click

from dpo_tui.cli.estimate_answer import EstimateResult, answer_for, document
from dpo_tui.cli.estimate_text import lines
from dpo_tui.cli.output import narrate, print_json
from dpo_tui.config.files import load, parse_assignment
from dpo_tui.errors import RunError, UsageError
from dpo_tui.hardware.memory.fit import in_gigabytes
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.processes.torch_tool import run_tool

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
    answer = answer_for(loaded, vram)
    if probe:
        _probe(config, assignments, answer, as_json=as_json)
    elif as_json:
        print_json(document(answer))
    else:
        click.echo("\n".join(lines(answer)))


def _probe(config: Path, assignments: tuple[str, ...], answer: EstimateResult, *, as_json: bool) -> None:
    """One real step in a process of its own: this one stays free of torch, and its memory is gone afterwards."""
    if answer.device == "cpu":
        raise RunError("the probe needs a GPU, and none can be used here", hint="`dpo-tui doctor` says why")
    places = (f"model_name={answer.config.model_name}", f"dataset={answer.config.dataset}")
    narrate("Loading the model for one real step; this takes as long as the start of a run…")
    environment = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **tool_environment(answer.config.gpus, narrate)}
    request = {"config": str(config.absolute()), "settings": [*assignments, *places]}
    measured = run_tool("memory_probe", request, environment=environment)
    estimated = answer.memory.total
    found = {
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
        print_json(found)
        return
    click.echo(
        f"measured   {found['measured_gb']:.2f} GB on {measured['device']}, one step in {found['step_seconds']} s"
    )
    click.echo(f"estimated  {found['estimated_gb']:.2f} GB")
    click.echo(f"longest    {measured['longest']} tokens of at most {answer.config.max_seq_length}")
