"""Rows of a large dataset are read into a file once, and are then what they are in memory."""

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_tui import paths
from dpo_tui.config.schema import Config
from dpo_tui.data import cache_folders, load_rows
from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.load_split import split_of
from dpo_tui.data.pairs.hold_out_by_prompt import held_out_rows, prompt_id, prompt_key
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.rows.pair_run import PairRun
from dpo_tui.data.source.source import Source
from dpo_tui.data.stored import hold_out, reading_cache, row_writer, views
from dpo_tui.data.stored.hold_out import held_out_places
from dpo_tui.data.stored.row_writer import RowWriter
from dpo_tui.data.stored.stored_rows import RowColumns, StoredRows
from dpo_tui.errors import DataError
from dpo_tui.start.trained_text_check import check_trained_text
from dpo_tui.train.trainer.run_datasets import RunDatasets, load_datasets
from dpo_tui.train.worker.stop_requests import StopRequested
from tests.support.data_files import assistant, row, user, write_lines
from tests.support.strict_template import STRICT, with_system
from tests.support.training import make_config
from tests.test_imports import loaded_by

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_writer, "_BATCH_ROWS", 7)
    for module in (views, hold_out):
        monkeypatch.setattr(module, "_BLOCK", 8)
    monkeypatch.setattr(row_writer, "_FEW_PAIRS", 3)  # of texts between other rows there are more, and fewer


def everything_is_large(patch: pytest.MonkeyPatch, *, large: bool = True) -> None:
    limit = 0 if large else 10**12
    patch.setattr(reading_cache, "LARGE_BYTES", limit)
    patch.setattr(reading_cache, "LARGE_PACKED_BYTES", limit)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    everything_is_large(monkeypatch)


def both_ways(patch: pytest.MonkeyPatch, read: Callable[[], Any]) -> tuple[Any, Any, Any]:
    """What is read into memory, read into the cache, and recalled from there without reading the file's rows."""
    with patch.context() as one:
        everything_is_large(one, large=False)
        in_memory = read()
    with patch.context() as one:
        everything_is_large(one)
        stored = read()
        one.setattr(load_rows, "numbered_rows", None)
        recalled = read()
    return in_memory, stored, recalled


def call(**arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "clock", "arguments": arguments}}


