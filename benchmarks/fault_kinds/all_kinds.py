"""All kinds of faults: importing their modules registers them."""

import benchmarks.fault_kinds.disk_faults
import benchmarks.fault_kinds.gpu_faults
import benchmarks.fault_kinds.hostile_files
import benchmarks.fault_kinds.kills
import benchmarks.fault_kinds.limits
import benchmarks.fault_kinds.machine_identity
import benchmarks.fault_kinds.memory_group
import benchmarks.fault_kinds.network_faults
import benchmarks.fault_kinds.paused
import benchmarks.fault_kinds.races
import benchmarks.fault_kinds.rank_faults
import benchmarks.fault_kinds.real_training
import benchmarks.fault_kinds.slurm_faults
import benchmarks.fault_kinds.torn_files  # noqa: F401
from benchmarks.fault_kinds.kind import KINDS

__all__ = ["KINDS"]
