"""Scan a whole dataset: rows, checks, lengths, duplicates, tokens, with partial reports on the way.

``python -m dpo_tui.data.scan.scanner`` is the child process behind ``dpo-tui inspect`` and the data screen
(`dpo_tui.data.scan.scan_process`). It reads one JSON request from stdin and writes events as JSON lines: ``progress``,
``partial`` (a report of what is known so far), ``report``, ``error``. It ends when nobody reads them any more.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import IO, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui import paths
from dpo_tui.data.cache_folders import Draft
from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.registry import HIGHEST_BIT, checks
from dpo_tui.data.load_rows import DroppedRows, notes_on, numbered_rows, raise_if_unclear, raise_if_unusable
from dpo_tui.data.pairs.pair import RowProblem, Unreadable
from dpo_tui.data.rows.column_shapes import ColumnMapping
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.scan.chunk_scanner import ChunkScanner, ChunkStats
from dpo_tui.data.scan.duplicates import PairLog
from dpo_tui.data.scan.labelled_report import labelled_report
from dpo_tui.data.scan.pair_batcher import BLANK
from dpo_tui.data.scan.report import Report, make_report
from dpo_tui.data.scan.row_index import RowIndex, RowPosition
from dpo_tui.data.scan.scan_cache import cache_folder
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.totals import Totals
from dpo_tui.data.source.chunks import Chunk, LineChunk, RowLimit
from dpo_tui.data.source.locate import locate, locate_evaluation
from dpo_tui.data.source.row_places import RowPlaces
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.data.source_mix import SourceRows, sources_of
from dpo_tui.data.tokens.count_tokens import count_tokens, sample_pairs
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.template_check import check_rows
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.data.tokens.tool_arguments import with_pair_arguments_for
from dpo_tui.errors import DataError, DpoTuiError
from dpo_tui.hub.tokenizer_files import tokenizer_folder
from dpo_tui.processes.process_pool import cores, run_in_order

# Seconds between two events of a kind.
_PROGRESS_EVERY = 0.1
_PARTIAL_EVERY = 0.5
# Bytes. A smaller file is read before further processes would have started.
_ONE_PROCESS = 8 << 20

Emit = Callable[[dict[str, Any]], None]


def scan(request: ScanRequest, emit: Emit) -> Report:
    """Scan a dataset, and store flags, index and report in the cache.

    Args:
        request: what to scan.
        emit: called with every ``progress`` and ``partial`` event.

    Raises:
        DataError: it cannot be read, or no row of it can be used.
    """
    running = _Scan(request, emit)
    try:
        return running.run()
    finally:
        running.close()


class _Scan:
    def __init__(self, request: ScanRequest, emit: Emit) -> None:
        self.request = request
        self.emit = emit
        self.checks = checks()
        self.totals = Totals(HIGHEST_BIT + 1)
        self.pair_log = PairLog()
        self.files = locate(request.source, self._download_progress)
        self.size = sum(file.path.stat().st_size for file in self.files)
        self.workers = request.workers or (1 if self.size <= _ONE_PROCESS else cores())
        self.draft = Draft(cache_folder(self.files, request.source))
        self.positions: list[RowPosition] = []
        self.first_rows: list[int] = []
        self.places = RowPlaces([file.path for file in self.files], self.first_rows)
        self.rows = [0] * len(request.source.locations)
        self.usable = [0] * len(request.source.locations)
        self.sources: list[SourceRows] = []
        self.totals.notes += notes_on(self.files)
        self._last_progress = self._last_partial = time.monotonic()

    def run(self) -> Report:
        with (self.draft.path / "flags.u32").open("w+b") as flags:
            self._first_pass(flags)
            self._compare_rows(flags)
        self.first_rows += [self.totals.lines] * (len(self.files) - len(self.first_rows))
        labelled = self._labelled() if self.totals.rows and not self.totals.usable else None
        if labelled is None:
            self._raise_if_unusable()
        if len(self.rows) > 1:
            source = self.request.source
            self.sources = sources_of(source.locations, self.rows, self.usable, source.weights, source.max_rows)
            self.totals.notes += [one.note() for one in self.sources]
        report = labelled[0] if labelled else self._report(complete=True)
        if labelled:
            self._flag_labelled_rows(labelled[1])
        RowIndex(self.files, self.positions, self.totals.lines, first_rows=self.first_rows).save(self.draft.path)
        (self.draft.path / "report.json").write_bytes(orjson.dumps(report.to_json()))
        self.draft.commit()
        if labelled or self.request.model is None:
            return report
        self.emit({"event": "partial", "report": report.to_json()})
        return self._with_tokens()

    def _labelled(self) -> tuple[Report, NDArray[np.uint32]] | None:
        """The report on labelled answers, where there are some in place of pairs."""
        return labelled_report(self.request, self.checks, self._places_of_files())

    def _places_of_files(self) -> list[tuple[str, int]]:
        return [(str(file.path), first) for file, first in zip(self.files, self.first_rows, strict=False)]

    def _flag_labelled_rows(self, flags: NDArray[np.uint32]) -> None:
        """Replace the flags of a scan for pairs, which every row has; blank lines stay."""
        stored = np.memmap(self.draft.path / "flags.u32", dtype=np.uint32, mode="r+")
        stored[stored != BLANK] = 0
        stored[: len(flags)] |= flags[: len(stored)]

    def close(self) -> None:
        self.pair_log.close()
        self.draft.discard()

    def _first_pass(self, flags: IO[bytes]) -> None:
        submitted: deque[tuple[int, Chunk]] = deque()
        done = 0
        # The length of a stream is unknown until it ends, so there is no total to show.
        size = self.size if all(file.packed is None and file.kind == "json" for file in self.files) else 0
        # The rows of a chunk are numbered from 0 in the process that scans it. Only here, where the parts come one
        # after the other, is it known how many rows precede them.
        for part in self._scan_chunks(self.files, self.request.source.rows_read, submitted):
            # Results come in the order in which chunks were submitted.
            file, chunk = submitted.popleft()
            self.first_rows += [self.totals.lines] * (file + 1 - len(self.first_rows))
            self.rows[self.files[file].part] += int((part.flags != BLANK).sum())
            self.usable[self.files[file].part] += len(np.unique(part.row_of_pair))
            self.positions.append(RowPosition.of(file, chunk, self.totals.lines))
            self.pair_log.add(part.row_of_pair.astype(np.int64) + self.totals.lines, part.prompts, part.pairs)
            flags.write(part.flags.tobytes())
            self.totals.add(part)
            done += chunk.end - chunk.start if isinstance(chunk, LineChunk) else 0
            self._progress("reading", min(done, size), size)

    def _scan_chunks(
        self, files: list[DataFile], most: int | None, submitted: deque[tuple[int, Chunk]]
    ) -> Iterator[ChunkStats]:
        return run_in_order(
            _scan_chunk,
            _tasks(files, most, submitted),
            workers=self.workers,
            prepare=_make_scanner,
            arguments=(self.request.source.mapping,),
        )

    def _compare_rows(self, flags: IO[bytes]) -> None:
        # Flags of what only a comparison of all rows can tell are added in place: the file of a billion rows need not
        # fit into memory.
        stored = np.memmap(flags, dtype=np.uint32, mode="r+") if self.totals.lines else np.zeros(0, dtype=np.uint32)
        # The evaluation split goes through the same pool function: hashes of texts agree between processes that share a
        # seed, and only between those.
        for found in self.pair_log.duplicates(self._evaluation_prompts()):
            self.totals.distinct_prompts += found.distinct_prompts
            for check, rows in (
                ("duplicate-pair", found.duplicate_pairs),
                ("duplicate-prompt", found.duplicate_prompts),
                ("contradicting-pair", found.contradicting),
                ("leak", found.leaked),
            ):
                bit = self.checks[check].bit
                self.totals.add_flagged(bit, rows)
                stored[rows] |= np.uint32(1 << bit)

    def _evaluation_prompts(self) -> NDArray[np.uint64] | None:
        files = locate_evaluation(self.request.source, self.request.evaluation)
        if not files:
            return None
        self.emit({"event": "progress", "phase": "comparing with the evaluation split", "done": 0, "total": 0})
        hashes = [part.prompts for part in self._scan_chunks(files, None, deque())]
        return np.unique(np.concatenate(hashes)) if hashes else None

    def _raise_if_unusable(self) -> None:
        raise_if_unclear(self.request.source.name, self.totals.unclear)
        if self.totals.usable and self.totals.counts[self.checks["bad-json"].bit] * 2 <= self.totals.rows:
            return
        dropped = _dropped_rows(self.totals, self.checks, self.places)
        example = _example(self.files, self.request.source)
        raise_if_unusable(self.request.source.name, self.totals.rows, self.totals.usable, dropped, example)

    def _with_tokens(self) -> Report:
        model, limit = self.request.model or "", self.request.max_length
        report = self._report(complete=True)
        template = self._check_template()
        for figures in count_tokens(
            self.files,
            self.request.source,
            model,
            limit,
            usable=self.totals.usable,
            workers=self.workers,
            truncation=self.request.truncation,
            settings=self.request.template,
        ):
            self._progress("counting tokens", figures.counted, self.totals.usable)
            report = self._report(complete=True, model=model, max_length=limit, tokens=figures, template=template)
            if not figures.exact and self._is_time_for_partial():
                self.emit({"event": "partial", "report": report.to_json()})
        return report

    def _check_template(self) -> list[TemplateFinding]:
        pairs = sample_pairs(self.files, self.request.source)
        folder = tokenizer_folder(self.request.model or "")
        pairs = with_pair_arguments_for(load_template(folder, self.request.template)[0], pairs)
        return check_rows(folder, pairs, self.request.template)

    def _report(self, *, complete: bool, **counted: Any) -> Report:
        return make_report(
            self.totals,
            self.checks,
            location=self.request.source.name,
            places=self.places,
            files=self._places_of_files(),
            sources=self.sources,
            complete=complete,
            **counted,
        )

    def _download_progress(self, phase: str, done: int, total: int) -> None:
        self.emit({"event": "progress", "phase": phase, "done": done, "total": total})

    def _progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last_progress < _PROGRESS_EVERY:
            return
        self._last_progress = now
        self.emit({"event": "progress", "phase": phase, "done": done, "total": total, "rows": self.totals.rows})
        if phase == "reading" and self._is_time_for_partial():
            self.emit({"event": "partial", "report": self._report(complete=False).to_json()})

    def _is_time_for_partial(self) -> bool:
        now = time.monotonic()
        if now - self._last_partial < _PARTIAL_EVERY:
            return False
        self._last_partial = now
        return True


def _tasks(files: list[DataFile], max_rows: int | None, submitted: deque[tuple[int, Chunk]]) -> Iterator[Chunk]:
    limit = RowLimit(max_rows)
    for number, file in enumerate(files):
        for chunk in limit.of(file):
            submitted.append((number, chunk))
            yield chunk


# The scanner of this process of the pool: one element once `_make_scanner` was called.
_SCANNER: list[ChunkScanner] = []


def _make_scanner(mapping: ColumnMapping) -> None:
    import gc

    gc.disable()  # rows hold no reference cycles, and searching for them takes a fifth of the time
    # Made here, after the fork, and not sent with each task: compiled patterns and what a recogniser has learnt of the
    # columns stay in the process.
    _SCANNER[:] = [ChunkScanner(Recogniser(mapping), checks())]


def _scan_chunk(chunk: Chunk) -> ChunkStats:
    return _SCANNER[0].scan(chunk)


def _dropped_rows(totals: Totals, known: dict[str, Check], places: RowPlaces) -> DroppedRows:
    reported = [check for check in known.values() if check.is_left_out and totals.messages.get(check.id)]
    worst = max(reported, key=lambda check: totals.counts[check.bit], default=None)
    broken = totals.messages.get("bad-json", [])
    return DroppedRows(
        count=sum(totals.counts[check.bit] for check in reported),
        broken=totals.counts[known["bad-json"].bit],
        first_broken=RowProblem(broken[0][0], "bad-json", broken[0][1], places.of(broken[0][0])) if broken else None,
        reason=totals.messages[worst.id][0][1] if worst else "",
        reason_count=totals.counts[worst.bit] if worst else 0,
    )


def _example(files: list[DataFile], source: Source) -> tuple[int, Any] | None:
    for number, row in numbered_rows(files, 100, Recogniser(source.mapping), []):
        if not isinstance(row, Unreadable):
            return number, row
    return None


_KILLED = "The machine may be out of memory, or the model's chat template computes without end."


def main() -> int:
    """Serve one request; return the exit code. This is the entry point of the child process."""
    output = sys.stdout.buffer

    def emit(event: dict[str, Any]) -> None:
        output.write(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        output.flush()

    try:
        request = ScanRequest.from_json(sys.stdin.buffer.readline())
        try:
            emit({"event": "report", "report": scan(request, emit).to_json()})
        except DpoTuiError as error:
            emit({"event": "error", "message": error.message, "hint": error.hint})
            return error.exit_code
    except BrokenPipeError:
        return 0  # the parent is gone
    except BrokenProcessPool:
        emit({"event": "error", "message": "a process of the scan was killed", "hint": _KILLED})
        return DataError.exit_code
    except OSError as error:
        # Errors of the dataset's files are DataErrors by now, so this one is of the cache or the temporary folder.
        refused = paths.home_error(f"the scan cannot write {error.filename or paths.cache()}", error)
        emit({"event": "error", "message": refused.message, "hint": refused.hint})
        return refused.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