def many(path: Path, count: int = 60) -> Path:
    """Pairs of all kinds: repeated prompts, several messages, tools and calls, copies, and rows that cannot be used."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        one: dict[str, Any] = row(number)
        if number % 4 == 1:
            one = {
                "prompt": [user(f"q {number % 9}")],
                "chosen": [assistant("é 🙂")],
                "rejected": [assistant(f"n {number}")],
            }
        if number % 10 == 2:
            one["prompt"] = [
                {"role": "system", "content": "Brief."},
                user("a"),
                assistant("b"),
                user(f"c {number % 3}"),
            ]
        if number % 12 == 3:
            calling = {
                "role": "assistant",
                "content": "",
                "tool_calls": [call(at=number) if number % 24 else call(to="x")],
            }
            tools = [{"type": "function", "function": {"name": "clock", "parameters": {"number": number % 2}}}]
            one |= {"prompt": [user("time?")], "chosen": [calling], "rejected": [assistant("no")], "tools": tools}
        if number % 15 == 4:
            one["chosen"] = one["rejected"]
        if number % 15 == 6:
            one = {"prompt": "lost"}
        found.append(one)
    return write_lines(path, [*found, found[0], found[0]])


def labelled(path: Path) -> Path:
    return write_lines(
        path, [{"prompt": f"p {n % 20}", "completion": f"a {n}", "label": n % 3 == 0} for n in range(60)]
    )


def texts(path: Path) -> Path:
    lines = [{"messages": [user(f"q {n}"), assistant("a")]} if n % 2 else {"text": f"text {n % 7}"} for n in range(60)]
    return write_lines(path, lines)


def plain(path: Path, *, broken: bool = False) -> Path:
    """Three texts a row, some of which need a closer look: blank, equal, transcripts, messages as text, a key twice."""
    lines: list[str] = []
    for number in range(60):
        one = {"prompt": f"p {number % 13} é", "chosen": f'c "{number}"', "rejected": f"r\n{number}"}
        if number % 10 == 3:
            one["rejected"] = one["chosen"] if number % 20 == 3 else " "
        if number % 10 == 4:
            one["prompt"] = "Human: hello\n\nAssistant: hi\n\nHuman: and now?"
        if number % 10 == 5:
            one["chosen"] = json.dumps([assistant(f"as text {number}")])
        lines.append(json.dumps(one, ensure_ascii=number % 2 == 0))
        if number % 10 == 6:
            lines[-1] = '{"prompt": "older", ' + lines[-1][1:]
        if number % 10 == 7 and broken:
            lines.append("")
    path.write_text("\n".join([*lines, '{"prompt": "lost"', ""] if broken else [*lines, ""]), encoding="utf-8")
    return path


KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "pairs": (many, {}),
    "plain pairs": (plain, {}),
    "plain pairs and a broken line": (partial(plain, broken=True), {}),
    "some of the plain pairs": (plain, {"max_samples": 20_000}),
    "plain pairs as labelled answers": (plain, {"strategy": "kto"}),
    "pairs of a mix": (many, {"dataset_weights": [1.0, 2.0]}),
    "demonstrations": (texts, {"strategy": "sft"}),
    "pairs as demonstrations": (many, {"strategy": "sft"}),
    "labelled answers": (labelled, {"strategy": "kto"}),
    "pairs as labelled answers": (many, {"strategy": "kto"}),
}


def config_of(kind: str, tmp_path: Path, model: Path, **settings: Any) -> Config:
    make, changes = KINDS[kind]
    file = make(tmp_path / "rows.jsonl")
    if "dataset_weights" in changes:
        other = write_lines(tmp_path / "more.jsonl", [row(number) for number in range(100, 130)])
        changes = changes | {"dataset": [str(file), str(other)]}
    return make_config(model, file, **{"eval_split": 0.2, **changes, **settings})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 42])
def test_the_split_of_stored_rows_is_that_of_rows_in_memory(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    config = config_of(kind, tmp_path, tiny_model, seed=seed)
    in_memory, *others = both_ways(monkeypatch, lambda: split_of(config, download=False))
    assert isinstance(in_memory.train, list)
    for stored in others:
        assert isinstance(stored.train, StoredRows)
        assert list(stored.train) == in_memory.train
        assert list(stored.held_out) == in_memory.held_out
        assert stored.dropped == in_memory.dropped
        for name in ("total", "usable", "format", "sha256", "notes", "sources", "reading", "leaked"):
            assert getattr(stored, name) == getattr(in_memory, name), name
        prompts = in_memory.untrained_prompts()
        assert stored.untrained_prompts() == prompts
        assert stored.untrained_ids() == [prompt_id(prompt) for prompt in prompts]
        assert stored.tools_of(prompts) == in_memory.tools_of(prompts)
    assert in_memory.held_out


@pytest.mark.parametrize("kind", KINDS)
def test_the_worker_gets_the_same_rows_from_the_file(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    config = config_of(kind, tmp_path, tiny_model)

    def shown(found: RunDatasets) -> dict[str, Any]:
        assert found.held_out is not None
        others = {name: value for name, value in vars(found).items() if name not in ("train", "held_out")}
        return others | {"train": _columns(found.train), "held_out": _columns(found.held_out)}

    in_memory, stored, recalled = (shown(one) for one in both_ways(monkeypatch, lambda: load_datasets(config)))
    assert stored == in_memory
    assert recalled == in_memory


def _columns(dataset: Any) -> dict[str, list[Any]]:
    """The columns that have values; tools are JSON text, with or without blanks."""
    columns = {name: dataset[name][:] for name in dataset.column_names}
    if "tools" in columns:
        columns["tools"] = [json.loads(value) if value else value for value in columns["tools"]]
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def test_separate_evaluation_data_are_split_and_compared_alike(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_lines(tmp_path / "eval.jsonl", [row(number) for number in range(5, 12)])
    config = config_of("pairs", tmp_path, tiny_model, eval_dataset=str(other))
    in_memory, stored, recalled = both_ways(monkeypatch, lambda: split_of(config, download=False))
    assert in_memory.leaked > 0
    assert stored.leaked == recalled.leaked == in_memory.leaked
    assert stored.untrained_prompts() == in_memory.untrained_prompts()
    assert stored.reading == recalled.reading == in_memory.reading


def test_what_the_template_refuses_is_left_out_of_stored_rows_too(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(STRICT, encoding="utf-8")
    lines = [with_system(number) if number % 3 == 0 else row(number) for number in range(60)]
    config = make_config(
        tiny_model, write_lines(tmp_path / "rows.jsonl", lines), chat_template=str(template), eval_split=0.2
    )
    in_memory, stored, recalled = both_ways(monkeypatch, lambda: split_of(config, download=False))
    assert len(in_memory.dropped) == 20
    for one in (stored, recalled):
        assert one.dropped == in_memory.dropped
        assert list(one.train) == in_memory.train
        assert list(one.held_out) == in_memory.held_out


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("broken", [False, True])
def test_plain_rows_are_taken_together_also_beside_broken_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    taken: list[int] = []
    add_pairs = RowWriter.add_pairs

    def counted(writer: RowWriter, first: int, texts: PairRun) -> None:
        taken.extend(range(first, first + len(texts)))
        add_pairs(writer, first, texts)

    monkeypatch.setattr(RowWriter, "add_pairs", counted)
    load_pairs(Source(str(plain(tmp_path / "rows.jsonl", broken=broken))))
    assert len(taken) == 36


@pytest.mark.usefixtures("large")
def test_keys_of_prompts_are_made_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = load_pairs(Source(str(many(tmp_path / "rows.jsonl")))).pairs
    assert isinstance(rows, StoredRows)
    key_of = partial(prompt_key, seed=3)
    expected = [key_of(pair.prompt) for pair in rows]
    assert [key.tobytes() for key in rows.prompt_keys(key_of, 3)] == expected
    monkeypatch.setattr(StoredRows, "_keys", lambda *_: pytest.fail("they are made again"))
    again = rows.prompt_keys(key_of, 3)
    assert isinstance(again, np.memmap)
    assert [key.tobytes() for key in again] == expected


@pytest.mark.usefixtures("large")
def test_keys_of_prompts_that_cannot_be_written_are_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = load_pairs(Source(str(many(tmp_path / "rows.jsonl")))).pairs
    assert isinstance(rows, StoredRows)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    found = rows.prompt_keys(partial(prompt_key, seed=3), 3)
    assert [key.tobytes() for key in found] == [prompt_key(pair.prompt, 3) for pair in rows]
    assert not list(rows.file.parent.glob("*keys*"))


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_an_array_of_keys_is_split_as_prompts_are(fraction: float) -> None:
    for seed in range(40):
        chance = random.Random(seed)
        prompts = [[user(f"p {chance.randrange(1 + seed)}")] for _ in range(1 + chance.randrange(50))]
        expected = held_out_rows(prompts, fraction, seed)
        keys = np.frombuffer(b"".join(prompt_key(prompt, seed) for prompt in prompts), dtype="V16")
        assert held_out_places(keys, fraction).tolist() == [at for at, out in enumerate(expected) if out]


LINES: dict[str, Callable[[int], dict[str, Any]]] = {
    "dpo": row,
    "sft": lambda number: {"messages": [user(f"q {number}"), assistant("a")]},
    "kto": lambda number: {"prompt": f"p {number}", "completion": "a", "label": number % 3 == 0},
}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("strategy", LINES)
def test_a_check_makes_objects_of_a_sample_of_stored_rows(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [LINES[strategy](number) for number in range(5000)])
    config = make_config(tiny_model, file, strategy=strategy, eval_split=0.2)
    split = split_of(config, download=False)
    made: list[int] = []
    items = StoredRows._items

    def counted(rows: StoredRows[Any], batch: pa.RecordBatch) -> Iterator[Any]:
        made.append(batch.num_rows)
        return items(rows, batch)

    monkeypatch.setattr(StoredRows, "_items", counted)
    check_trained_text(config, split)
    assert 0 < sum(made) < 3000


def test_stored_rows_are_a_sequence(tmp_path: Path) -> None:
    pairs = [Pair(n, [user(f"a {n}")], [assistant("b")], [assistant("c")]) for n in range(1, 31)]
    with RowWriter(tmp_path / "rows.arrow", RowColumns.of(Pair)) as writer:
        for pair in pairs:
            writer.add(pair)
    rows: StoredRows[Pair] = StoredRows(tmp_path / "rows.arrow", RowColumns.of(Pair), writer.known)
    assert list(rows) == pairs
    assert [rows[0], rows[-1], rows[13]] == [pairs[0], pairs[-1], pairs[13]]
    assert list(rows[3:28:4]) == pairs[3:28:4]
    assert list(rows[::-1]) == pairs[::-1]
    assert list(rows[5:25][2:6]) == pairs[5:25][2:6]
    assert not rows[40:]
    for view in (rows[::-1], rows[3:28:4], rows[5:25][2:6], rows[40:]):
        assert view.row_numbers.tolist() == [pair.row for pair in view]
    with pytest.raises(IndexError):
        rows[30]


AWKWARD: dict[str, Any] = {
    "half of a surrogate pair": '{"prompt": "a \\ud800", "chosen": "b", "rejected": "c"}',
    "a whole number beyond 64 bits": json.dumps(
        {
            "prompt": [user("a")],
            "chosen": [assistant("b") | {"tool_calls": [call(n=2**70)]}],
            "rejected": [assistant("c")],
        }
    ),
    "nulls and other keys": json.dumps(
        {"prompt": [user("a")], "chosen": [{"content": "b", "role": "assistant", "name": None}], "rejected": "c"}
    ),
    "a text that begins as cells do": json.dumps({"prompt": "\x1emessages [", "chosen": "\x1eplain ", "rejected": "c"}),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_values_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([json.dumps(row(1)), AWKWARD[name], json.dumps(row(2))]) + "\n")
    in_memory, *others = both_ways(monkeypatch, lambda: load_pairs(Source(str(file))))
    for stored in others:
        assert isinstance(stored.pairs, StoredRows)
        assert repr(list(stored.pairs)) == repr(in_memory.pairs)
        assert stored.dropped == in_memory.dropped


@pytest.mark.usefixtures("large")
def test_what_json_would_change_is_held_in_memory_and_that_is_said(tmp_path: Path) -> None:
    import datetime

    prompt = [[{"role": "user", "content": "a", "at": datetime.date(2026, 11, 27)}]]
    pq.write_table(pa.table({"prompt": prompt, "chosen": ["b"], "rejected": ["c"]}), tmp_path / "rows.parquet")
    loaded = load_pairs(Source(str(tmp_path / "rows.parquet")))
    assert isinstance(loaded.pairs, list)
    assert loaded.pairs[0].prompt[0]["at"] == datetime.date(2026, 11, 27)
    assert "held in memory" in loaded.notes[0]
    assert cached() == []


def cached() -> list[str]:
    folder = paths.cache() / "data"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def stored_in(found: LoadedPairs) -> Path:
    assert isinstance(found.pairs, StoredRows)
    return found.pairs.file


@pytest.mark.usefixtures("large")
def test_other_bytes_settings_and_code_have_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = many(tmp_path / "rows.jsonl")
    first = stored_in(load_pairs(Source(str(file))))
    assert stored_in(load_pairs(Source(str(file), seed=7))) == first, "the seed draws nothing here"
    times = file.stat()
    text = file.read_bytes()
    file.write_bytes(text.replace("é".encode(), "è".encode()))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = load_pairs(Source(str(file)))
    assert stored_in(changed) != first, "not by size and time, but by what is in it"
    assert any("è" in pair.chosen[0]["content"] for pair in changed.pairs)
    file.write_bytes(text)
    places = {first, stored_in(changed), stored_in(load_pairs(Source(str(file), prompt_field="prompt")))}
    monkeypatch.setattr(reading_cache, "_code_version", lambda: "another")
    assert len({*places, stored_in(load_pairs(Source(str(file))))}) == 4


def _cut(folder: Path) -> None:
    (folder / "rows.arrow").write_bytes((folder / "rows.arrow").read_bytes()[:-50])


def _other_byte(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return harm


def _other_text(folder: Path) -> None:
    content = (folder / "rows.arrow").read_bytes()
    assert "é".encode() in content
    (folder / "rows.arrow").write_bytes(content.replace("é".encode(), "è".encode()))


def _others(folder: Path) -> None:
    (folder / "rows.json").write_text('{"rows": {"count": 3}, "found": {}, "first_rows": []}')


def _no_json(folder: Path) -> None:
    (folder / "rows.json").write_text("[")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("harm", [_cut, _others, _no_json, _other_text, _other_byte("rows.json")])
def test_a_damaged_cache_is_read_again(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    file = many(tmp_path / "rows.jsonl")
    before = load_pairs(Source(str(file)))
    expected = list(before.pairs)
    folder = stored_in(before).parent
    del before
    harm(folder)
    again = load_pairs(Source(str(file)))
    assert isinstance(again.pairs, StoredRows)
    assert list(again.pairs) == expected
    assert list(load_pairs(Source(str(file))).pairs) == expected


@pytest.mark.usefixtures("large")
def test_a_damaged_key_moves_no_row_into_the_held_out_part(tmp_path: Path) -> None:
    file = many(tmp_path / "rows.jsonl")
    before = load_pairs(Source(str(file))).pairs
    assert isinstance(before, StoredRows)

    def keys(rows: StoredRows[Any]) -> list[bytes]:
        return [bytes(key) for key in rows.prompt_keys(lambda prompt: b"k" * 16, 7)]

    expected = keys(before)
    assert keys(before) == expected
    _other_byte("keys-7")(before.file.parent)
    assert keys(before) == expected


@pytest.mark.parametrize("size", [0, 10**12], ids=["stored", "in memory"])
def test_a_dataset_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Its checksum, which names the stored rows and compares runs, would be that of other rows."""
    monkeypatch.setattr(reading_cache, "LARGE_BYTES", size)
    file = many(tmp_path / "rows.jsonl")
    sha256_of = reading_cache.sha256_of

    def grown(files: list[Any]) -> str:
        found = sha256_of(files)
        with file.open("a") as stream:
            stream.write('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')
        return found

    for module in (reading_cache, load_rows):
        monkeypatch.setattr(module, "sha256_of", grown)
    with pytest.raises(DataError, match="was changed while it was read"):
        load_pairs(Source(str(file)))


