"""The environment that every launcher gives its worker. Standard library only."""

import os

from dpo_tui.processes.child_environment import set_library_defaults
from dpo_tui.runs import out_of_memory_retry
from dpo_tui.runs.devices import set_device_variables
from dpo_tui.runs.process import PARENT_PID_VARIABLE, SUPERVISOR_PID_VARIABLE
from dpo_tui.runs.ranks import RANK_VARIABLES
from dpo_tui.runs.state import State


def worker_environment(state: State) -> dict[str, str]:
    """This process's environment with the run's devices, the supervisor's pid, and the batch if a retry shrank it.

    RANK, LOCAL_RANK and WORLD_SIZE are removed: they would be inherited from a surrounding job, and a worker that takes
    itself for rank 3 of 8 writes nothing and waits for the others. Whatever starts ranks sets them for each.
    """
    environment = dict(os.environ)
    environment["PYTHONUNBUFFERED"] = "1"
    set_library_defaults(environment)
    environment[SUPERVISOR_PID_VARIABLE] = str(os.getpid())
    set_device_variables(environment, state.devices)
    for variable in (PARENT_PID_VARIABLE, *RANK_VARIABLES):
        environment.pop(variable, None)
    for variable, value in (
        (out_of_memory_retry.MICRO_BATCH_VARIABLE, state.per_device_train_batch_size),
        (out_of_memory_retry.ACCUMULATION_VARIABLE, state.gradient_accumulation_steps),
    ):
        environment.pop(variable, None)
        if value is not None:
            environment[variable] = str(value)
    return environment
