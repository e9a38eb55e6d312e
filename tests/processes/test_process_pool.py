"""A pool of forked processes."""

import gc
import sys
from collections.abc import Iterator

import pytest

from dpo_tui.processes.process_pool import run_in_order


def frozen_objects(_: int) -> int:
    return gc.get_freeze_count()


def nothing() -> None:
    pass


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Importing the training stack in a test freezes its objects."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
def test_a_collection_in_a_forked_process_does_not_copy_what_the_processes_share() -> None:
    """Each would have had its own copy of everything that was imported: 170 MB a process, with torch."""
    results = run_in_order(frozen_objects, range(8), workers=2, prepare=nothing)
    assert min(results) > 10_000, "what existed before the fork is out of the collector's reach"
    assert gc.get_freeze_count() == 0, "and is collected here again, once they are done"


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
def test_objects_that_were_frozen_before_stay_so() -> None:
    gc.freeze()
    assert [*run_in_order(abs, [-1, -2], workers=2, prepare=nothing)] == [1, 2]
    assert gc.get_freeze_count() > 10_000


def test_one_process_needs_no_pool() -> None:
    assert [*run_in_order(frozen_objects, range(3), workers=1, prepare=nothing)] == [0, 0, 0]
