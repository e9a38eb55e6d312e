"""Every check names the rows it should, and leaves the others alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.checks.registry import checks, pair_check
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from tests.support.data_files import GOOD, NO_CLEAR_WINNER, TOO_SIMILAR, assistant, row, rows, user, write_lines
from tests.support.repository import ROOT

pytestmark = pytest.mark.usefixtures("home")

# The flags of scanned datasets are stored: the bit of a check is for ever.
BITS = {
    "bad-json": 0, "missing-field": 1, "empty-answer": 2, "identical": 3,
    "too-similar": 4, "no-clear-winner": 5, "swapped-suspect": 6,
    "prompt-in-answer": 7, "template-tokens": 8, "control-characters": 9, "mixed-language": 10, "role-order": 11,
    "duplicate-pair": 12, "duplicate-prompt": 13, "contradicting-pair": 14, "leak": 15,
    "few-pairs": 16, "low-diversity": 17, "length-bias": 18, "refusal-imbalance": 19,
    "tie": 20, "equal-scores": 21,
    "repeated-key": 23, "not-a-number": 24, "double-encoded": 25,
}  # fmt: skip


def report_on(path: Path, **options: Any) -> Report:
    return scan(ScanRequest(Source(str(path)), workers=1, **options), lambda _event: None)


def named(report: Report, check: str) -> list[int]:
    return next((problem.rows for problem in report.problems if problem.check == check), [])


def found(report: Report) -> set[str]:
    return {problem.check for problem in report.problems}


def test_all_checks_are_registered_and_say_what_to_do() -> None:
    known = checks()
    assert set(known) == set(BITS)
    assert all(check.title and check.explanation and check.remedy for check in known.values())
    assert sorted(check.bit for check in known.values()) == [bit for bit in range(len(BITS) + 1) if bit != 22]


def test_every_check_keeps_its_id_and_its_bit() -> None:
    assert {check.id: check.bit for check in checks().values()} == BITS
    assert list(checks()) == list(BITS)


@pytest.mark.parametrize(("identity", "bit"), [("too-similar", 20), ("new", 4), ("new", 31), ("new", -1), ("new", 22)])
def test_a_check_cannot_take_the_id_or_the_bit_of_another(identity: str, bit: int) -> None:
    before = checks()
    with pytest.raises(ValueError, match=f"check '{identity}'"):
        pair_check(identity, "info", bit=bit, title="t", explanation="e", remedy="r")(lambda _batch: [])
    assert checks() == before


def test_the_docs_explain_every_check() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for check in checks().values():
        assert f"| `{check.id}` | {check.severity} |" in text


def test_good_pairs_pass_and_each_bad_one_is_named(tmp_path: Path) -> None:
    """Good pairs are left alone, one is too similar, one has no clear winner."""
    report = report_on(write_lines(tmp_path / "data.jsonl", [*GOOD, TOO_SIMILAR, NO_CLEAR_WINNER]))
    assert named(report, "too-similar") == [3]
    assert named(report, "no-clear-winner") == [4]
    assert found(report) == {"too-similar", "no-clear-winner", "few-pairs"}


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


LONG = "It was a long road through the hills, past the old mill and the two bridges, before anyone saw the sea again. "
FULL = "You can cancel from the orders page at any time before it ships, and the money is back within five days. " * 2

# A check, a row that it names, and a row much like it that it does not name.
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("missing-field", pair("p", "a", "b") | {"chosen": None}, pair("p", "a", "b")),
    ("empty-answer", pair("p", "a", ""), pair("p", "a", "-")),
    ("identical", pair("p", "Same.", "Same."), pair("p", "Same.", "Other.")),
    ("too-similar", pair("p", LONG, LONG.replace("old", "odd")), pair("p", LONG, LONG[::-1])),
    ("too-similar", pair("6*7?", "It's 42.", "42"), pair("6*7?", "It's 42.", "It's 43.")),
    ("too-similar", pair("6*7?", "It's 42.", "42"), pair("6*7?", "It is 42.", "It is not 42.")),
    ("no-clear-winner", pair("p", "The soup is lovely.", "The soup is fine."), pair("p", "It is 4.", "It is 5.")),
    (
        "no-clear-winner",
        pair("p", "We had a lovely walk.", "We had a pleasant walk."),
        pair("p", "The capital is Paris.", "The capital is Rome."),
    ),
    (
        "no-clear-winner",
        pair("p", "You should call them.", "You should phone them."),
        pair("p", "You should call them.", "You should not call them."),
    ),
    ("swapped-suspect", pair("p", "No idea.", FULL), pair("p", FULL, "No idea.")),
    (
        "swapped-suspect",
        pair("p", "A fair answer.", "Another of them.", score_chosen=2, score_rejected=8),
        pair("p", "A fair answer.", "Another of them.", score_chosen=8, score_rejected=2),
    ),
    ("tie", pair("p", "a", "b", status="tie"), pair("p", "a", "b", status="swapped")),
    ("tie", pair("p", "a", "b", is_tie=True), pair("p", "a", "b", is_tie=False)),
    (
        "equal-scores",
        pair("p", "A fair answer.", "Another of them.", chosen_rating=5, rejected_rating=5),
        pair("p", "A fair answer.", "Another of them.", chosen_rating=5, rejected_rating=4),
    ),
    (
        "prompt-in-answer",
        pair("How do I cancel an order?", "How do I cancel an order? From the orders page.", "No."),
        pair("How do I cancel an order?", "You cancel an order on its page.", "No."),
    ),
    ("template-tokens", pair("p", "Sure.<|im_end|>", "No."), pair("p", "a < b | c > d", "No.")),
    ("template-tokens", pair("[INST] p [/INST]", "a", "b"), pair("see [1]", "a", "b")),
    ("template-tokens", pair("p", "a</s>", "b"), pair("p", "<span>a</span>", "b")),
    ("template-tokens", pair("p\n<extra_id_1>Assistant\nq", "a", "b"), pair("p", "<extra>", "b")),
    ("template-tokens", pair("p", "<｜Assistant｜> a", "b"), pair("p", "｜a", "b")),
    ("control-characters", pair("p", "\x1b[31mred", "b"), pair("p", "tab\tand\r\nline", "b")),
    ("control-characters", pair("p", "a", "b\u202e"), pair("p", "a", "b – “c”")),
    ("control-characters", pair("p", "a\x85", "b"), pair("p", "a é", "b")),
    ("control-characters", pair("p", "a\x7f", "b"), pair("p", "a~", "b")),
    ("control-characters", pair("p", "nul \x00", "b"), pair("p", "nil", "b")),
    ("double-encoded", pair("p", "GrÃ¶ÃŸe", "b"), pair("p", "Größe", "b")),
    ("double-encoded", pair("p", "a", "itâ€™s"), pair("p", "a", "it’s")),
    ("double-encoded", pair("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "a", "b"), pair("привет", "a", "b")),
    ("double-encoded", pair("p", "cafÃ\u0083Â©", "b"), pair("p", "AMANHÃ” e MANHÃ…", "b")),
    ("double-encoded", pair("p", "ðŸ˜€ 5 Â°C", "b"), pair("p", "😀 5 °C, 100 Å², „MENÜ“", "b")),
    (
        "mixed-language",
        pair("What is the weather like?", "Сегодня солнечно и тепло.", "It is sunny."),
        pair("Какая сегодня погода?", "Сегодня солнечно и тепло.", "Холодно, идёт дождь."),
    ),
    (
        "mixed-language",
        pair("How are you today?", "今天我很好，谢谢你的关心", "Fine, thank you."),
        pair("p", "naïve café", "b"),
    ),
    (
        "role-order",
        {"prompt": [assistant("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
    ),
    (
        "role-order",
        {"prompt": [user("a"), user("b")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {
            "prompt": [{"role": "system", "content": "s"}, user("a"), assistant("b"), user("c")],
            "chosen": [assistant("b")],
            "rejected": [assistant("c")],
        },
    ),
]


@pytest.mark.parametrize(("check", "bad", "good"), ROWS, ids=[f"{one[0]}-{number}" for number, one in enumerate(ROWS)])
@pytest.mark.parametrize("escaped", [False, True], ids=["raw", "escaped"])
def test_a_check_names_the_bad_row_and_not_its_twin(
    tmp_path: Path, check: str, bad: dict[str, Any], good: dict[str, Any], escaped: bool
) -> None:
    """The same verdict whether JSON escapes its characters or not: the search by bytes must miss neither."""
    records = [row(1), bad, row(2), good, row(3)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=escaped) + "\n" for one in records), encoding="utf-8")
    assert named(report_on(path), check) == [2]


@pytest.mark.parametrize(("check", "bad", "good"), ROWS, ids=[f"{one[0]}-{number}" for number, one in enumerate(ROWS)])
def test_a_check_sees_the_same_in_parquet(
    tmp_path: Path, check: str, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist([bad, good]), tmp_path / "data.parquet")
    assert named(report_on(tmp_path / "data.parquet"), check) == [1]


def test_a_score_that_is_nan_is_named_and_says_nothing_about_a_swap(tmp_path: Path) -> None:
    """One check for every kind of file: numbers of Parquet and JSON, and text of CSV."""
    import pyarrow as pa
    import pyarrow.parquet

    scores = [(8.0, 2.0), (float("nan"), 2.0), (2.0, 8.0)]
    found = [row(number) | {"score_chosen": a, "score_rejected": b} for number, (a, b) in enumerate(scores)]
    pyarrow.parquet.write_table(pa.Table.from_pylist(found), tmp_path / "data.parquet")
    report = report_on(tmp_path / "data.parquet")
    assert (named(report, "not-a-number"), named(report, "swapped-suspect")) == ([2], [3])
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
    columns = list(found[0])
    cells = [columns, *([str(one[name]) for name in columns] for one in found)]
    (tmp_path / "data.csv").write_text("".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in cells))
    for name in ("data.jsonl", "data.csv"):
        again = report_on(tmp_path / name)
        assert (named(again, "not-a-number"), named(again, "swapped-suspect")) == ([2], [3]), name


def test_ties_are_no_answers_that_are_alike_and_no_fault_of_the_source(tmp_path: Path) -> None:
    labels = ("a", "tie", "b", "tie")
    found = [
        {"prompt": one["prompt"], "response_a": one["chosen"], "response_b": one["rejected"], "winner": label}
        for one, label in zip(rows(4), labels, strict=True)
    ]
    report = report_on(write_lines(tmp_path / "data.jsonl", found))
    (tie,) = (problem for problem in report.problems if problem.check == "tie")
    assert (tie.count, tie.rows, tie.severity) == (2, [2, 4], "info")
    assert "no-clear-winner" not in {problem.check for problem in report.problems}
    assert report.usable == 2
    assert not report.verdict.startswith("Doubtful")


def test_lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row(1)) + "\n{broken\n" + json.dumps(row(2)) + "\n")
    assert named(report_on(path), "bad-json") == [2]


def test_repeated_pairs_and_prompts_are_told_apart(tmp_path: Path) -> None:
    other = row(1) | {"rejected": "Something else entirely, about nothing in particular."}
    report = report_on(write_lines(tmp_path / "data.jsonl", [row(1), row(2), row(1), other]))
    assert named(report, "duplicate-pair") == [3]
    assert named(report, "duplicate-prompt") == [4]


def test_pairs_that_contradict_each_other_are_all_named(tmp_path: Path) -> None:
    flipped = row(2) | {"chosen": row(2)["rejected"], "rejected": row(2)["chosen"]}
    report = report_on(write_lines(tmp_path / "data.jsonl", [row(1), row(2), row(3), flipped, row(2)]))
    assert named(report, "contradicting-pair") == [2, 4, 5]
    assert named(report, "duplicate-pair") == [5]


def test_the_pairs_of_one_ranking_are_no_repetition(tmp_path: Path) -> None:
    ranked = [{"answer": f"Answer {name} of some length", "rank": rank} for rank, name in enumerate("xyz")]
    report = report_on(write_lines(tmp_path / "data.jsonl", [{"prompt": "p", "answers": ranked}]))
    assert report.usable == 3
    assert not found(report) & {"duplicate-prompt", "duplicate-pair"}


def test_prompts_of_the_evaluation_split_are_a_leak(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", rows(5))
    write_lines(tmp_path / "test.jsonl", [row(3), row(99)])
    assert named(report_on(tmp_path), "leak") == [4]
    write_lines(tmp_path / "test.jsonl", [row(98), row(99)])
    assert named(report_on(tmp_path), "leak") == []


def test_an_evaluation_file_may_be_named(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "a.jsonl", rows(5))
    evaluation = write_lines(tmp_path / "b.jsonl", [row(0)])
    assert named(report_on(train, evaluation=Source(str(evaluation))), "leak") == [1]


def alike(number: int) -> dict[str, str]:
    return row(number) | {"prompt": f"Write a poem about the number {number}"}


WHOLE: list[tuple[str, Callable[[int], dict[str, str]], Callable[[int], dict[str, str]]]] = [
    ("low-diversity", lambda n: row(n % 7), row),
    ("low-diversity", alike, row),
    ("length-bias", lambda n: row(n) | {"chosen": row(n)["chosen"] * (3 + n % 3)}, row),
    ("length-bias", lambda n: row(n) | {"rejected": row(n)["rejected"] * (3 + n % 3)}, row),
    ("refusal-imbalance", lambda n: row(n) | {"chosen": f"I'm sorry, but I can't help with that, {n}."}, row),
    ("refusal-imbalance", lambda n: row(n) | {"rejected": f"I cannot help with that, dear {n}, not today."}, row),
]


@pytest.mark.parametrize(("check", "bad", "good"), WHOLE, ids=[f"{one[0]}-{at}" for at, one in enumerate(WHOLE)])
def test_a_dataset_as_a_whole_is_judged(
    tmp_path: Path, check: str, bad: Callable[[int], dict[str, str]], good: Callable[[int], dict[str, str]]
) -> None:
    assert check in found(report_on(write_lines(tmp_path / "bad.jsonl", [bad(number) for number in range(60)])))
    assert check not in found(report_on(write_lines(tmp_path / "good.jsonl", [good(number) for number in range(60)])))


@pytest.mark.parametrize(("count", "warned"), [(499, True), (500, False)])
def test_fewer_than_500_pairs_are_few(tmp_path: Path, count: int, warned: bool) -> None:
    assert ("few-pairs" in found(report_on(write_lines(tmp_path / "data.jsonl", rows(count))))) is warned
