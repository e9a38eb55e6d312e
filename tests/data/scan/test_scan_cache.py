"""What scans leave in the cache makes room by age, by number and by size, and what is in use stays."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui import paths
from dpo_tui.data import cache_folders
from dpo_tui.data.scan import scan_cache
from dpo_tui.data.scan.row_index import open_index
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from tests.support.data_files import rows, write_lines

pytestmark = pytest.mark.usefixtures("home")


def cached() -> set[str]:
    return {path.name for path in (paths.cache() / "data").iterdir()}


def cache(name: str, used: float, size: int = 10) -> None:
    """A finished cache folder of this size that was last used at this time."""
    folder = paths.cache() / "data" / name
    draft = cache_folders.Draft(folder)
    (draft.path / "rows.jsonl").write_bytes(b"x" * size)
    draft.commit()
    if folder.exists():
        os.utime(folder, (used, used))


def test_the_twenty_used_last_are_cached() -> None:
    for number in range(21):
        cache(f"old-{number:02}", used=1000 + number)
    cache("new", used=5000)
    assert cached() == {"new", *(f"old-{number:02}" for number in range(2, 21))}


def test_the_caches_used_longest_ago_make_room_for_unpacked_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 1000)
    cache("first", used=1000, size=400)
    cache("second", used=2000, size=400)
    cache("third", used=3000, size=200)
    assert cached() == {"first", "second", "third"}
    cache("fourth", used=4000, size=1)
    assert cached() == {"second", "third", "fourth"}


def test_the_newest_stays_however_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 1000)
    cache("small", used=1000)
    cache("huge", used=2000, size=5000)
    assert cached() == {"huge"}


def test_opening_a_dataset_again_makes_its_cache_the_last_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real archive, whose rows are written out beside its index."""
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in rows(50)).encode()))
    open_index(Source(str(packed)))
    (archive,) = cached()
    folder = paths.cache() / "data" / archive
    assert (folder / "rows.jsonl").stat().st_size > 1000
    os.utime(folder, (1000, 1000))
    cache("younger", used=2000, size=50)
    assert open_index(Source(str(packed))).count == 50
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", sum(path.stat().st_size for path in folder.iterdir()) + 100)
    cache("youngest", used=3000, size=60)
    assert cached() == {archive, "youngest"}


def test_drafts_of_killed_scans_go_and_those_at_work_stay() -> None:
    cache("one", used=1000)
    dead = cache_folders.Draft(paths.cache() / "data" / "dead").path
    at_work = cache_folders.Draft(paths.cache() / "data" / "at-work").path
    hours_ago = at_work.stat().st_mtime - 2 * 3600
    os.utime(dead, (hours_ago, hours_ago))
    cache("two", used=2000)
    assert cached() == {"one", "two", at_work.name}


def test_a_changed_file_has_a_cache_of_its_own(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", rows(5))
    open_index(Source(str(path)))
    write_lines(path, rows(6))
    assert open_index(Source(str(path))).count == 6
    assert len(cached()) == 2


def test_a_draft_that_is_given_up_leaves_nothing_and_caches_are_the_owners_alone() -> None:
    """A cache may hold all rows of a private dataset."""
    draft = cache_folders.Draft(paths.cache() / "data" / "given-up")
    (draft.path / "rows.jsonl").write_text("{}\n")
    draft.discard()
    assert cached() == set()
    assert (paths.cache() / "data").stat().st_mode & 0o777 == 0o700
    cache("one", used=1000)
    assert (paths.cache() / "data" / "one").stat().st_mode & 0o777 == 0o700


def test_a_dataset_that_is_open_stays_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app browses an archive whose rows lie in the cache, while other scans need the room."""
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in rows(50)).encode()))
    index = open_index(Source(str(packed)))
    (archive,) = cached()
    os.utime(paths.cache() / "data" / archive, (1000, 1000))
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 100)
    cache("second", used=2000)
    cache("third", used=3000)
    assert cached() == {archive, "third"}
    assert index.row(50) == rows(50)[49]
    del index
    cache("fourth", used=4000)
    cache("fifth", used=5000, size=90)
    assert cached() == {"fourth", "fifth"}


def test_one_that_another_process_has_open_stays_until_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    cache("open", used=1000)
    code = (
        "import sys, time; from pathlib import Path; from dpo_tui.data.cache_folders import FolderInUse\n"
        "used = FolderInUse(Path(sys.argv[1])); print('open', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(paths.cache() / "data" / "open")], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 15)
            cache("second", used=2000)
            cache("third", used=3000)
            assert cached() == {"open", "third"}
        finally:
            other.kill()
    cache("fourth", used=4000)
    assert cached() == {"fourth"}


def test_the_draft_of_a_scan_that_takes_hours_stays() -> None:
    draft = cache_folders.Draft(paths.cache() / "data" / "slow")
    hours_ago = draft.path.stat().st_mtime - 2 * 3600
    os.utime(draft.path, (hours_ago, hours_ago))
    cache("one", used=1000)
    assert cached() == {"one", draft.path.name}
    draft.commit()
    assert "slow" in cached()


def test_a_scan_leaves_the_rows_of_an_archive_to_whoever_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in rows(50)).encode()))
    source = Source(str(packed))
    index = open_index(source)
    (archive,) = cached()
    scan(ScanRequest(source, workers=1), lambda event: None)
    assert cached() == {archive}
    assert scan_cache.cached_flags(source) is not None
    assert index.row(50) == open_index(source).row(50) == rows(50)[49]
    os.utime(paths.cache() / "data" / archive, (1000, 1000))
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 100)
    cache("second", used=2000)
    cache("third", used=3000)
    assert cached() == {archive, "third"}
