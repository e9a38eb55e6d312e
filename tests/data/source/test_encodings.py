"""Text that is not UTF-8 is recognised, asked for, or refused row by row; it is never read as other text."""

import gzip
import json
from pathlib import Path

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.scan.row_index import preview_rows
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.encodings import encoding_of
from dpo_tui.data.source.source import Source, data_file, training_source
from dpo_tui.errors import DataError

CHINESE = ["请介绍一下第1条河流的历史", "这条河流有101年的历史，主要流经北方。", "我不知道。"]
TRADITIONAL = ["請介紹一下第一條河流的歷史", "這條河流有一百年的歷史，主要流經北方。", "我不知道。"]
JAPANESE = ["川の歴史について教えてください。", "この川は百年の歴史があり、主に北部を流れています。", "わかりません。"]
KOREAN = ["강의 역사에 대해 간단히 설명해 주세요.", "이 강은 백 년의 역사를 가지고 있습니다.", "모르겠습니다."]
RUSSIAN = ["Расскажи кратко об истории этой реки.", "Эта река известна уже сто лет и течёт на север.", "Я не знаю."]
GREEK = ["Πες μου σύντομα την ιστορία αυτού του ποταμού.", "Αυτός ο ποταμός είναι γνωστός εδώ.", "Δεν ξέρω."]
HEBREW = ["ספר לי בקצרה על ההיסטוריה של הנהר.", "הנהר הזה ידוע כבר מאה שנים.", "אני לא יודע."]
ARABIC = ["أخبرني باختصار عن تاريخ هذا النهر.", "هذا النهر معروف منذ مئة عام.", "لا أعرف."]
POLISH = [
    "Użyj funkcji open i czytaj wiersze.",
    "Ta rzeka płynie na północ, a żółw śpi.",
    "Nie wiem, może później zapytaj.",
]
CZECH = [
    "Řekni mi krátce o historii této řeky.",
    "Tato řeka je známá už sto let a teče na sever.",
    "Nevím, možná později.",
]
HUNGARIAN = ["Mesélj a folyó történetéről.", "Használd a függvényt, ahol az őzek és gyűrűs fák vannak.", "Később."]
TURKISH = [
    "Bu nehrin tarihini kısaca anlat.",
    "Bu nehir yüz yıldır bilinir ve kuzeye doğru akar.",
    "Dosya nasıl okunur?",
]
FRENCH = [
    "Parle-moi brièvement de l’histoire.",
    "Elle est connue à côté des forêts, c’est très économe.",
    "Ça, peut-être.",
]
GERMAN = ["Erzähle mir kurz die Geschichte.", "Dieser Fluss fließt nach Süden, über die Brücke.", "Ich weiß es nicht."]
ENGLISH = ["Tell me about the café – it’s naïve?", "The résumé says “yes”; she’s there.", "I don’t know."]

TEXTS = {
    "gbk": CHINESE,
    "gb18030": CHINESE,
    "big5": TRADITIONAL,
    "shift_jis": JAPANESE,
    "euc_jp": JAPANESE,
    "euc_kr": KOREAN,
    "cp1251": RUSSIAN,
    "koi8_r": RUSSIAN,
    "iso8859_5": RUSSIAN,
    "cp866": RUSSIAN,
    "cp1253": GREEK,
    "cp1255": HEBREW,
    "cp1256": ARABIC,
    "iso8859_2": POLISH,
    "cp1250": CZECH,
    "cp1254": TURKISH,
    "cp1252": FRENCH,
    "latin_1": GERMAN,
    "mac_roman": FRENCH,
}


def write(path: Path, texts: list[str], encoding: str, times: int = 4) -> Path:
    """Some pairs, each with three texts that begin at another one."""
    lines = []
    for number in range(times):
        prompt, chosen, rejected = texts[number % 3 :] + texts[: number % 3]
        record = {"prompt": f"{prompt} ({number})", "chosen": chosen, "rejected": rejected}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path.write_bytes("".join(lines).encode(encoding))
    return path


