"""EncodingGuess the encoding of text that is not UTF-8, or say that it cannot be told.

The bytes of most encodings are also valid in a dozen others, so what decides is whether the characters they give occur
together in writing: the common characters of Chinese, Japanese and Korean, the alphabets of languages, capitals at the
beginning of words. Where several readings remain, charset-normalizer compares how often each letter occurs with the
languages it knows. If that does not decide either, the user is asked: a wrong encoding spoils rows without an error.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo_tui.data.source.latin_alphabets import LANGUAGES, Language
from dpo_tui.errors import DataError

_SAMPLE_BYTES = 1 << 14
"""Bytes of text that are looked at: more do not change the answer."""
_SEGMENT = re.compile(rb'[^"\n\r]*[\x80-\xff][^"\n\r]*')
"""A text between quotes, which are no part of a character in any encoding here, with a byte beyond ASCII."""
_NATURAL = 0.95
"""Share of the characters beyond ASCII that must occur together in writing; names and slips are the others."""
_FEW = 6
"""Characters beyond ASCII from which absent letters say something about a language."""
_LETTERS_COUNTED, _LETTERS_DIFFERENT = 20, 12
"""Characters beyond ASCII, and different ones of them, from which frequencies of letters say something."""
_LEAD = 0.1
"""How much better the frequencies of letters must fit than in the next reading."""
_READINGS_SHOWN = 5
_EXCERPT = 24
# Symbols of ordinary text. Others are letters of another encoding.
_PUNCTUATION = frozenset("–—‘’‚“”„†•…‰‹›€™«»°±²³µ·¼½¾¿¡§©®£¥¢×÷ªº¹\u00a0\u00ad№")
_FIRST_EMOJI = "\U0001f000"
"""Emoji and rare ideographs say nothing about a language; of the encodings here only GB 18030 has them."""
_IN_WORDS = frozenset("’·\u00ad")


@dataclass(frozen=True, slots=True)
class EncodingCandidate:
    """An encoding that may be meant.

    Args:
        name: as Python's codecs know it.
        title: as people know it.
        naturalness: returns the share of a text's characters beyond ASCII that occur together in writing.
        common: found in files of today; others are considered only where none of these fits.
        least: different characters beyond ASCII that are needed to decide for it.
    """

    name: str
    title: str
    naturalness: Callable[[str], float]
    common: bool = True
    least: int = 1


@dataclass(frozen=True, slots=True)
class EncodingGuess:
    """The encoding that was guessed.

    Args:
        encoding: as Python's codecs know it.
        title: as people know it.
        characters: how many characters beyond ASCII were looked at.
        share: the share of them that fits.
    """

    encoding: str
    title: str
    characters: int
    share: float

    def note(self, file: str) -> str:
        """What was assumed and how sure it is, in one sentence."""
        return (
            f"{file} is not UTF-8 and is read as {self.encoding} ({self.title}), a guess: {self.share:.0%} of "
            f'{self.characters:,} characters beyond ASCII fit; if texts look wrong, name another with encoding = "…"'
        )


def guess(lines: bytes, path: Path) -> EncodingGuess:
    """EncodingGuess the encoding of some lines, each with bytes beyond ASCII.

    Args:
        lines: they are not UTF-8.
        path: their file, for the error.

    Raises:
        DataError: no encoding fits, or several do and give different texts; the hint shows how each reads the file.
    """
    sample = _sample(lines)
    readings: dict[str, tuple[EncodingCandidate, float]] = {}
    decoded: list[tuple[EncodingCandidate, str]] = []
    for candidate in CANDIDATES:
        text = _decoded(sample, candidate.name)
        if text is None:
            continue
        decoded.append((candidate, text))
        if text not in readings:
            readings[text] = (candidate, candidate.naturalness(text))
    natural = {text: found for text, found in readings.items() if found[1] >= _NATURAL}
    natural = {text: found for text, found in natural.items() if found[0].common} or natural
    natural = _without_chinese_that_is_korean(natural)
    if len(natural) > 1:
        natural = _best_by_letters(natural, sample)
    if len(natural) != 1:
        raise _uncertain(path, [(found[0], text) for text, found in natural.items()] or decoded)
    ((text, (candidate, share)),) = natural.items()
    if len(_different(text)) < candidate.least:
        raise _uncertain(path, [(candidate, text)])
    return EncodingGuess(candidate.name, candidate.title, _beyond_ascii(text), share)


def _sample(lines: bytes) -> bytes:
    segments: list[bytes] = []
    size = 0
    for found in _SEGMENT.finditer(lines):
        segment = found.group()
        if size + len(segment) > _SAMPLE_BYTES and segments:
            break
        segments.append(segment)
        size += len(segment)
    return b"\n".join(segments)


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The text of a sample, or None if it has bytes or control characters that no text in this encoding has."""
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return None
    return (
        None if any(unicodedata.category(sign) in {"Cc", "Co", "Cn"} and sign not in "\t\n" for sign in text) else text
    )


