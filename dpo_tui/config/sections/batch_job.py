"""[slurm]: what a job asks Slurm for, where ``launcher = "slurm"``.

Every value goes into a line of the job's script, so each has a pattern that leaves no room for a second option, a
quote or a line feed.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

from dpo_tui.config.setting import Section, setting

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]*")
_GRES = re.compile(r"[A-Za-z][A-Za-z0-9_]*(:[A-Za-z][A-Za-z0-9_.-]*)?(:\d+)?")
_MEMORY = re.compile(r"[1-9]\d*[KMGT]?")
# sbatch(1): minutes, minutes:seconds, hours:minutes:seconds, or days-hours with minutes and seconds after it.
_TIME = re.compile(r"\d+|\d+:[0-5]?\d|\d+:[0-5]?\d:[0-5]?\d|\d+-\d+(:[0-5]?\d){0,2}")
_OPTION = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=(?P<value>[A-Za-z0-9_.,:@%+*&|()\[\]/=-]+))?")

OWN_OPTIONS = {
    "account": "account",
    "array": "one run a job",
    "chdir": "",
    "cpus-per-task": "cpus_per_task",
    "dependency": "",
    "error": "",
    "export": "",
    "export-file": "",
    "gpus": "gres",
    "gpus-per-node": "gres",
    "gpus-per-task": "gres",
    "gres": "gres",
    "help": "",
    "hold": "",
    "job-name": "",
    "mem": "mem",
    "no-requeue": "requeue_limit",
    "nodes": "nodes",
    "ntasks": "",
    "ntasks-per-node": "",
    "open-mode": "",
    "output": "",
    "parsable": "",
    "partition": "partition",
    "qos": "qos",
    "requeue": "requeue_limit",
    "signal": "save_seconds",
    "test-only": "",
    "time": "time",
    "wait": "",
    "wrap": "",
}
"""Options of sbatch that a run sets itself, each with the setting for it; empty where there is none."""


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be a name as Slurm has it: letters, digits and . _ - + @")
    return value


def _partitions(value: str) -> str:
    for name in value.split(","):
        _name(name)
    return value


def _gres(value: str) -> str:
    if not all(_GRES.fullmatch(one) for one in value.split(",")):
        raise ValueError("must be name[:type][:count], such as gpu:1 or gpu:a100:1")
    return value


def _memory(value: str) -> str:
    if not _MEMORY.fullmatch(value):
        raise ValueError("must be a whole number with a unit K, M, G or T, such as 64G; without one it is megabytes")
    return value


def _time(value: str) -> str:
    if not _TIME.fullmatch(value) or not re.search(r"[1-9]", value):
        raise ValueError(
            "must be a time as sbatch takes it: minutes, hours:minutes:seconds, or days-hours:minutes:seconds, "
            "such as 4:00:00 or 1-12:00:00"
        )
    return value


def _option(value: str) -> str:
    found = _OPTION.fullmatch(value)
    if found is None:
        raise ValueError(
            f"{value!r}: must be one long option of sbatch without blanks or quotes, such as --constraint=a100"
        )
    # sbatch takes an option's name cut short, if it is unambiguous: --part=x would be a second --partition.
    name = found["name"]
    taken = next((own for own in OWN_OPTIONS if own.startswith(name)), None)
    if taken is not None:
        instead = OWN_OPTIONS[taken]
        raise ValueError(f"{value!r}: a run sets --{taken} itself" + (f"; use {instead}" if instead else ""))
    return value


def _options(values: list[str]) -> list[str]:
    return [_option(value) for value in values]


class SlurmSection(Section):
    """What a job asks Slurm for."""

    partition: Annotated[str, AfterValidator(_partitions)] | None = setting(
        None, "partition", "The partition, or several with commas; Slurm's default when left out.", advanced=True
    )
    account: Annotated[str, AfterValidator(_name)] | None = setting(
        None, "account", "The account that the job is charged to, where the cluster has accounts.", advanced=True
    )
    qos: Annotated[str, AfterValidator(_name)] | None = setting(
        None, "quality of service", "The quality of service (QOS), where the cluster has several.", advanced=True
    )
    time: Annotated[str, AfterValidator(_time)] | None = setting(
        None,
        "time limit",
        "How long one job may take, such as 4:00:00 or 1-12:00:00; the partition's limit when left out. Before it ends "
        "the run saves a checkpoint, and goes on in the same job, queued again.",
        advanced=True,
    )
    gres: Annotated[str, AfterValidator(_gres)] | None = setting(
        None, "GPUs of a job", "What Slurm calls the GPU: gpu:1, or gpu:a100:1 with a type.", advanced=True
    )
    gpu_memory: float | None = setting(
        None,
        "memory of its GPU",
        "Memory of the GPU that gres gives, for the estimate and for profile = auto: a login node cannot read it. "
        "Known by itself for types that exist in one size, such as gpu:h100:1.",
        unit="GB",
        advanced=True,
        gt=0,
        le=10_000,
    )
    cpus_per_task: int | None = setting(
        None,
        "processor cores",
        "Cores of the job; Slurm's default, often 1, when left out.",
        advanced=True,
        ge=1,
        le=4096,
    )
    mem: Annotated[str, AfterValidator(_memory)] | None = setting(
        None,
        "main memory",
        "Main memory of the job, such as 64G: loading the model takes about its size. The cluster's default when left "
        "out.",
        advanced=True,
    )
    nodes: int = setting(
        1,
        "nodes",
        "Nodes that train together. gres, gpu_count, mem and cpus_per_task count for each of them; all must see the "
        "run's folder, the model and the data.",
        advanced=True,
        ge=1,
        le=64,
    )
    sbatch_options: Annotated[list[str], AfterValidator(_options)] = setting(
        [],
        "other options",
        'Other options of sbatch, such as ["--constraint=a100", "--exclusive"].',
        advanced=True,
    )
    requeue_limit: int = setting(
        5,
        "times to go on",
        "How many times a run whose job reaches its time limit is queued again; 0 stops it there with a checkpoint.",
        advanced=True,
        ge=0,
        le=1000,
    )
    save_seconds: int = setting(
        120,
        "time to save",
        "Seconds before the time limit at which the run saves a checkpoint: more than a step and a save take.",
        unit="s",
        advanced=True,
        ge=10,
        le=3600,
    )
