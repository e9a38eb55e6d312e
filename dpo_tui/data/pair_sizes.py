"""How many pairs a config's dataset has and how many tokens they take: counted where that is quick, else sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.load_split import hold_out_labelled, hold_out_pairs, training_count
from dpo_tui.data.pairs.pair import Pair, text_of
from dpo_tui.data.source.locate import is_pattern, locate
from dpo_tui.data.source.source import training_source
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter
from dpo_tui.data.tokens.renderable_pairs import renderable_pairs
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DpoTuiError
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import DataForm

_READ_WHOLE_BYTES = 12_000_000
"""A plain file up to this size is read and parsed whole: that takes well under a second."""
_READ_WHOLE_PACKED_BYTES = 2_500_000
"""The same for a packed file, which holds about five times its size."""
_SAMPLE_BYTES = 4_000_000
"""Of a larger file, the number of lines is extrapolated from this many bytes at its beginning."""
_SAMPLE_ROWS = 1000
_TOKENIZED_PAIRS = 160
"""Pairs that are tokenized, spread evenly over the data; a quarter as many of the longest are as well."""
_CHARACTERS_PER_TOKEN = 4.0
"""Characters of English text in one token: the estimate where the model's tokenizer is not on this machine."""


@dataclass(frozen=True)
class PairSizes:
    """Number and lengths of a dataset's pairs.

    Attributes:
        rows: usable pairs; None when unknown.
        tokens_per_pair: mean tokens of both sequences together, each cut at max_seq_length; None when unknown.
        longest: tokens of the longest sequence, cut at max_seq_length; None unless the whole file was read and the
            model's own tokenizer is here.
        basis: one sentence on how the numbers were found, or why there are none.
        sequences: tokens of the chosen and of the rejected sequence of pairs spread over the data, each cut.
        trained: usable pairs that are trained on, the others being held out; None when unknown.
    """

    rows: int | None = None
    tokens_per_pair: float | None = None
    longest: int | None = None
    basis: str = ""
    sequences: tuple[tuple[int, int], ...] = ()
    trained: int | None = None


def pair_sizes(config: Config, tokenizer_folder: Path | None) -> PairSizes:
    """Count and measure the pairs of a config's dataset; never raises, never downloads.

    Args:
        config: with local paths made absolute.
        tokenizer_folder: holds the model's tokenizer.json; None when it is not on this machine.
    """
    paths = [Path(location).expanduser() for location in config.datasets]
    try:
        if not all(path.exists() or is_pattern(str(path)) for path in paths):
            return PairSizes(basis="the dataset is not on this machine: steps are not counted")
        form = strategy_of(config).data
        if form is DataForm.LABELLED:
            return _labelled_sizes(config, tokenizer_folder)
        if form is not DataForm.PAIRS:
            return PairSizes(basis="steps are counted for preference pairs only")
        files = locate(training_source(config))
        file = files[0]
        size = sum(one.path.stat().st_size for one in files)
        if size <= (_READ_WHOLE_PACKED_BYTES if any(one.packed for one in files) else _READ_WHOLE_BYTES):
            pairs = _accepted_by_template(load_pairs(training_source(config)).pairs, config, tokenizer_folder)
            trained = len(pairs) if config.has_evaluation_data else len(hold_out_pairs(pairs, config)[0])
            return replace(_measured(pairs, len(pairs), config, tokenizer_folder, whole=True), trained=trained)
        if len(files) > 1 or file.kind != "json" or file.packed:
            return PairSizes(basis="the dataset is large: steps are counted when training starts")
        with file.path.open("rb") as stream:
            lines = stream.read(_SAMPLE_BYTES).count(b"\n")
        rows = max(1, round(lines * size / _SAMPLE_BYTES))
        sample = load_pairs(training_source(config.model_copy(update={"max_samples": min(rows, _SAMPLE_ROWS)})))
        rows = min(rows, config.max_samples) if config.max_samples else rows
        measured = _measured(sample.pairs, rows, config, tokenizer_folder, whole=False)
        return replace(measured, trained=training_count(config, rows))
    except (DpoTuiError, OSError) as error:
        message = error.message if isinstance(error, DpoTuiError) else error.strerror
        return PairSizes(basis=f"the dataset was not counted: {message}")


