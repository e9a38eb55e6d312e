"""`python -m dpo_tui.train RUN_FOLDER`: the worker's process, started by a run's supervisor.

Its exit code tells the supervisor how it ended (:mod:`dpo_tui.runs.protocol`).
"""

import gc
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpo_tui.runs import protocol
from dpo_tui.runs.batch import ACCUMULATION_VARIABLE, MICRO_BATCH_VARIABLE
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.process import set_pdeathsig
from dpo_tui.train.interruption import Interruption, StopRequested
from dpo_tui.train.journal import Journal


def main(path: str) -> int:
    """Work on a run folder; return the exit code."""
    folder = RunFolder(Path(path))
    journal = Journal(folder)
    interruption = Interruption(folder)
    try:
        interruption.install()
        set_pdeathsig()
        journal.phase("starting")
        _train(folder, journal, interruption)
    except StopRequested:
        interruption.honoured()
        journal.event("stopped", "Stopped as requested")
        return protocol.STOPPED
    except Exception as error:
        return _fail(error, journal)
    return protocol.DONE


def _train(folder: RunFolder, journal: Journal, interruption: Interruption) -> None:
    # Notices for the libraries' developers; train.log is for the person whose run it is.
    warnings.simplefilter("ignore", FutureWarning)
    # In this order: the config is cheap and often wrong; the bars must be in place before the libraries import tqdm.
    from dpo_tui.config.files import load

    config = load(folder.config, _smaller_batches()).config
    from dpo_tui.train.bars import install

    install(lambda done, total, unit, words: journal.progress(done, total, unit, detail=words))
    with _nothing_is_garbage():
        if config.provider == "unsloth":
            from dpo_tui.train.unsloth_stack import import_first

            import_first()
        else:
            from dpo_tui.train.spared import spare_bitsandbytes

            spare_bitsandbytes(config)
        from dpo_tui.train.worker import work

    work(config, folder, journal, interruption)


@contextmanager
def _nothing_is_garbage() -> Iterator[None]:
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


def _fail(error: Exception, journal: Journal) -> int:
    traceback.print_exc()
    from dpo_tui.train.failures import describe_failure

    failure = describe_failure(error)
    journal.event("failed", failure.message, hint=failure.hint, phase=journal.current_phase)
    return failure.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