def _beyond_ascii(text: str) -> int:
    return sum(not sign.isascii() for sign in text)


def _different(text: str) -> set[str]:
    return {sign.lower() for sign in text if not sign.isascii()}


def _without_chinese_that_is_korean(
    natural: dict[str, tuple[EncodingCandidate, float]],
) -> dict[str, tuple[EncodingCandidate, float]]:
    """Decide for Korean if both fit.

    The common Hangul are a part of the range of the common Chinese characters: Korean always reads as Chinese too, but
    half of Chinese lies outside the range of Hangul.
    """
    if not any(found[0].name == "cp949" and _beyond_ascii(text) >= 2 * _FEW for text, found in natural.items()):
        return natural
    return {text: found for text, found in natural.items() if found[0].name not in {"gb18030", "big5", "euc_jp"}}


def _best_by_letters(
    natural: dict[str, tuple[EncodingCandidate, float]], sample: bytes
) -> dict[str, tuple[EncodingCandidate, float]]:
    """The reading whose letters are as frequent as in a language, if it is clearly ahead; else all of them."""
    import charset_normalizer

    names = [found[0].name for found in natural.values()]
    if any(_beyond_ascii(text) < _LETTERS_COUNTED or len(_different(text)) < _LETTERS_DIFFERENT for text in natural):
        return natural
    matches = charset_normalizer.from_bytes(sample, cp_isolation=names, threshold=1.0, preemptive_behaviour=False)
    coherence: dict[str, float] = {}
    for match in matches:
        for name in match.could_be_from_charset:
            coherence[name] = max(coherence.get(name, 0.0), match.coherence)
    ranked = sorted(natural.items(), key=lambda item: coherence.get(item[1][0].name, 0.0), reverse=True)
    first, second = (coherence.get(item[1][0].name, 0.0) for item in ranked[:2])
    return dict(ranked[:1]) if first >= second + _LEAD else natural


def _uncertain(path: Path, readings: list[tuple[EncodingCandidate, str]]) -> DataError:
    message = f"{path} is not UTF-8, and its encoding cannot be told for certain"
    if not readings:
        hint = 'Name it with encoding = "…" (inspect: --encoding), or save the file as UTF-8.'
        return DataError(message, hint=hint)
    shown = ", ".join(f"{found.name} reads “{_excerpt(text)}”" for found, text in readings[:_READINGS_SHOWN])
    return DataError(
        message, hint=f'Name it with encoding = "…" (inspect: --encoding), or save the file as UTF-8: {shown}.'
    )


