"""Lines of every form that are taken as they stand in the file are what the recogniser makes of them."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.reading_digest import reading_digest
from dpo_tui.data.rows.record_to_pairs import Recogniser
from dpo_tui.data.source.source import Source
from dpo_tui.data.stored import reading_cache, row_writer
from dpo_tui.data.stored.row_cells import row_shape
from dpo_tui.data.stored.row_writer import RowWriter
from dpo_tui.data.stored.stored_rows import UNLIKE, StoredRows

pytestmark = pytest.mark.usefixtures("home")
Record = dict[str, Any]


def user(text: Any) -> Record:
    return {"role": "user", "content": text}


def assistant(text: Any) -> Record:
    return {"role": "assistant", "content": text}


def turns(*texts: str) -> list[Record]:
    return [(assistant if at % 2 else user)(text) for at, text in enumerate(texts)]


def messages(number: int) -> Record:
    return {"chosen": turns(f"q {number}", f"good {number}"), "rejected": turns(f"q {number}", f"bad “{number}”")}


def ultrafeedback(number: int) -> Record:
    scores = {"score_chosen": number / 3 - 1, "score_rejected": None if number % 5 == 0 else -number}
    return {"prompt": f"q {number}", "prompt_id": f"{number:x}", **messages(number), **scores}


def transcripts(number: int) -> Record:
    prompt = f"\n\nHuman: q {number}\n\nAssistant: go\non \n\nHuman: é?\n\nAssistant:"
    return {"chosen": f"{prompt} good {number}", "rejected": f"{prompt} bad: {number}"}


def texts(number: int) -> Record:
    return {"prompt": f"q {number}", "chosen": f"good {number}", "rejected": f"bad {number}"}


def fourth(number: int) -> Record:
    return {**texts(number), "source": f"s {number}", "tags": [number, {"a": None, "b": "x"}], "number": 1e-3 * number}


def with_system(number: int) -> Record:
    return {"system": f"be {number}" if number % 4 else "", **texts(number)}


def prompt_messages(number: int) -> Record:
    return {"prompt": turns(f"q {number}"), "chosen": turns("", "a")[1:], "rejected": [assistant(f"b {number}")]}


def sharegpt(number: int) -> Record:
    return {
        "conversations": [{"from": "human", "value": f"q {number}"}],
        "chosen": {"from": "gpt", "value": f"good {number}"},
        "rejected": {"from": "gpt", "value": f"bad {number}"},
    }


def verdict(number: int) -> Record:
    return {**texts(number), "winner": ["model_a", "model_b", "tie"][number % 3], "is_tie": number % 7 == 0}


FORMS = (messages, ultrafeedback, transcripts, texts, fourth, with_system, prompt_messages, sharegpt, verdict)
CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f"}}]}
SHARED = turns("q", "a")
ODD_RECORDS: dict[str, Any] = {
    "tool calls": {"chosen": [user("q"), CALL], "rejected": turns("q", "b")},
    "no tool calls": {"chosen": [user("q"), {**assistant("a"), "tool_calls": None}], "rejected": turns("q", "b")},
    "parts": {"chosen": [user([{"type": "text", "text": "q"}]), assistant("a")], "rejected": turns("q", "b")},
    "a null": {"chosen": [user("q"), assistant(None)], "rejected": turns("q", "b")},
    "another role": {"chosen": [user("q"), {"role": "critic", "content": "a"}], "rejected": turns("q", "b")},
    "roles in capitals": {"chosen": [{"role": "User", "content": "q"}, assistant("a")], "rejected": turns("q", "b")},
    "other names of roles": {
        "chosen": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        "rejected": [{"from": "user", "value": "q"}, {"from": "gpt", "value": "b"}],
    },
    "a call of ShareGPT": {
        "chosen": [user("q"), {"from": "function_call", "value": '{"name": "f"}'}],
        "rejected": turns("q", "b"),
    },
    "both spellings": {"chosen": [{**user("q"), "from": "gpt", "value": "x"}, assistant("a")], "rejected": SHARED},
    "equal answers": {"chosen": SHARED, "rejected": SHARED},
    "an empty answer": {"chosen": turns("q", ""), "rejected": SHARED},
    "a blank answer": {"chosen": turns("q", "\u3000\n"), "rejected": SHARED},
    "a blank turn": {"chosen": turns("q", " ", "r", "a"), "rejected": turns("q", " ", "r", "b")},
    "other prompts": {"chosen": turns("q", "a"), "rejected": turns("p", "b")},
    "several turns": {"chosen": turns("q", "a", "r", "c"), "rejected": turns("q", "a", "r", "d")},
    "that differ early": {"chosen": turns("q", "a", "r", "c"), "rejected": turns("q", "b", "r", "c")},
    "of other numbers": {"chosen": turns("q", "a", "r", "c"), "rejected": turns("q", "b")},
    "one the beginning of the other": {"chosen": turns("q", "a", "r", "c"), "rejected": turns("q", "a")},
    "a system message": {
        "chosen": [{"role": "system", "content": "s"}, *turns("q", "a")],
        "rejected": [{"role": "system", "content": "s"}, *turns("q", "b")],
    },
    "an empty one": {
        "chosen": [{"role": "system", "content": ""}, *turns("q", "a")],
        "rejected": [{"role": "system", "content": ""}, *turns("q", "b")],
    },
    "the content first": {
        "chosen": [{"content": "q", "role": "user"}, assistant("a")],
        "rejected": [user("q"), {"content": "b", "role": "assistant"}],
    },
    "a key more": {"chosen": [{**user("q"), "name": "Ann"}, assistant("a")], "rejected": turns("q", "b")},
    "a number in it": {"chosen": [{**user("q"), "weight": 1}, assistant("a")], "rejected": turns("q", "b")},
    "a number for an answer": {"prompt": "2+2", "chosen": 4, "rejected": "5"},
    "equal to a text": {"prompt": "2+2", "chosen": 4, "rejected": "4"},
    "a text beside messages": {"prompt": turns("q"), "chosen": "a", "rejected": [assistant("a")]},
    "an answer at the end of the prompt": {"prompt": turns("q", "a"), "chosen": "a", "rejected": "b"},
    "a prompt that goes on": {"prompt": turns("q", "a"), "chosen": turns("q", "a"), "rejected": turns("q", "b")},
    "a prompt that answers repeat": {"prompt": turns("q"), "chosen": turns("q", "a"), "rejected": turns("q", "b")},
    "a prompt of another text": {"prompt": "x", "chosen": turns("q", "a"), "rejected": turns("q", "b")},
    "a transcript as prompt": {"prompt": "Human: q\n\nAssistant:", "chosen": [assistant("a")], "rejected": "b"},
    "an object as prompt": {"prompt": '{"full_text": "q"}', "chosen": "a", "rejected": "b"},
    "messages as text": {"prompt": json.dumps(turns("q")), "chosen": [assistant("a")], "rejected": "b"},
    "turns as text": {"prompt": '["q"]', "chosen": '["a"]', "rejected": '["b"]'},
    "behind wide white space": {"prompt": '\u3000["q"]', "chosen": '\u3000["a"]', "rejected": '\u3000["b"]'},
    "no messages": {"chosen": [], "rejected": turns("q", "b")},
    "one message": {"chosen": user("q"), "rejected": assistant("b")},
    "a prompt that is null": {"prompt": None, **messages(0)},
    "several answers": {"prompt": "q", "chosen": "a", "rejected": ["b", "c"]},
    "a list of answers": {**texts(0), "responses": ["a", "b"]},
    "tools": {"tools": [{"name": "f"}], **texts(0)},
    "a subject": {"instruction": "do", "input": "this", "chosen": "a", "rejected": "b"},
    "a history": {"history": [["x", "y"]], **texts(0)},
    "a history as text": {"history": "x", **texts(0)},
    "a conversation and a worse answer": {"messages": turns("q", "a"), "rejected_response": "b"},
    "the same one": {"messages": turns("q", "a"), "rejected_response": "a"},
    "a tie": {**texts(0), "winner": "tie"},
    "a flag of ties": {**texts(0), "is_tie": 1},
    "no columns": {},
    "a number": 1,
    "a text": "Human: q",
    "large numbers": {**texts(0), "id": 2**63, "score": -1.5e-300},
    "deep": {**texts(0), "meta": [[[[{"a": [{"b": "c"}]}]]]]},
}
HEAD = "\n\nHuman: q\n\nAssistant:"
ODD_TRANSCRIPTS: dict[str, tuple[str, str]] = {
    "no line break before": (f"{HEAD[2:]} a", f"{HEAD[2:]} b"),
    "different ones": (f"{HEAD} a", f"{HEAD[2:]} b"),
    "a space before": (f" {HEAD[2:]} a", f" {HEAD[2:]} b"),
    "a tab in the line": (f"\n\t{HEAD[2:]} a", f"\n\t{HEAD[2:]} b"),
    "a carriage return": (f"\r{HEAD[2:]} a", f"\r{HEAD[2:]} b"),
    "wide white space before": (f"\u3000{HEAD} a", f"\u3000{HEAD} b"),
    "an indented name": (f"{HEAD} a\n  Human: r", f"{HEAD} b\n\tAssistant: c"),
    "a name within a line": (f"{HEAD} a Human: r", f"{HEAD} nAssistant: c"),
    "a backslash and a name": (f"{HEAD} a\\nHuman: r", f"{HEAD} b\\\nHuman: r"),
    "answers that go on": (f"{HEAD} a\n\nHuman: r\n\nAssistant: c", f"{HEAD} b\n\nHuman: r\n\nAssistant: c"),
    "only one goes on": (f"{HEAD} a\n\nHuman: r\n\nAssistant: c", f"{HEAD} b"),
    "one is the beginning": (f"{HEAD} a\n\nHuman: r\n\nAssistant: c", f"{HEAD} a"),
    "they share a word": (f"{HEAD} same a", f"{HEAD} same b"),
    "a name in an answer": (f"{HEAD} Human: a", f"{HEAD}\tAssistant: b"),
    "equal": (f"{HEAD} a", f"{HEAD} a "),
    "equal turns": (f"{HEAD} a\n\nHuman: r", f"{HEAD} a \n\nHuman:  r\n"),
    "empty": (HEAD, f"{HEAD} b"),
    "blank": (f"{HEAD} \u00a0", f"{HEAD} b"),
    "an empty turn": ("\n\nHuman:\n\nAssistant: a", "\n\nHuman:\n\nAssistant: b"),
    "white space of all kinds": (f"{HEAD} \t\r\n\f a \f\r\t\\n", f"{HEAD}\u2003b\u205f"),
    "characters like it": (f"{HEAD} “a”", f"{HEAD} か。"),
    "other speakers": ("Q: q\nA: a", "Q: q\nA: b"),
    "of both kinds": (f"{HEAD} a\nQ: r\nA: c", f"{HEAD} b"),
    "different speakers": (f"{HEAD} a", "\n\nUser: q\n\nAssistant: b"),
    "no assistant": ("\n\nHuman: q", "\n\nHuman: r"),
    "an assistant at the beginning": ("\n\nAssistant: hi\n\nHuman: q\n\nAssistant: a", "\n\nAssistant: hi"),
    "two turns of one": ("\n\nHuman: q\n\nHuman: r\n\nAssistant: a\n\nAssistant: c", f"{HEAD} b"),
    "another prompt": (f"{HEAD} a", "\n\nHuman: p\n\nAssistant: b"),
    "plain texts": ("a", "b"),
    "messages as text": (json.dumps(turns("q", "a")), json.dumps(turns("q", "b"))),
}


def escaped(line: bytes) -> bytes:
    return json.dumps(orjson.loads(line)).encode()


ODD_LINES: dict[str, Callable[[bytes], bytes]] = {
    "Python's escapes": escaped,
    "an escaped slash": lambda line: line.replace(b"q ", b"\\/ "),
    "half of a surrogate pair": lambda line: line.replace(b"q ", b"\\ud83d "),
    "a control character": lambda line: line.replace(b"q ", b"\\u0001 "),
    "a raw one": lambda line: line.replace(b"q ", b"\x01 "),
    "not UTF-8": lambda line: line.replace(b"q ", b"\xff "),
    "another role": lambda line: line.replace(b'"assistant"', b'"system"'),
    "a key twice": lambda line: line.replace(b'"chosen":', b'"chosen":"x","chosen":'),
    "a key twice in a message": lambda line: line.replace(b'"role":"user",', b'"role":"system","role":"user",'),
    "a key twice, escaped": lambda line: line.replace(b'"chosen":', b'"chos\\u0065n":"x","chosen":'),
    "not a number": lambda line: line[:-1] + b',"score":NaN}',
    "too large a number": lambda line: line[:-1] + b',"score":1e999}',
    "spaces": lambda line: b" " + line.replace(b":", b" : ", 1) + b"\t",
    "cut off": lambda line: line[:-2],
    "blank": lambda _: b"",
    "a null": lambda _: b"null",
    "two rows": lambda line: line + line,
    "a nought before a number": lambda line: line[:-1] + b',"score":01}',
}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the rows that were written as runs."""
    found: list[int] = []
    add_pairs = RowWriter.add_pairs

    def noted(writer: RowWriter, first: int, run: row_writer.PairRun) -> None:
        found.extend(range(first, first + len(run)))
        add_pairs(writer, first, run)

    monkeypatch.setattr(RowWriter, "add_pairs", noted)
    return found


