"""Text that was encoded twice is named and restored; text of many languages and of programs is left alone."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.data.checks import double_encoding
from dpo_tui.data.checks.double_encoding import example, repaired_text
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.repair.repair import repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, row, user, write_lines

pytestmark = pytest.mark.usefixtures("home")

REAL = (
    "Größe und Übung, „MENÜ“ „BÄ“ Ä… also ÖL™ ‚Ü‘",
    "ça, c’est l’été — déjà vu : « École », «É» et «À» ; l’ÎLE… « Â », sûr, dû",
    "AMANHÃ” disse: MANHÃ… IRMÃ– “MAÇÔ ção ções não São Paulo, à tarde",
    "ESPAÑA… NIÑO ¿Qué? ¡Ñ! “Ñ” mañana",
    "100 Å² and 5 Å±0.2, Å–1, x² × y³ ÷ 2 ±0.5° £5 ©",
    "łódź Žlutý kůň İstanbul ışık ÇAĞ Ő ű Ă ț Tromsø – Ærø — Å’",
    "Ελληνικά Привет שלום مرحبا 你好 こんにちは 한국어 ไทย हिन्दी Tiếng Việt: Ấ Ầ Đ",
    "emoji 😀👍🏽 → ≥ ✓ ™ € … • “x” ‘y’",
    'def f(x):\n    return re.sub(r"[À-ÿ]", "", x)  # – é © ×2 → ok; print("Ü", \'É\', `Â`)',
    "ASCII alone, with \\u00c3\\u00a9 as code",
)
TWICE = (
    "Größe und Übung, naïve café",
    "it’s “quoted” — yes… • x",
    "€5 → ≥ ✓ ™",
    "não, São, ções; Žlutý kůň; İstanbul",
    "привет, как дела",
    "你好，世界",
    "こんにちは",
    "한국어",
    "שלום",
    "مرحبا",
    "Ελλάδα",
    "😀",
    "100 °C für £5",
)


def taken_for(text: str, encoding: str) -> str:
    """UTF-8 as it looks in another encoding, as browsers read it: what Windows-1252 lacks are controls."""
    if encoding == "latin-1":
        return text.encode().decode("latin-1")
    return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("text", REAL)
def test_real_text_is_left_alone(text: str) -> None:
    assert repaired_text(text) is None
    assert example([text]) == ""


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", TWICE)
def test_what_was_encoded_twice_or_three_times_is_restored_exactly(text: str, encoding: str) -> None:
    twice = taken_for(text, encoding)
    assert repaired_text(twice) == text
    assert repaired_text(taken_for(twice, encoding)) == text


def test_a_text_that_cannot_be_undone_exactly_stays_as_it_is() -> None:
    """A letter that is right between those that are not, one that was lost, and a character that is no byte."""
    for text in ("GrÃ¶ÃŸe und Größe", "GrÃ¶Ã?e", "GrÃ¶ÃŸe 你"):
        assert repaired_text(text) is None
        assert "cannot be undone exactly" in example([text]) or "?" in text


def test_the_report_counts_them_with_an_example(tmp_path: Path) -> None:
    bad = {**row(3), "chosen": taken_for("Die Größe zählt hier sehr", "cp1252")}
    path = write_lines(tmp_path / "data.jsonl", [row(1), row(2), bad, row(4), {**bad, "prompt": "again, another"}])
    report = scan(ScanRequest(Source(str(path)), workers=1), lambda _event: None)
    problem = next(one for one in report.problems if one.check == "double-encoded")
    assert (problem.count, problem.rows) == (2, [3, 5])
    assert problem.detail.startswith("row 3: 'GrÃ¶ÃŸe")
    assert "was 'Größe" in problem.detail
    assert "--fix-encoding" in problem.remedy


def test_the_repair_restores_texts_and_messages_and_says_which_rows(tmp_path: Path) -> None:
    right = "Die Größe zählt"
    wrong = taken_for(right, "cp1252")
    mixed = f"{wrong} und Größe"
    rows = [row(1), {**row(2), "chosen": wrong}, {**row(3), "rejected": mixed}]
    path, out = write_lines(tmp_path / "data.jsonl", rows), tmp_path / "out.jsonl"
    assert repair(Source(str(path)), RepairPlan(fix_encoding=True), out).changed == 1
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert written == [rows[0], {**rows[1], "chosen": right}, rows[2]]
    log = (tmp_path / "out.jsonl.repair.jsonl").read_text()
    assert '{"row":2,"action":"encoding repaired"}' in log
    conversation = {"prompt": [user(wrong)], "chosen": [assistant(wrong)], "rejected": [assistant("no")]}
    path = write_lines(tmp_path / "messages.jsonl", [conversation])
    repair(Source(str(path)), RepairPlan(fix_encoding=True), out, over=True)
    assert load_pairs(Source(str(out))).pairs[0].prompt[0]["content"] == right


def test_what_only_warns_is_not_counted_among_rows_that_cannot_be_used(tmp_path: Path) -> None:
    wrong = {**row(1), "prompt": taken_for("Größe", "cp1252")}
    unusable = [{"prompt": taken_for("Größe", "cp1252"), "answer": "x"} for _ in range(3)]
    report = scan(
        ScanRequest(Source(str(write_lines(tmp_path / "a.jsonl", [wrong, *unusable]))), workers=1), lambda _event: None
    )
    assert report.usable == 1
    path = write_lines(tmp_path / "b.jsonl", unusable)
    with pytest.raises(DataError, match="every row"):
        scan(ScanRequest(Source(str(path)), workers=1), lambda _event: None)


@settings(max_examples=300)
@given(st.text(st.sampled_from([*map(chr, double_encoding._TO_BYTE), "a", "M", " "]), max_size=24))
def test_the_fast_search_for_a_beginning_misses_no_sequence(text: str) -> None:
    """Made of the characters that bytes were taken for, so that half of the texts hold a sequence."""
    expected, found = double_encoding._SEQUENCE.search(text), double_encoding._first_sequence(text)
    assert (expected and expected.span()) == (found and found.span())