def load(path: Path, encoding: str | None = None) -> LoadedPairs:
    return load_pairs(Source(str(path), encoding=encoding))


def prompts(loaded: LoadedPairs) -> list[str]:
    return [pair.prompt[0]["content"].split(" (")[0] for pair in loaded.pairs]


@pytest.mark.parametrize(("encoding", "texts"), TEXTS.items())
def test_an_encoding_is_recognised_and_said(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    loaded = load(write(tmp_path / "data.jsonl", texts, encoding))
    assert prompts(loaded) == [*texts, texts[0]]
    assert len(loaded.notes) == 1
    assert "data.jsonl is not UTF-8 and is read as" in loaded.notes[0]
    assert "a guess" in loaded.notes[0]


@pytest.mark.parametrize(
    ("encoding", "texts"), [("cp1250", HUNGARIAN), ("cp1252", ENGLISH), ("koi8_r", ["ПРИВЕТ, МИР"] * 3)]
)
def test_letters_and_words_tell_encodings_of_one_script_apart(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    path = write(tmp_path / "data.jsonl", texts, encoding)
    try:
        assert prompts(load(path)) == [*texts, texts[0]]
    except DataError as error:
        assert "encoding = " in str(error.hint)  # to ask is right as well, to read other text is not


def test_emoji_do_not_hide_an_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", [f"{text} 🙂😀" for text in CHINESE], "gb18030")
    assert prompts(load(path))[0] == f"{CHINESE[0]} 🙂😀"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("你好", "gbk"),
        ("你好", "big5"),
        ("안녕", "euc_kr"),
        ("привет", "cp1251"),
        ("שלום", "cp1255"),
        ("Très", "cp1252"),
    ],
)
def test_a_text_that_is_too_short_to_tell_is_asked_for(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps({"prompt": "p", "chosen": text, "rejected": "no"}, ensure_ascii=False).encode(encoding))
    with pytest.raises(DataError) as caught:
        load(path)
    assert "cannot be told for certain" in caught.value.message
    assert 'Name it with encoding = "…"' in str(caught.value.hint)
    assert f"“{text}”" in str(caught.value.hint)
    assert load(path, encoding).pairs[0].chosen[0]["content"] == text


@pytest.mark.parametrize("encoding", ["gbk", "GB18030", "cp936"])
def test_a_named_encoding_is_used_without_a_guess(tmp_path: Path, encoding: str) -> None:
    loaded = load(write(tmp_path / "data.jsonl", CHINESE, "gbk"), encoding)
    assert (prompts(loaded)[0], loaded.notes) == (CHINESE[0], [])


def test_a_wrong_encoding_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "caf\xe9", "chosen": "a"}\n')
    with pytest.raises(DataError, match=r"is not gbk: line 2 has the bytes e9"):
        load(path, "gbk")