def _labelled_sizes(config: Config, tokenizer_folder: Path | None) -> PairSizes:
    """The same of labelled answers, which have one sequence each; a file of any size is read whole."""
    rows = load_labelled(training_source(config)).rows
    trained = len(rows) if config.has_evaluation_data else len(hold_out_labelled(rows, config)[0])
    # Each answer is measured as a pair of itself, so that half of both sequences is its own.
    found = _measured([row.as_pair() for row in rows], len(rows), config, tokenizer_folder, whole=True)
    return replace(
        found,
        tokens_per_pair=found.tokens_per_pair / 2 if found.tokens_per_pair is not None else None,
        basis=found.basis.replace(" pairs", " labelled answers"),
        sequences=tuple((tokens, 0) for tokens, _ in found.sequences),
        trained=trained,
    )


def _accepted_by_template(pairs: Sequence[Pair], config: Config, tokenizer_folder: Path | None) -> Sequence[Pair]:
    """The pairs that the model's chat template accepts; all of them when the template is not on this machine."""
    if tokenizer_folder is None:
        return pairs
    located = config.model_copy(update={"model_name": str(tokenizer_folder), "model_revision": None})
    return renderable_pairs(pairs, located, download=False)[0]


def _measured(pairs: Sequence[Pair], rows: int, config: Config, folder: Path | None, *, whole: bool) -> PairSizes:
    """Measure some pairs.

    Args:
        pairs: the pairs that were read.
        rows: usable pairs of the whole file, counted or extrapolated.
        config: the run's settings.
        folder: of the tokenizer; None estimates tokens from characters.
        whole: whether ``pairs`` are all pairs of the file.
    """
    spread = pairs[:: max(1, len(pairs) // _TOKENIZED_PAIRS)]
    longest_pairs = sorted(pairs, key=_longer_sequence_characters, reverse=True)[: _TOKENIZED_PAIRS // 4]
    counter = _token_counter(folder, config)
    about = "" if whole else "about "
    limit = config.max_seq_length
    if counter is None:
        mean = sum(_both_sequences_characters(pair) for pair in spread) / len(spread) / _CHARACTERS_PER_TOKEN
        basis = f"{about}{rows:,} pairs, tokens from characters (no tokenizer here)"
        return PairSizes(rows, mean, None, basis, tuple(_estimated_tokens(pair, limit) for pair in spread))
    lengths = [one for one in counter.lengths(list(spread)) if isinstance(one, Length)]
    longest = [one for one in counter.lengths(longest_pairs) if isinstance(one, Length)]
    if not lengths or not longest:
        return PairSizes(rows, None, None, f"{about}{rows:,} pairs; the chat template refuses them")
    cut = tuple((min(limit, one.prompt + one.chosen), min(limit, one.prompt + one.rejected)) for one in lengths)
    mean = sum(chosen + rejected for chosen, rejected in cut) / len(cut)
    top = max(one.prompt + max(one.chosen, one.rejected) for one in longest)
    basis = f"{about}{rows:,} pairs, tokens counted on {len(lengths)} of them"
    return PairSizes(rows, mean, min(limit, top) if whole else None, basis, cut)


def _token_counter(folder: Path | None, config: Config) -> TokenCounter | None:
    if folder is None:
        return None
    try:
        return TokenCounter.from_folder(folder, TemplateSettings.of(config))
    except DpoTuiError:
        return None


def _estimated_tokens(pair: Pair, limit: int) -> tuple[int, int]:
    prompt, chosen, rejected = (len(text_of(part)) for part in (pair.prompt, pair.chosen, pair.rejected))
    tokens = [max(round((prompt + answer) / _CHARACTERS_PER_TOKEN), 1) for answer in (chosen, rejected)]
    return min(limit, tokens[0]), min(limit, tokens[1])


def _longer_sequence_characters(pair: Pair) -> int:
    return len(text_of(pair.prompt)) + max(len(text_of(pair.chosen)), len(text_of(pair.rejected)))


def _both_sequences_characters(pair: Pair) -> int:
    return 2 * len(text_of(pair.prompt)) + len(text_of(pair.chosen)) + len(text_of(pair.rejected))