def _excerpt(text: str) -> str:
    """The surroundings of the first character beyond ASCII."""
    at = next((place for place, sign in enumerate(text) if not sign.isascii()), 0)
    start = max(at - _EXCERPT // 3, 0)
    return text[start : start + _EXCERPT].split("\n")[0 if "\n" not in text[start:at] else 1].strip()


def _is_between_letters(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalpha() and text[at + 1].isalpha()


def _in_script(script: str, vowels: str = "", least: float = 0.0, finals: str = "") -> Callable[[str], float]:
    """Naturalness of an alphabet other than Latin: letters of that script, not mixed with Latin ones in a word.

    Args:
        script: as Unicode's names of its letters begin.
        vowels: its vowels in lower case, without accents.
        least: share of the letters that are vowels at least, in a text of some length.
        finals: letters that only the end of a word has.
    """

    def share(text: str) -> float:
        total = natural = letters = vowels_found = 0
        for at, sign in enumerate(text):
            if sign.isascii():
                continue
            total += 1
            before = text[at - 1] if at else " "
            if sign.isalpha():
                letters += 1
                vowels_found += unicodedata.normalize("NFD", sign.lower())[0] in vowels
                mixed = before.isascii() and before.isalpha()
                inverted = sign.isupper() and before.islower()
                inside = sign in finals and text[at + 1 : at + 2].isalpha()
                natural += unicodedata.name(sign, "").startswith(script) and not (mixed or inverted or inside)
            elif unicodedata.category(sign) == "Mn":
                natural += not before.isascii() and unicodedata.category(before) in {"Lo", "Mn"}
            else:
                natural += sign in _PUNCTUATION and (sign in _IN_WORDS or not _is_between_letters(text, at))
        if letters >= _LETTERS_COUNTED and vowels_found < least * letters:
            return 0.0
        return natural / total if total else 0.0

    return share


def _in_latin(*languages: Language) -> Callable[[str], float]:
    """Naturalness of a Latin alphabet: all its letters occur in one language, and that as often as they do there."""

    def share(text: str) -> float:
        total = misplaced = 0
        letters: list[str] = []
        for at, sign in enumerate(text):
            if sign.isascii():
                continue
            total += 1
            if sign.isalpha() and sign not in _PUNCTUATION:
                letters.append(sign.lower())
                misplaced += sign.isupper() and at > 0 and text[at - 1].islower()
            else:
                misplaced += sign not in _PUNCTUATION or (sign not in _IN_WORDS and _is_between_letters(text, at))
        if not total:
            return 0.0
        words = [word for word in re.split(r"[\W\d_]+", text) if word]
        accented = sum(not word.isascii() for word in words) / max(len(words), 1)
        best = max((language.share(letters, accented, _FEW) for language in languages), default=0.0)
        return (total - misplaced) / total * best

    return share


def _in_characters(
    codec: str, common: tuple[tuple[int, int], ...], script: str = "", least: float = 0.0
) -> Callable[[str], float]:
    """Naturalness of Chinese, Japanese or Korean.

    Args:
        codec: has the common characters in two bytes.
        common: ranges of the first byte of common characters and punctuation.
        script: of the letters without which no text of this language is written.
        least: their share at least.
    """

    def share(text: str) -> float:
        total = natural = own = 0
        for at, sign in enumerate(text):
            if sign.isascii() or sign >= _FIRST_EMOJI:
                continue
            total += 1
            own += bool(script) and unicodedata.name(sign, "").startswith(script)
            try:
                encoded = sign.encode(codec)
            except UnicodeEncodeError:
                continue
            is_common = len(encoded) == 2 and any(low <= encoded[0] <= high for low, high in common)  # noqa: PLR2004
            natural += is_common and not _is_alone_in_latin_word(text, at)
        return natural / total if total and own >= least * total else 0.0

    return share


def _is_alone_in_latin_word(text: str, at: int) -> bool:
    beside = [one for one in (text[at - 1 : at], text[at + 1 : at + 2]) if one]
    return any(one.isascii() and one.isalpha() for one in beside) and all(one.isascii() for one in beside)


def _latin(*names: str) -> Callable[[str], float]:
    return _in_latin(*(language for name in names for language in LANGUAGES[name]))


_SYMBOLS = (0xA1, 0xA3)
_CYRILLIC = _in_script("CYRILLIC", "аеиоуыэюяєі", 0.3)
_GREEK = _in_script("GREEK", "αεηιουω", 0.35, "ς")
_HEBREW = _in_script("HEBREW", finals="ךםןףץ")

CANDIDATES = (
    # Common characters: level 1 of GB 2312 and of Big5, level 1 and kana of JIS X 0208, the Hangul of KS X 1001.
    EncodingCandidate("gb18030", "simplified Chinese", _in_characters("gb2312", (_SYMBOLS, (0xB0, 0xD7))), least=_FEW),
    EncodingCandidate("big5", "traditional Chinese", _in_characters("big5", (_SYMBOLS, (0xA4, 0xC5))), least=_FEW),
    EncodingCandidate(
        "cp932", "Shift JIS, Japanese", _in_characters("cp932", ((0x81, 0x98),), "HIRAGANA", 0.15), least=_FEW
    ),
    EncodingCandidate(
        "euc_jp", "EUC, Japanese", _in_characters("euc_jp", ((0xA1, 0xCF),), "HIRAGANA", 0.15), least=_FEW
    ),
    EncodingCandidate("cp949", "Korean", _in_characters("euc_kr", (_SYMBOLS, (0xB0, 0xC8)), "HANGUL", 0.8), least=_FEW),
    EncodingCandidate("cp1252", "Windows-1252, Western European", _latin("western")),
    EncodingCandidate("cp1250", "Windows-1250, Central European", _latin("western", "central")),
    EncodingCandidate("iso8859_2", "Latin-2, Central European", _latin("western", "central")),
    EncodingCandidate("cp1254", "Windows-1254, Turkish", _latin("western", "turkish")),
    EncodingCandidate("cp1257", "Windows-1257, Baltic", _latin("baltic")),
    EncodingCandidate("cp1251", "Windows-1251, Cyrillic", _CYRILLIC),
    EncodingCandidate("koi8_r", "KOI8-R, Russian", _CYRILLIC),
    EncodingCandidate("koi8_u", "KOI8-U, Ukrainian", _CYRILLIC),
    EncodingCandidate("cp1253", "Windows-1253, Greek", _GREEK),
    EncodingCandidate("cp1255", "Windows-1255, Hebrew", _HEBREW),
    EncodingCandidate("cp1256", "Windows-1256, Arabic", _in_script("ARABIC")),
    EncodingCandidate("cp874", "Windows-874, Thai", _in_script("THAI"), common=False),
    EncodingCandidate("iso8859_15", "Latin-9, Western European", _latin("western"), common=False),
    EncodingCandidate("iso8859_5", "Latin/Cyrillic", _CYRILLIC, common=False),
    EncodingCandidate("iso8859_7", "Latin/Greek", _GREEK, common=False),
    EncodingCandidate("cp866", "DOS Cyrillic", _CYRILLIC, common=False),
    EncodingCandidate("mac_cyrillic", "Mac Cyrillic", _CYRILLIC, common=False),
    EncodingCandidate("cp850", "DOS Western European", _latin("western"), common=False),
    EncodingCandidate("cp852", "DOS Central European", _latin("central"), common=False),
    EncodingCandidate("mac_roman", "Mac Roman", _latin("western"), common=False),
)