def test_bytes_far_from_the_beginning_do_not_pass_as_other_text(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = json.dumps({"prompt": "p", "chosen": CHINESE[1], "rejected": CHINESE[2]}, ensure_ascii=False).encode("gbk")
    path.write_bytes((good + b"\n") * 40_000 + b'{"prompt": "p", "chosen": "\xff\xff", "rejected": "b"}\n')
    with pytest.raises(DataError, match=r"was taken for gb18030 by a part of it, but line 40,001 has the bytes ff"):
        load(path)


def test_rows_beyond_an_ascii_beginning_decide_too(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    ascii_row = json.dumps({"prompt": "p" * 80, "chosen": "a", "rejected": "b"}).encode()
    chinese = json.dumps({"prompt": "p", "chosen": CHINESE[1], "rejected": CHINESE[2]}, ensure_ascii=False)
    path.write_bytes((ascii_row + b"\n") * 2000 + (chinese.encode("gbk") + b"\n") * 2000)
    assert load(path).pairs[-1].chosen[0]["content"] == CHINESE[1]


def test_a_file_that_is_plainly_utf8_is_read_so_whatever_is_named(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "data.jsonl", CHINESE, "utf-8"), "gbk")
    assert prompts(loaded)[0] == CHINESE[0]
    assert loaded.notes == ["data.jsonl is UTF-8 and is read so, not as gbk"]


def test_damaged_rows_of_a_utf8_file_are_named_and_the_others_are_used(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", CHINESE, "utf-8", times=20)
    lines = path.read_bytes().split(b"\n")
    lines[6] = json.dumps({"prompt": "p", "chosen": RUSSIAN[0], "rejected": "b"}, ensure_ascii=False).encode("cp1251")
    path.write_bytes(b"\n".join(lines))
    loaded = load(path)
    assert [(problem.row, problem.check) for problem in loaded.dropped] == [(7, "bad-json")]
    assert loaded.dropped[0].message == "not UTF-8: the byte d0 at column 28"
    assert len(loaded.pairs) == 19
    assert "is read as UTF-8, but 1 line is not UTF-8" in loaded.notes[0]


def test_damaged_cells_of_a_table_are_named_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    good = "".join(f"你好 {number},很好,不好\n" for number in range(9)).encode()
    path.write_bytes(b"prompt,chosen,rejected\n" + good + b"p,caf\xe9,b\n")
    loaded = load(path)
    assert [(problem.row, problem.message) for problem in loaded.dropped] == [
        (10, "`chosen` has bytes that are not UTF-8")
    ]
    assert len(loaded.pairs) == 9


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_unicode_without_a_mark_is_known_by_its_nul_bytes(tmp_path: Path, encoding: str) -> None:
    loaded = load(write(tmp_path / "data.jsonl", CHINESE, encoding))
    assert prompts(loaded)[0] == CHINESE[0]
    assert encoding[:6].upper() in loaded.notes[0]


def test_a_utf16_file_that_breaks_off_is_an_error_and_no_replacement(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", CHINESE, "utf-16")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is not utf-16: line 4 has the bytes 0a .truncated data"):
        load(path)


def test_nul_bytes_in_ascii_are_bad_rows_and_not_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    line = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
    path.write_bytes(line * 30 + line.replace(b'"a"', b'"a\0"') + line * 30)
    assert [problem.row for problem in load(path).dropped] == [31]


@pytest.mark.parametrize("name", ["data.json", "data.csv", "data.jsonl.gz"])
def test_other_containers_are_recognised_too(tmp_path: Path, name: str) -> None:
    records = [{"prompt": f"{CHINESE[0]}{n}", "chosen": CHINESE[1], "rejected": CHINESE[2]} for n in range(5)]
    text = json.dumps(records, ensure_ascii=False, indent=1)
    if name.endswith("csv"):
        text = "prompt,chosen,rejected\n" + "".join(",".join(one.values()) + "\n" for one in records)
    if name.endswith("gz"):
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    data = text.encode("gbk")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    loaded = load(tmp_path / name)
    assert loaded.pairs[4].prompt[0]["content"] == f"{CHINESE[0]}4"
    assert "gb18030" in loaded.notes[0]


def test_inspect_and_the_preview_say_the_same_as_training(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", RUSSIAN, "koi8_r")
    source = Source(str(path))
    notes: list[str] = []
    rows = preview_rows(source, 3, notes)
    assert notes == load_pairs(source).notes == scan(ScanRequest(source, workers=1), lambda event: None).notes
    assert [number for number, _ in rows] == [1, 2, 3]
    assert encoding_of(data_file(path)).name == "koi8_r"


@pytest.mark.parametrize("name", ["klingon", "base64", "idna", "rot13"])
def test_an_unknown_encoding_is_a_problem_of_the_config(name: str) -> None:
    with pytest.raises(InvalidConfigError, match="encoding"):
        from_values({"model_name": "m", "dataset": "d", "encoding": name})


def test_the_setting_reaches_the_reader_and_an_empty_one_is_recognised() -> None:
    config = from_values({"model_name": "m", "dataset": "d", "encoding": "gbk"})
    assert training_source(config).encoding == "gbk"
    assert training_source(from_values({"model_name": "m", "dataset": "d", "encoding": ""})).encoding is None