@pytest.mark.usefixtures("large")
def test_without_room_rows_are_held_in_memory_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = many(tmp_path / "rows.jsonl")
    monkeypatch.setattr(row_writer, "FREE_BYTES", 10**18)
    known_before = load_pairs(Source(str(file)))
    assert isinstance(known_before.pairs, list)
    assert "0.0 GB can be used" in known_before.notes[0]
    monkeypatch.setattr(reading_cache, "_no_room", lambda files: None)
    seen_while_writing = load_pairs(Source(str(file)))
    assert seen_while_writing.pairs == known_before.pairs
    assert seen_while_writing.dropped == known_before.dropped
    assert "the disk is nearly full" in seen_while_writing.notes[0]
    assert cached() == []


@pytest.mark.usefixtures("large")
def test_reading_that_is_ended_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = many(tmp_path / "rows.jsonl")
    add = RowWriter.add

    def ended(writer: RowWriter, item: Any) -> None:
        if item.row > 20:
            raise KeyboardInterrupt
        add(writer, item)

    monkeypatch.setattr(RowWriter, "add", ended)
    with pytest.raises(KeyboardInterrupt):
        load_pairs(Source(str(file)))
    assert cached() == []
    monkeypatch.setattr(RowWriter, "add", add)
    write_lines(file, [{"prompt": "lost"}] * 30)
    with pytest.raises(DataError, match="no row that can be used"):
        load_pairs(Source(str(file)))
    assert cached() == []