def assert_read_alike(path: Path, patch: pytest.MonkeyPatch, source: Source | None = None) -> LoadedPairs:
    """Compare the rows of a file that are stored with those that are parsed one by one into memory."""
    found = []
    for limit in (10**12, 0):
        patch.setattr(reading_cache, "LARGE_BYTES", limit)
        found.append(load_pairs(source or Source(str(path))))
    in_memory, stored = found
    rows = stored.pairs
    assert isinstance(rows, StoredRows)
    assert list(rows) == in_memory.pairs
    assert list(map(_with_order, rows)) == list(map(_with_order, in_memory.pairs))
    assert reading_digest(rows) == reading_digest(in_memory.pairs)
    for name in ("total", "dropped", "format", "columns", "notes", "sha256"):
        assert getattr(stored, name) == getattr(in_memory, name), name
    shape_of: dict[int, Any] = {}
    for pair, number in zip(in_memory.pairs, rows.shapes.tolist(), strict=True):
        shape = row_shape(pair.tools, pair.prompt, pair.chosen, pair.rejected)
        assert (number == UNLIKE) == (shape is None)
        assert shape_of.setdefault(number, shape) == shape or number == UNLIKE
    return stored


def _with_order(pair: Pair) -> str:
    """A pair with the order of its keys, which `==` does not see."""
    return json.dumps([pair.prompt, pair.chosen, pair.rejected, pair.tools])


