"""How many pairs a config's dataset has and how long they are: exactly where that is quick, else from a sample."""

from dataclasses import dataclass, replace
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.data.held_out import hold_out_pairs, training_count
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.pair import Pair, text_of
from dpo_tui.data.source.from_config import training_source
from dpo_tui.data.source.source import data_file
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter
from dpo_tui.data.tokens.template_refusals import without_refused
from dpo_tui.errors import DpoTuiError
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm

_READ_WHOLE = 12_000_000  # bytes that are read and parsed without being felt
_READ_WHOLE_PACKED = 2_500_000
_SAMPLE = 4_000_000
_COUNTED = 160  # pairs that are tokenized: spread over the data, and the longest
_CHARACTERS_PER_TOKEN = 4.0  # English text; without the model's tokenizer there is nothing better


@dataclass(frozen=True)
class PairSizes:
    """What is known about the pairs.

    Attributes:
        rows: usable pairs; None when unknown.
        trained: how many of them are trained on, the others being held out; None when unknown.
        tokens_per_pair: mean tokens of both sequences together, cut at max_seq_length.
        longest: tokens of the longest sequence, when every pair was looked at with the model's own tokenizer.
        words: how that was found.
        sequences: tokens of the chosen and of the rejected sequence of pairs spread over the data, cut likewise.
    """

    rows: int | None = None
    tokens_per_pair: float | None = None
    longest: int | None = None
    words: str = ""
    sequences: tuple[tuple[int, int], ...] = ()
    trained: int | None = None


def pair_sizes(config: Config, tokenizer_folder: Path | None) -> PairSizes:
    """Look at the dataset of a config; never raises, never downloads.

    Args:
        config: with local paths made absolute.
        tokenizer_folder: holds the model's tokenizer.json; None when there is none here.
    """
    path = Path(config.dataset).expanduser()
    try:
        if not path.is_file():
            where = "is a folder" if path.is_dir() else "is not on this machine"
            return PairSizes(words=f"the dataset {where}: steps are not counted")
        if strategy_of(config).data is not DataForm.PAIRS:
            return PairSizes(words="steps are counted for preference pairs only")
        file = data_file(path)
        size = path.stat().st_size
        if size <= (_READ_WHOLE_PACKED if file.packed else _READ_WHOLE):
            pairs = _not_refused(load_pairs(training_source(config)).pairs, config, tokenizer_folder)
            trained = len(pairs) if config.eval_dataset else len(hold_out_pairs(pairs, config)[0])
            return replace(_measured(pairs, len(pairs), config, tokenizer_folder, whole=True), trained=trained)
        if file.kind != "json" or file.packed:
            return PairSizes(words="the dataset is large: steps are counted when training starts")
        with path.open("rb") as stream:
            lines = stream.read(_SAMPLE).count(b"\n")
        rows = max(1, round(lines * size / _SAMPLE))
        sample = load_pairs(training_source(config.model_copy(update={"max_samples": min(rows, 1000)})))
        rows = min(rows, config.max_samples) if config.max_samples else rows
        measured = _measured(sample.pairs, rows, config, tokenizer_folder, whole=False)
        return replace(measured, trained=training_count(config, rows))
    except (DpoTuiError, OSError) as error:
        message = error.message if isinstance(error, DpoTuiError) else error.strerror
        return PairSizes(words=f"the dataset was not counted: {message}")


def _not_refused(pairs: list[Pair], config: Config, tokenizer_folder: Path | None) -> list[Pair]:
    """The pairs that training would keep, as far as the chat template is here."""
    if tokenizer_folder is None:
        return pairs
    located = config.model_copy(update={"model_name": str(tokenizer_folder), "model_revision": None})
    return without_refused(pairs, located, download=False)[0]


def _measured(pairs: list[Pair], rows: int, config: Config, folder: Path | None, *, whole: bool) -> PairSizes:
    spread = pairs[:: max(1, len(pairs) // _COUNTED)]
    by_size = sorted(pairs, key=_characters, reverse=True)[: _COUNTED // 4]
    counter = _counter(folder)
    about = "" if whole else "about "
    limit = config.max_seq_length
    if counter is None:
        mean = sum(_pair_characters(pair) for pair in spread) / len(spread) / _CHARACTERS_PER_TOKEN
        words = f"{about}{rows:,} pairs, tokens from characters (no tokenizer here)"
        return PairSizes(rows, mean, None, words, tuple(_guessed(pair, limit) for pair in spread))
    lengths = [one for one in counter.lengths(spread) if isinstance(one, Length)]
    longest = [one for one in counter.lengths(by_size) if isinstance(one, Length)]
    if not lengths or not longest:
        return PairSizes(rows, None, None, f"{about}{rows:,} pairs; the chat template refuses them")
    cut = tuple((min(limit, one.prompt + one.chosen), min(limit, one.prompt + one.rejected)) for one in lengths)
    mean = sum(chosen + rejected for chosen, rejected in cut)
    top = max(one.prompt + max(one.chosen, one.rejected) for one in longest)
    words = f"{about}{rows:,} pairs, tokens counted on {len(lengths)} of them"
    return PairSizes(rows, mean / len(lengths), min(limit, top) if whole else None, words, cut)


def _counter(folder: Path | None) -> TokenCounter | None:
    if folder is None:
        return None
    try:
        return TokenCounter.from_folder(folder)
    except DpoTuiError:
        return None


def _characters(pair: Pair) -> int:
    return len(text_of(pair.prompt)) + max(len(text_of(pair.chosen)), len(text_of(pair.rejected)))


def _guessed(pair: Pair, limit: int) -> tuple[int, int]:
    prompt, chosen, rejected = (len(text_of(part)) for part in (pair.prompt, pair.chosen, pair.rejected))
    tokens = [max(round((prompt + answer) / _CHARACTERS_PER_TOKEN), 1) for answer in (chosen, rejected)]
    return min(limit, tokens[0]), min(limit, tokens[1])


def _pair_characters(pair: Pair) -> int:
    return 2 * len(text_of(pair.prompt)) + len(text_of(pair.chosen)) + len(text_of(pair.rejected))