@pytest.mark.usefixtures("large")
def test_reading_is_reported_in_bytes_and_ends_where_a_stop_is_requested(tmp_path: Path) -> None:
    first, second = many(tmp_path / "a.jsonl"), plain(tmp_path / "b.jsonl")
    source = Source.of([str(first), str(second)])
    total = first.stat().st_size + second.stat().st_size
    seen: list[tuple[int, int]] = []
    load_pairs(source, lambda _, done, size: seen.append((done, size)))
    assert seen == [(first.stat().st_size, total), (total, total)]
    load_pairs(source, lambda *_: pytest.fail("nothing is read again"))
    first.write_text(first.read_text().replace("no", "yes"))

    def stop(_phase: str, done: int, _size: int) -> None:
        if done == total:
            raise StopRequested

    kept = cached()
    total = first.stat().st_size + second.stat().st_size
    with pytest.raises(StopRequested):
        load_pairs(source, stop)
    assert cached() == kept


@pytest.mark.usefixtures("large")
def test_rows_that_are_read_stay_in_the_cache_and_others_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folders, "LIMIT_BYTES", 1)
    open_now = load_pairs(Source(str(many(tmp_path / "a.jsonl"))))
    not_open = stored_in(load_pairs(Source(str(many(tmp_path / "b.jsonl"))))).parent
    newest = stored_in(load_pairs(Source(str(many(tmp_path / "c.jsonl"))))).parent
    assert not not_open.exists()
    assert newest.exists()
    assert stored_in(open_now).exists()
    assert len(list(open_now.pairs)) == len(open_now.pairs)
    assert oct(newest.parent.stat().st_mode)[-3:] == "700"


def test_a_small_file_is_read_without_pyarrow(tmp_path: Path) -> None:
    file = many(tmp_path / "rows.jsonl")
    code = (
        "from dpo_tui.config.schema import Config\nfrom dpo_tui.data.load_split import split_of\n"
        f"split = split_of(Config(model_name='absent', dataset={str(file)!r}), download=False)\n"
        "assert len(split.train) and split.untrained_prompts() and not split.leaked"
    )
    assert not loaded_by(code) & {"pyarrow", "torch", "datasets"}


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    assert not [name for name in cached() if name.startswith(".draft-")]
