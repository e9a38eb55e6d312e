"""Scan a whole dataset: counts, lengths, checks, tokens, streamed while they grow.

``python -m dpo_tui.data.scan.scanner`` is the child process behind ``dpo-tui inspect`` and the data screen. It takes one JSON
request on stdin and writes events as JSON lines: ``progress``, ``partial`` (a report of what is known so far),
``report``, ``error``. It ends by itself when nobody reads them any more.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from dpo_tui import paths
from dpo_tui.data.checks.check import Check
from dpo_tui.data.checks.registry import checks
from dpo_tui.data.load_pairs import DroppedRows, numbered_rows, raise_if_unusable
from dpo_tui.data.pairs.pair import RowProblem, Unreadable
from dpo_tui.data.rows.recogniser import Recogniser
from dpo_tui.data.rows.shapes import ColumnMapping
from dpo_tui.data.scan.chunk_scanner import ChunkScanner, ChunkStats
from dpo_tui.data.scan.duplicates import PairLog
from dpo_tui.data.scan.report import Report, make_report
from dpo_tui.data.scan.row_index import RowIndex, RowPosition
from dpo_tui.data.scan.scan_cache import Draft, folder_of
from dpo_tui.data.scan.scan_request import ScanRequest
from dpo_tui.data.scan.totals import Totals
from dpo_tui.data.source.chunks import Chunk, LineChunk, chunks_of, first_rows
from dpo_tui.data.source.locate import locate, locate_evaluation
from dpo_tui.data.source.source import DataFile, Source
from dpo_tui.data.tokens.count_tokens import count_tokens
from dpo_tui.errors import DpoTuiError, HomeError
from dpo_tui.processes.process_pool import cores, run_in_order

_PROGRESS_EVERY = 0.1
_PARTIAL_EVERY = 0.5
# A file of this size is read before further processes would have started.
_ALONE = 8 << 20

Tell = Callable[[dict[str, Any]], None]


def scan(request: ScanRequest, tell: Tell) -> Report:
    """Scan a dataset, telling about it on the way, and leave flags and index in the cache.

    Raises:
        DataError: it cannot be read, or no row of it can be used.
    """
    found = _Scan(request, tell)
    try:
        return found.run()
    finally:
        found.close()


class _Scan:
    def __init__(self, request: ScanRequest, tell: Tell) -> None:
        self.request = request
        self.tell = tell
        self.checks = checks()
        self.totals = Totals(len(self.checks))
        self.log = PairLog()
        self.files = locate(request.source, self._downloading)
        self.size = sum(file.path.stat().st_size for file in self.files)
        self.workers = request.workers or (1 if self.size <= _ALONE else cores())
        self.draft = Draft(folder_of(self.files, request.source))
        self.places: list[RowPosition] = []
        self._told = self._told_partial = time.monotonic()

    def run(self) -> Report:
        with (self.draft.path / "flags.u32").open("w+b") as flags:
            self._first_pass(flags)
            self._compare_rows(flags)
        self._raise_if_unusable()
        report = self._report(complete=True)
        RowIndex(self.files, self.places, self.totals.lines).save(self.draft.path)
        (self.draft.path / "report.json").write_bytes(orjson.dumps(report.to_json()))
        self.draft.finish()
        if self.request.model is None:
            return report
        self.tell({"event": "partial", "report": report.to_json()})
        return self._with_tokens()

    def close(self) -> None:
        self.log.close()
        self.draft.discard()

    def _first_pass(self, flags: IO[bytes]) -> None:
        described: deque[tuple[int, Chunk]] = deque()
        done = 0
        # Of a stream nobody knows how long it will be.
        size = self.size if all(file.packed is None and file.kind == "json" for file in self.files) else 0
        for part in self._examined(self.files, described):
            file, chunk = described.popleft()
            self.places.append(RowPosition.of(file, chunk, self.totals.lines))
            self.log.add(part.row_of_pair.astype(np.int64) + self.totals.lines, part.prompts, part.pairs)
            flags.write(part.flags.tobytes())
            self.totals.add(part)
            done += chunk.end - chunk.start if isinstance(chunk, LineChunk) else 0
            self._progress("reading", min(done, size), size)

    def _examined(self, files: list[DataFile], described: deque[tuple[int, Chunk]]) -> Iterator[ChunkStats]:
        return run_in_order(
            _examine,
            _tasks(files, self.request.source.max_rows, described),
            workers=self.workers,
            prepare=_prepare,
            arguments=(self.request.source.mapping,),
        )

    def _compare_rows(self, flags: IO[bytes]) -> None:
        stored = np.memmap(flags, dtype=np.uint32, mode="r+") if self.totals.lines else np.zeros(0, dtype=np.uint32)
        for found in self.log.repeats(self._evaluation_prompts()):
            self.totals.distinct_prompts += found.distinct_prompts
            for identity, rows in (
                ("duplicate-pair", found.duplicate_pairs),
                ("duplicate-prompt", found.duplicate_prompts),
                ("contradicting-pair", found.contradicting),
                ("leak", found.leaked),
            ):
                bit = self.checks[identity].bit
                self.totals.name_rows(bit, rows)
                stored[rows] |= np.uint32(1 << bit)

    def _evaluation_prompts(self) -> NDArray[np.uint64] | None:
        files = locate_evaluation(self.request.source, self.request.evaluation)
        if not files:
            return None
        self.tell({"event": "progress", "phase": "comparing with the evaluation split", "done": 0, "total": 0})
        hashes = [part.prompts for part in self._examined(files, deque())]
        return np.unique(np.concatenate(hashes)) if hashes else None

    def _raise_if_unusable(self) -> None:
        if self.totals.usable and self.totals.counts[self.checks["bad-json"].bit] * 2 <= self.totals.rows:
            return
        refusals = _refusals(self.totals, self.checks)
        example = _example(self.files, self.request.source)
        raise_if_unusable(self.request.source.location, self.totals.rows, self.totals.usable, refusals, example)

    def _with_tokens(self) -> Report:
        model, limit = self.request.model or "", self.request.max_length
        report = self._report(complete=True)
        for figures in count_tokens(
            self.files, self.request.source, model, limit, usable=self.totals.usable, workers=self.workers
        ):
            self._progress("counting tokens", figures.counted, self.totals.usable)
            report = make_report(
                self.totals,
                self.checks,
                location=self.request.source.location,
                model=model,
                max_length=limit,
                tokens=figures,
            )
            if not figures.exact and self._is_time_for_partial():
                self.tell({"event": "partial", "report": report.to_json()})
        return report

    def _report(self, *, complete: bool) -> Report:
        return make_report(self.totals, self.checks, location=self.request.source.location, complete=complete)

    def _downloading(self, phase: str, done: int, total: int) -> None:
        self.tell({"event": "progress", "phase": phase, "done": done, "total": total})

    def _progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told < _PROGRESS_EVERY:
            return
        self._told = now
        self.tell({"event": "progress", "phase": phase, "done": done, "total": total, "rows": self.totals.rows})
        if phase == "reading" and self._is_time_for_partial():
            self.tell({"event": "partial", "report": self._report(complete=False).to_json()})

    def _is_time_for_partial(self) -> bool:
        now = time.monotonic()
        if now - self._told_partial < _PARTIAL_EVERY:
            return False
        self._told_partial = now
        return True


def _tasks(files: list[DataFile], max_rows: int | None, described: deque[tuple[int, Chunk]]) -> Iterator[Chunk]:
    for number, file in enumerate(files):
        found = chunks_of(file)
        for chunk in found if max_rows is None else first_rows(found, max_rows):
            described.append((number, chunk))
            yield chunk


_EXAMINER: list[ChunkScanner] = []


def _prepare(mapping: ColumnMapping) -> None:
    import gc

    gc.disable()  # rows hold no cycles, and looking for them takes a fifth of the time
    _EXAMINER[:] = [ChunkScanner(Recogniser(mapping), checks())]


def _examine(chunk: Chunk) -> ChunkStats:
    return _EXAMINER[0].examine(chunk)


def _refusals(totals: Totals, known: dict[str, Check]) -> DroppedRows:
    reading = [check for check in known.values() if totals.messages.get(check.id)]
    worst = max(reading, key=lambda check: totals.counts[check.bit], default=None)
    broken = totals.messages.get("bad-json", [])
    return DroppedRows(
        count=sum(totals.counts[check.bit] for check in reading),
        broken=totals.counts[known["bad-json"].bit],
        first_broken=RowProblem(broken[0][0], "bad-json", broken[0][1]) if broken else None,
        reason=totals.messages[worst.id][0][1] if worst else "",
        reason_count=totals.counts[worst.bit] if worst else 0,
    )


def _example(files: list[DataFile], source: Source) -> tuple[int, Any] | None:
    for number, row in numbered_rows(files, 100, Recogniser(source.mapping), []):
        if not isinstance(row, Unreadable):
            return number, row
    return None


def main() -> int:
    """Serve one request: the entry point of the child process."""
    output = sys.stdout.buffer

    def tell(event: dict[str, Any]) -> None:
        output.write(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        output.flush()

    try:
        request = ScanRequest.from_json(sys.stdin.buffer.readline())
        try:
            tell({"event": "report", "report": scan(request, tell).to_json()})
        except DpoTuiError as error:
            tell({"event": "error", "message": error.message, "hint": error.hint})
            return error.exit_code
    except BrokenPipeError:
        return 0  # whoever asked is gone
    except OSError as error:
        # Not the dataset's: those are DataErrors by now.
        message = f"{error.filename or paths.cache()}: {error.strerror or error}"
        tell({"event": "error", "message": message, "hint": "Free some space there, or set DPO_TUI_HOME elsewhere."})
        return HomeError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
