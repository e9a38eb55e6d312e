"""Doctor check of the cluster whose login node this machine may be."""

from pathlib import Path

from dpo_tui.errors import RunError
from dpo_tui.hardware.doctor.registry import DoctorFinding, MachineFacts, check
from dpo_tui.runs.launchers import slurm_commands

_CONFIGS = (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"), Path("/run/slurm/conf/slurm.conf"))
_DEADLINE = 5.0
_MOST_SHOWN = 6


@check
def slurm(facts: MachineFacts) -> DoctorFinding | None:
    """Whether jobs can be submitted from here, and the GPUs that each partition has."""
    configured = "SLURM_CONF" in facts.environ or any(path.exists() for path in _CONFIGS)
    if not (configured and slurm_commands.is_installed()):
        return None
    try:
        partitions = slurm_commands.partition_gres(deadline=_DEADLINE)
    except RunError as error:
        return DoctorFinding("slurm", "warn", f"Slurm does not answer: {error.message}", "sinfo")
    shown = [f"{name} ({', '.join(gres)})" if gres else name for name, gres in sorted(partitions.items())]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    listed = ", ".join(shown[:_MOST_SHOWN]) + more
    return DoctorFinding("slurm", "ok", f'partitions {listed}; launcher = "slurm" submits runs as jobs')