def write(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    path.write_bytes(b"".join(line + end for line in lines))
    return path


def of_form(form: Callable[[int], Record], count: int, first: int = 0) -> list[bytes]:
    return [orjson.dumps(form(number)) for number in range(first, first + count)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int], form: Callable[[int], Record]
) -> None:
    assert_read_alike(write(tmp_path / "rows.jsonl", of_form(form, 30)), monkeypatch)
    few = {with_system: 22, verdict: 16, sharegpt: 0}
    assert len(taken) == few.get(form, 30)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("form", [messages, ultrafeedback, transcripts, fourth])
@pytest.mark.parametrize("odd", ODD_LINES)
def test_an_odd_line_is_read_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[int], Record], odd: str, end: bytes
) -> None:
    # With enough letters that are UTF-8 beyond doubt, for the lines that are not.
    lines = [line.replace(b"good", "日本語".encode()) for line in of_form(form, 14)]
    lines[9] = ODD_LINES[odd](lines[9])
    lines[12] = ODD_LINES[odd](lines[12])
    lines.insert(0, ODD_LINES[odd](lines[5]))
    assert_read_alike(write(tmp_path / "rows.jsonl", lines, end), monkeypatch)


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("odd", ODD_RECORDS)
def test_an_odd_record_is_read_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str, *, is_first: bool
) -> None:
    lines = [line for form in (messages, texts) for line in of_form(form, 8)]
    record = orjson.dumps(ODD_RECORDS[odd])
    lines = [record, *lines, record] if is_first else [*lines, record, *of_form(texts, 3, 100), record]
    assert_read_alike(write(tmp_path / "rows.jsonl", lines), monkeypatch)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("odd", ODD_TRANSCRIPTS)
