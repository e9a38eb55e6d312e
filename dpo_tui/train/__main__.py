"""`python -m dpo_tui.train RUN_FOLDER`: the worker process, started by a run's launcher.

Its exit code tells the supervisor how it ended (:mod:`dpo_tui.runs.exit_codes`). Who ends it before its work is done:
:mod:`dpo_tui.train.worker.stop_requests`; why it failed: :mod:`dpo_tui.train.worker.failures`.

Next: :mod:`dpo_tui.train.run_training`, with the settings of the run's frozen config.toml.
"""

import atexit
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dpo_tui.runs import exit_codes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.node_probe import node_name
from dpo_tui.runs.out_of_memory_retry import ACCUMULATION_VARIABLE, MICRO_BATCH_VARIABLE
from dpo_tui.runs.process import set_pdeathsig
from dpo_tui.runs.ranks import Rank
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

if TYPE_CHECKING:
    from dpo_tui.train.worker.failures import Failure


def main(path: str) -> int:
    """Train the run in a folder; return the exit code.

    The end is recorded three times: by the exit code, by the last event, and for one of several ranks in
    ``ranks/N.json``.
    """
    folder = RunFolder(Path(path))
    rank = Rank.from_environment()
    journal = Journal(folder, rank)
    stop_requests = StopRequests(folder, rank)
    failure: Failure | None = None
    try:
        # Handlers before the parent-death signal: that one is SIGTERM, and arrives at once if the parent is gone.
        stop_requests.install()
        set_pdeathsig()
        journal.reporter.beat_in_background()
        journal.sync_in_background()
        if not rank.is_first:
            _redirect_output(folder, rank)
        journal.phase("starting")
        _train(folder, journal, stop_requests)
        code = exit_codes.DONE
    except StopRequested:
        stop_requests.clear_stop()
        journal.event("stopped", "Stopped as requested")
        code = exit_codes.STOPPED
    except Exception as error:
        failure = _record_failure(error, journal)
        code = failure.exit_code
    # While lines wait for a full disk, SIGTERM ends the waiting; the exit code stays that of the work.
    stop_requests.can_save = False
    with suppress(StopRequested):
        message, hint, peer_lost = (failure.message, failure.hint, failure.peer_lost) if failure else ("", "", False)
        journal.reporter.ended(code, message, hint, peer_lost=peer_lost)
        journal.flush_at_end()
    return code


def _redirect_output(folder: RunFolder, rank: Rank) -> None:
    """Send the output of this process, and of libraries in C, to the rank's own log."""
    folder.ranks.mkdir(exist_ok=True)
    descriptor = os.open(folder.rank_log(rank.rank), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        # Descriptors 1 and 2 themselves, not only Python's objects: C code writes to the numbers.
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    sys.stdout.write(f"Process {rank.rank} of {rank.world_size} on node {node_name()}\n")
    sys.stdout.flush()


def _train(folder: RunFolder, journal: Journal, stop_requests: StopRequests) -> None:
    # FutureWarnings are for developers of the libraries; train.log is for users.
    warnings.simplefilter("ignore", FutureWarning)
    # In this order: the config is cheap to read and often wrong, and the libraries bind tqdm when they are imported.
    from dpo_tui.config.files import load

    config = load(folder.config, _settings_of_attempt(folder, journal.rank)).config
    from dpo_tui.train.worker.progress_bars import report_bars
    from dpo_tui.train.worker.stack_imports import gc_paused, skip_bitsandbytes

    report_bars(lambda done, total, unit, description: journal.progress(done, total, unit, detail=description))
    with gc_paused():
        if config.provider == "unsloth":
            from dpo_tui.train.model.unsloth import import_first

            import_first()
        else:
            skip_bitsandbytes(config)
        from dpo_tui.train.run_training import run_training
        from dpo_tui.train.worker.distributed import AllReduceAny

    stop_requests.reduce_flags = AllReduceAny()
    run_training(config, folder, journal, stop_requests)


def _settings_of_attempt(folder: RunFolder, rank: Rank) -> dict[str, int | str | bool]:
    """Return the settings that differ in this attempt from the run's config.

    They are the batch sizes after an out-of-memory or on another number of processes, and that number; none in most
    attempts.
    """
    variables = {
        "per_device_train_batch_size": MICRO_BATCH_VARIABLE,
        "gradient_accumulation_steps": ACCUMULATION_VARIABLE,
    }
    changed: dict[str, int | str | bool] = {
        name: int(os.environ[variable]) for name, variable in variables.items() if variable in os.environ
    }
    from dpo_tui.config.files import load

    config = load(folder.config, changed).config
    if config.world_size == rank.world_size:
        return changed
    if rank.is_alone and config.distributed == "fsdp2":
        changed |= {"distributed": "auto", "cpu_offload": False}
    if config.gpus == "none":
        return changed | {"ranks": rank.world_size}
    # Which GPUs these are the launcher has decided, and CUDA shows no others.
    return changed | {"gpus": "auto", "gpu_count": rank.world_size}


def _record_failure(error: Exception, journal: Journal) -> "Failure":
    # stderr is train.log: writing the traceback fails on a full disk, and must not replace the cause.
    with suppress(OSError):
        traceback.print_exc()
    from dpo_tui.train.worker.failures import describe_failure

    failure = describe_failure(error)
    journal.event("failed", failure.message, hint=failure.hint, phase=journal.current_phase)
    return failure


def _leave_other_ranks(exit_code: int) -> NoReturn:
    """End one of several ranks, whose end is recorded, without the interpreter's finalisation.

    In it, freeing the process group waits, holding the interpreter's lock, for a thread of gloo that may wait for the
    lock (torch 2.13; seen once in eleven runs on busy cores).
    """
    # Nothing is left to save: a SIGTERM may end what follows at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(Exception):
        atexit._run_exitfuncs()  # of trackers, which send what they still have
        sys.stdout.flush()
        sys.stderr.flush()
    # A stop is no failure: for a code other than 0 torchrun would end the other ranks, which may still be writing. What
    # the ranks' reports say counts (dpo_tui.runs.ranks).
    os._exit(exit_codes.DONE if exit_code == exit_codes.STOPPED else exit_code)


if __name__ == "__main__":
    code_of_worker = main(sys.argv[1])
    if not Rank.from_environment().is_alone:
        _leave_other_ranks(code_of_worker)
    sys.exit(code_of_worker)
