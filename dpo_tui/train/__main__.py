"""`python -m dpo_tui.train RUN_FOLDER`: the worker's process, started by a run's supervisor.

Its exit code tells the supervisor how it ended (:mod:`dpo_tui.runs.exit_codes`).
"""

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_tui.runs import exit_codes
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.out_of_memory_retry import ACCUMULATION_VARIABLE, MICRO_BATCH_VARIABLE
from dpo_tui.runs.process import set_pdeathsig
from dpo_tui.runs.ranks import Rank
from dpo_tui.train.worker.journal import Journal
from dpo_tui.train.worker.stop_requests import StopRequested, StopRequests

if TYPE_CHECKING:
    from dpo_tui.train.worker.failures import Failure


def main(path: str) -> int:
    """Work on a run folder; return the exit code.

    How this process ended is told by the exit code, by the last event, and as one of several ranks by ``ranks/N.json``.
    """
    folder = RunFolder(Path(path))
    rank = Rank.from_environment()
    journal = Journal(folder, rank)
    interruption = StopRequests(folder, rank)
    failure: Failure | None = None
    try:
        interruption.install()
        set_pdeathsig()
        if not rank.is_first:
            _redirect_output(folder, rank)
        journal.phase("starting")
        _train(folder, journal, interruption)
        code = exit_codes.DONE
    except StopRequested:
        interruption.honoured()
        journal.event("stopped", "Stopped as requested")
        code = exit_codes.STOPPED
    except Exception as error:
        failure = _fail(error, journal)
        code = failure.exit_code
    # From here on SIGTERM ends the waiting for a full disk, and not the answer.
    interruption.can_save = False
    with suppress(StopRequested):
        message, hint, peer_lost = (failure.message, failure.hint, failure.peer_lost) if failure else ("", "", False)
        journal.reporter.ended(code, message, hint, peer_lost=peer_lost)
        journal.settle()
    return code


def _redirect_output(folder: RunFolder, rank: Rank) -> None:
    """Send the output of this process, and of libraries in C, to the rank's own log."""
    folder.ranks.mkdir(exist_ok=True)
    descriptor = os.open(folder.rank_log(rank.rank), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def _train(folder: RunFolder, journal: Journal, interruption: StopRequests) -> None:
    # Notices for the libraries' developers; train.log is for the person whose run it is.
    warnings.simplefilter("ignore", FutureWarning)
    # In this order: the config is cheap and often wrong; the bars must be in place before the libraries import tqdm.
    from dpo_tui.config.files import load

    config = load(folder.config, _smaller_batches()).config
    from dpo_tui.train.worker.progress_bars import install

    install(lambda done, total, unit, words: journal.progress(done, total, unit, detail=words))
    with _gc_paused():
        if config.provider == "unsloth":
            from dpo_tui.train.model.unsloth import import_first

            import_first()
        else:
            from dpo_tui.train.worker.lazy_bitsandbytes import skip_bitsandbytes

            skip_bitsandbytes(config)
        from dpo_tui.train.run_training import run_training
        from dpo_tui.train.worker.distributed import AnyRank

    interruption.agree = AnyRank()
    run_training(config, folder, journal, interruption)


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Spare the libraries the garbage collector: searching them costs a sixth of their import, and again later."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _smaller_batches() -> dict[str, int]:
    names = {
        "per_device_train_batch_size": MICRO_BATCH_VARIABLE,
        "gradient_accumulation_steps": ACCUMULATION_VARIABLE,
    }
    return {name: int(os.environ[variable]) for name, variable in names.items() if variable in os.environ}


def _fail(error: Exception, journal: Journal) -> "Failure":
    # On a full disk train.log refuses the traceback; the reason must not be lost with it.
    with suppress(OSError):
        traceback.print_exc()
    from dpo_tui.train.worker.failures import describe_failure

    failure = describe_failure(error)
    journal.event("failed", failure.message, hint=failure.hint, phase=journal.current_phase)
    return failure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
