"""The scan runs in a child process, tells what it finds as it goes, and can be ended."""

import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dpo_tui.cli.inspect import inspect
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.scan import scanner as scan_module
from dpo_tui.data.scan.row_index import open_index
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.length_histogram import LengthHistogram
from dpo_tui.errors import DataError, DpoTuiError
from tests.support.data_files import NO_CLEAR_WINNER, TOO_SIMILAR, row, rows, write_lines

pytestmark = pytest.mark.usefixtures("home")

# The keys that are promised to whoever reads the JSON.
PROMISED = {
    "rows", "usable", "format", "columns", "lengths", "will_drop", "will_truncate", "problems", "verdict",
}  # fmt: skip


def request_for(path: Path, **options: Any) -> ScanRequest:
    return ScanRequest(Source(str(path)), **options)


def test_the_child_ends_with_a_report(tmp_path: Path) -> None:
    with ScanProcess(request_for(write_lines(tmp_path / "data.jsonl", rows(10)))) as process:
        *_, last = process.events()
    assert last["event"] == "report"
    assert last["report"].keys() >= PROMISED
    assert last["report"]["usable"] == 10


def test_the_child_finds_the_package_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PYTHONPATH=. dpo-tui inspect` begins in the checkout; the child may begin elsewhere, beside another package."""
    write_lines(tmp_path / "data.jsonl", rows(3))
    (tmp_path / "dpo_tui").mkdir()
    (tmp_path / "dpo_tui" / "__init__.py").write_text("raise SystemExit('another package')\n")
    monkeypatch.setenv("PYTHONPATH", ".")
    monkeypatch.chdir(tmp_path)
    with ScanProcess(request_for(Path("data.jsonl"))) as process:
        *_, last = process.events()
    assert last["report"]["usable"] == 3


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "file"))
    request = request_for(write_lines(tmp_path / "data.jsonl", rows(10)))
    with ScanProcess(request) as process, pytest.raises(DataError, match="file/cache: Not a directory") as caught:
        list(process.events())
    assert "DPO_TUI_HOME" in str(caught.value.hint)


def test_the_child_tells_an_error_for_people(tmp_path: Path) -> None:
    request = request_for(write_lines(tmp_path / "data.jsonl", [{"a": 1}]))
    expected = pytest.raises(DataError, match="`chosen` and `rejected` are missing")
    with ScanProcess(request) as process, expected as caught:
        list(process.events())
    assert "One pair a line is expected" in str(caught.value.hint)


def large(path: Path, count: int = 60_000) -> Path:
    text = "".join(json.dumps(row(number)) + "\n" for number in range(1000))
    path.write_text(text * (count // 1000))
    return path


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    path = large(tmp_path / "data.jsonl", 20_000)
    with path.open("a") as file:
        for extra in (TOO_SIMILAR, NO_CLEAR_WINNER):
            file.write(json.dumps(extra) + "\n\n")
    alone = scan(request_for(path, workers=1), lambda _event: None).to_json()
    with ScanProcess(request_for(path, workers=3)) as process:
        *_, last = process.events()
    assert last["report"] == alone
    problems = {problem["check"]: problem for problem in alone["problems"]}
    assert problems["too-similar"]["rows"] == [20_001]
    assert problems["no-clear-winner"]["rows"] == [20_003]
    assert problems["duplicate-pair"]["count"] == 19_000
    assert problems["duplicate-pair"]["rows"] == list(range(1001, 1101))


def test_progress_and_partial_reports_come_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(scan_module, "_PARTIAL_EVERY", 0.0)
    events: list[dict[str, Any]] = []
    scan(request_for(large(tmp_path / "data.jsonl", 30_000), workers=1), events.append)
    done = [event["done"] for event in events if event["event"] == "progress"]
    partial = [event["report"] for event in events if event["event"] == "partial"]
    assert done == sorted(done)
    assert done[-1] == (tmp_path / "data.jsonl").stat().st_size
    assert [report["rows"] for report in partial] == sorted(report["rows"] for report in partial)
    assert 0 < partial[0]["rows"] < 30_000
    assert not partial[0]["complete"]
    assert partial[0]["verdict"] == "still reading"


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_cancelled_scan_leaves_no_process_behind(tmp_path: Path) -> None:
    process = ScanProcess(request_for(large(tmp_path / "data.jsonl", 400_000), workers=2))
    next(process.events())
    members = family(process.pid)
    process.close()
    wait_until_gone(members)
    process.close()  # twice does no harm


def test_a_killed_child_is_said_in_words(tmp_path: Path) -> None:
    with ScanProcess(request_for(large(tmp_path / "data.jsonl", 400_000), workers=2)) as process:
        events = process.events()
        next(events)
        members = family(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DataError, match="ended by SIGKILL"):
            list(events)
        wait_until_gone(members[1:])


def test_the_child_ends_when_nobody_listens_any_more(tmp_path: Path) -> None:
    path = large(tmp_path / "data.jsonl", 400_000)
    code = (
        "import os, sys\n"
        "from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest\n"
        "from dpo_tui.data.source.source import Source\n"
        "process = ScanProcess(ScanRequest(Source(sys.argv[1]), workers=2))\n"
        "next(process.events())\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the scan goes on for nobody"
        time.sleep(0.05)


def test_a_request_survives_its_journey() -> None:
    request = ScanRequest(
        Source("a", "b", "c", "d", "e", "f", "g", 7), "model", 9, workers=2, evaluation=Source("eval", split="test")
    )
    assert ScanRequest.from_json(json.dumps(dataclasses.asdict(request)).encode()) == request


def test_what_the_screens_use_loads_neither_numpy_nor_arrow() -> None:
    """The first paint comes without them."""
    code = (
        "import sys\n"
        "import dpo_tui.data.scan.scan_process, dpo_tui.data.scan.row_index, dpo_tui.data.scan.row_search\n"
        "import dpo_tui.data.load_pairs, dpo_tui.data.load_demonstrations, dpo_tui.data.pairs.hold_out_by_prompt\n"
        "import dpo_tui.data.tokens.pair_lengths, dpo_tui.data.scan.report_text\n"
        "import dpo_tui.data.pairs.word_diff, dpo_tui.cli.inspect\n"
        "print([name for name in ('numpy', 'pyarrow', 'torch', 'datasets', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_histogram_gives_exact_quantiles() -> None:
    import numpy as np

    lengths = np.random.default_rng(0).integers(0, 5000, 10_001)
    histogram = LengthHistogram()
    for part in np.array_split(lengths, 7):
        histogram.add(part)
    ordered = np.sort(lengths)
    for share in (0.5, 0.95, 0.99, 1.0):
        assert histogram.quantile(share) == ordered[int(np.ceil(share * len(ordered))) - 1]
    assert sum(histogram.summary()["histogram"]["counts"]) == histogram.count


def test_lengths_beyond_the_cap_still_give_the_largest() -> None:
    import numpy as np

    histogram = LengthHistogram()
    histogram.add(np.array([5, 10_000_000], dtype=np.int64))
    assert (histogram.largest, histogram.quantile(1.0), histogram.quantile(0.5)) == (10_000_000, 10_000_000, 5)


def run_inspect(*arguments: str) -> Any:
    return CliRunner().invoke(inspect, list(arguments), catch_exceptions=False)


def test_json_is_one_document_with_the_promised_keys(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [*rows(10), TOO_SIMILAR])
    done = run_inspect(str(path), "--json")
    document = json.loads(done.stdout)
    assert document.keys() >= PROMISED
    (problem,) = [one for one in document["problems"] if one["check"] == "too-similar"]
    assert (problem["severity"], problem["count"], problem["rows"]) == ("warning", 1, [11])


def test_text_fits_80_columns_and_ends_with_the_verdict(tmp_path: Path) -> None:
    records = [*rows(600), TOO_SIMILAR, NO_CLEAR_WINNER, row(1) | {"chosen": ""}, *rows(30)]
    done = run_inspect(str(write_lines(tmp_path / "data.jsonl", records)))
    lines = done.stdout.rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 80
    assert "633 rows, 632 usable pairs" in done.stdout
    assert lines[-1].endswith(".")
    assert "\nGood: 632 pairs can be trained on. Worth a look: " in done.stdout


def test_the_verdict_warns_of_what_weighs(tmp_path: Path) -> None:
    done = run_inspect(str(write_lines(tmp_path / "data.jsonl", rows(20))))
    assert "Usable with care: 20 pairs can be trained on. First look at: few-pairs." in done.stdout
    records = [*rows(20), *[{"prompt": "p"}] * 10]
    done = run_inspect(str(write_lines(tmp_path / "data.jsonl", records)))
    assert "Doubtful: 20 pairs can be trained on, but 33% of the rows cannot be used." in done.stdout


def test_control_sequences_never_reach_the_terminal(tmp_path: Path) -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    record = {f"{nasty}column": 1, "prompt": "p", "chosen": nasty}
    path = write_lines(tmp_path / "data.jsonl", [*rows(5), record, row(7) | {"chosen": f"{nasty} text"}])
    done = run_inspect(str(path))
    assert "missing-field" in done.stdout
    assert not [sign for sign in done.stdout if sign != "\n" and not sign.isprintable()]
    with pytest.raises(DataError) as caught:
        run_inspect(str(write_lines(tmp_path / "bad.jsonl", [record])))
    assert not [sign for sign in str(caught.value) if sign != "\n" and not sign.isprintable()]


def test_columns_and_splits_are_chosen_on_the_command_line(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"q": "p", "up": "a", "down": "b"}])
    write_lines(tmp_path / "test.jsonl", [{"q": "p2", "up": "a", "down": "b"}] * 2)
    fields = ("--prompt-field", "q", "--chosen-field", "up", "--rejected-field", "down")
    done = run_inspect(str(tmp_path), "--split", "test", *fields, "--json")
    assert json.loads(done.stdout)["columns"] == {"prompt": "q", "chosen": "up", "rejected": "down"}
    assert json.loads(done.stdout)["rows"] == 2


@pytest.mark.parametrize(
    ("words", "said"), [(["", "--json"], "has no name"), (["data.jsonl", "--max-length", "9"], "Add --model")]
)
def test_what_would_be_guessed_or_passed_over_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    """An unset variable is not the working folder, and a length without a tokenizer is no check."""
    write_lines(tmp_path / "data.jsonl", rows(10))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DpoTuiError) as caught:
        run_inspect(*words)
    assert caught.value.exit_code == 2 and said in str(caught.value)


def test_the_model_tells_what_training_will_drop(tmp_path: Path, tiny_model: Path) -> None:
    records = [*rows(10), row(11) | {"prompt": "reset my password " * 60}]
    path = write_lines(tmp_path / "data.jsonl", records)
    done = run_inspect(str(path), "--model", str(tiny_model), "--max-length", "128")
    text = " ".join(done.stdout.split())
    assert "at max_seq_length 128 training will drop 1 pair and cut" in text
    assert "keeps 95 % of the pairs whole" in text
    assert "Usable with care: 10 of 11 usable pairs fit." in text


def groups(path: Path, records: list[Any]) -> Path:
    """Write a Parquet file of several row groups."""
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=7)
    return path


@pytest.mark.parametrize("most", [3, 10, 12, 25])
@pytest.mark.parametrize("write", [groups, write_lines])
def test_max_rows_counts_the_rows_of_all_files_as_training_does(
    tmp_path: Path, tiny_model: Path, write: Callable[[Path, list[Any]], Path], most: int
) -> None:
    suffix = "parquet" if write is groups else "jsonl"
    paths = [str(write(tmp_path / f"{at}.{suffix}", rows(30)[10 * at : 10 * at + 10])) for at in range(3)]
    source = Source.of(paths, max_rows=most)
    report = scan(ScanRequest(source, model=str(tiny_model)), lambda _: None)
    loaded = load_pairs(source)
    assert report.rows == report.usable == loaded.total == len(loaded.pairs) == most
    assert [one["rows"] for one in report.sources] == [one.rows for one in loaded.sources]
    assert report.lengths["tokens"]["prompt"]["count"] == most
    assert open_index(source).count == most


def test_max_rows_of_a_mix_is_the_size_of_what_is_drawn(tmp_path: Path) -> None:
    paths = [str(write_lines(tmp_path / f"{at}.jsonl", rows(40)[20 * at : 20 * at + 20])) for at in range(2)]
    source = Source.of(paths, weights=(1, 3), max_rows=8)
    report = scan(ScanRequest(source), lambda _: None)
    assert report.rows == load_pairs(source).total == 40
    assert [one["used"] for one in report.sources] == [one.used for one in load_pairs(source).sources] == [2, 6]


def test_max_rows_leaves_the_values_of_a_table_what_they_are(tmp_path: Path) -> None:
    """The first rows went through JSON, where dates are texts that look like answers."""
    days = [{**row(number), "chosen": datetime.date(2026, 1, 1 + number)} for number in range(9)]
    source = Source(str(groups(tmp_path / "days.parquet", days)), max_rows=5)
    for read in (load_pairs, lambda source: scan(ScanRequest(source), lambda _: None)):
        with pytest.raises(DataError, match="`chosen` is date, not text or messages"):
            read(source)


def test_max_rows_does_not_shorten_what_is_held_out(tmp_path: Path) -> None:
    """Training reads the evaluation split whole, so that each row of it can be a leak."""
    data = write_lines(tmp_path / "data.jsonl", rows(10))
    held_out = write_lines(tmp_path / "held_out.jsonl", [*rows(60)[50:], row(1)])
    request = ScanRequest(Source(str(data), max_rows=5), evaluation=Source(str(held_out)))
    assert [one.rows for one in scan(request, lambda _: None).problems if one.check == "leak"] == [[2]]