def test_an_odd_transcript_is_read_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str, *, swapped: bool
) -> None:
    chosen, rejected = ODD_TRANSCRIPTS[odd][:: -1 if swapped else 1]
    one, other = {"chosen": chosen, "rejected": rejected}, {"rejected": rejected, "chosen": chosen}
    lines = [orjson.dumps(one), *of_form(transcripts, 8), orjson.dumps(other), *of_form(transcripts, 3), b""]
    assert_read_alike(write(tmp_path / "rows.jsonl", lines), monkeypatch)


@pytest.mark.parametrize("seed", range(6))
def test_files_of_many_forms_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    odd = [orjson.dumps(record) for record in ODD_RECORDS.values()]
    odd += [orjson.dumps({"chosen": one, "rejected": other}) for one, other in ODD_TRANSCRIPTS.values()]
    lines: list[bytes] = []
    for number in range(300):
        line = orjson.dumps(chance.choice(FORMS)(number)) if chance.random() < 0.8 else chance.choice(odd)
        lines.append(chance.choice(list(ODD_LINES.values()))(line) if chance.random() < 0.1 else line)
    # Chunks of a few rows: layouts are learned in one and used in the next.
    monkeypatch.setattr("dpo_tui.data.load_rows.chunks_of.__defaults__", (chance.choice([500, 4000, 1 << 22]),))
    path = write(tmp_path / "rows.jsonl", lines)
    path.write_bytes((b"\xef\xbb\xbf" if seed % 2 else b"") + path.read_bytes())
    assert_read_alike(path, monkeypatch)


def test_a_first_turn_behind_other_white_space_is_read() -> None:
    head = "\rHuman: q\n\nAssistant:"
    (found,) = Recogniser().pairs({"chosen": f"{head} a", "rejected": f"{head} b"})
    assert found[:3] == ([user("q")], [assistant("a")], [assistant("b")])
    (found,) = Recogniser().pairs({"prompt": "\r Q: one\nA: two\nQ: three\nA:", "chosen": "a", "rejected": "b"})
    assert found.prompt == turns("one", "two", "three")


def random_text(chance: random.Random) -> str:
    parts = [
        "a",
        "é",
        "\n",
        "\n\n",
        " ",
        '"',
        "\\",
        "\\n",
        "Human:",
        "Assistant:",
        "Q:",
        "A:",
        "\t",
        "“",
        "か",
        "\u3000",
    ]
    return "".join(chance.choices(parts, k=chance.randrange(1, 9)))


@pytest.mark.parametrize("seed", range(6))
def test_random_texts_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    lines = []
    for _ in range(400):
        shared = "".join(f"\n\nHuman: {random_text(chance)}\n\nAssistant: {random_text(chance)}" for _ in range(2))
        answers = [chance.choice([shared, shared[:-3]]) + random_text(chance) for _ in range(2)]
        same = [random_text(chance) for _ in range(3)]
        talks = [turns(*chance.choices(same, k=chance.choice([2, 4]))) for _ in range(2)]
        record: Record = dict(zip(("chosen", "rejected"), chance.choice([answers, talks]), strict=True))
        if chance.random() < 0.3:
            record["prompt"] = chance.choice([random_text(chance), turns(same[0])])
        lines.append(orjson.dumps(record))
    assert_read_alike(write(tmp_path / "rows.jsonl", lines), monkeypatch)


def test_columns_that_the_user_names_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[int]
) -> None:
    lines = [orjson.dumps({"a": f"p {at}", "b": f"g {at}", **texts(at)}) for at in range(20)]
    path = write(tmp_path / "rows.jsonl", lines)
    for named in (
        {"prompt_field": "a", "chosen_field": "b"},
        {"prompt_field": "chosen"},
        {"system_field": "a"},
        {"prefix_field": "b"},
    ):
        assert_read_alike(path, monkeypatch, Source(str(path), **named))  # type: ignore[arg-type]
    assert len(taken) == 40


@pytest.mark.parametrize("most", [1, 7, 12, 19, 40])
def test_rows_up_to_a_number_are_counted_as_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(reading_cache, "_FEW_ROWS", 0)
    lines = [*of_form(messages, 6), b"", *of_form(fourth, 6), *of_form(transcripts, 4), *of_form(messages, 6)]
    path = write(tmp_path / "rows.jsonl", lines)
    assert_read_alike(path, monkeypatch, Source(str(path), max_rows=most))


def test_more_kinds_of_lines_than_are_remembered_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [orjson.dumps({**texts(at), f"name {at % 90}": "x", "tags": ["y"] * (at % 3)}) for at in range(300)]
    assert_read_alike(write(tmp_path / "rows.jsonl", lines), monkeypatch)
