"""How many rows a config's dataset has and how many tokens they take: counted where that is quick, else sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.data.load_demonstrations import Demonstration, load_demonstrations
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.load_split import hold_out_demonstrations, hold_out_labelled, hold_out_pairs, training_count
from dpo_tui.data.pairs.pair import Pair, text_of
from dpo_tui.data.source.locate import is_pattern, locate
from dpo_tui.data.source.source import training_source
from dpo_tui.data.tokens.packed_sequences import packed_sequences
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter
from dpo_tui.data.tokens.renderable_pairs import renderable_demonstrations, renderable_pairs
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.errors import DpoTuiError
from dpo_tui.paths import expanded
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
_PACKED_ROWS = 1000
"""Conversations that are tokenised to count packed sequences; TRL packs so many among themselves."""


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
        trained: usable pairs that are trained on, the others being held out; None when unknown. Demonstrations are
            counted as pairs are, with one sequence each; packed, their sequences are what is trained on.
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
    paths = [expanded(location) for location in config.datasets]
    try:
        if not all(path.exists() or is_pattern(str(path)) for path in paths):
            return PairSizes(basis="the dataset is not on this machine: steps are not counted")
        form = strategy_of(config).data
        if form is DataForm.LABELLED:
            return _labelled_sizes(config, tokenizer_folder)
        files = locate(training_source(config))
        file = files[0]
        size = sum(one.path.stat().st_size for one in files)
        small = size <= (_READ_WHOLE_PACKED_BYTES if any(one.packed for one in files) else _READ_WHOLE_BYTES)
        if small and form is DataForm.DEMONSTRATIONS:
            demonstrations = load_demonstrations(training_source(config)).rows
            return _demonstration_sizes(demonstrations, len(demonstrations), config, tokenizer_folder)
        if small:
            pairs = _accepted_by_template(load_pairs(training_source(config)).pairs, config, tokenizer_folder)
            trained = len(pairs) if config.has_evaluation_data else len(hold_out_pairs(pairs, config)[0])
            return replace(_measured(pairs, len(pairs), config, tokenizer_folder, whole=True), trained=trained)
        if len(files) > 1 or file.kind != "json" or file.packed:
            return PairSizes(basis="the dataset is large: steps are counted when training starts")
        with file.path.open("rb") as stream:
            lines = stream.read(_SAMPLE_BYTES).count(b"\n")
        rows = max(1, round(lines * size / _SAMPLE_BYTES))
        first = training_source(config.model_copy(update={"max_samples": min(rows, _SAMPLE_ROWS)}))
        rows = min(rows, config.max_samples) if config.max_samples else rows
        if form is DataForm.DEMONSTRATIONS:
            return _demonstration_sizes(load_demonstrations(first).rows, rows, config, tokenizer_folder)
        sample = load_pairs(first)
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


def _demonstration_sizes(
    rows: Sequence[Demonstration], count: int, config: Config, tokenizer_folder: Path | None
) -> PairSizes:
    """The same of demonstrations.

    Args:
        rows: those that were read.
        count: usable demonstrations of the whole data, counted or extrapolated.
        config: the run's settings.
        tokenizer_folder: None where the tokenizer is not here: packed sequences cannot be counted then.
    """
    whole = len(rows) == count
    if whole and tokenizer_folder is not None:
        located = config.model_copy(update={"model_name": str(tokenizer_folder), "model_revision": None})
        rows = renderable_demonstrations(rows, located, download=False)[0]
        count = len(rows)
    train = rows if config.has_evaluation_data or not whole else hold_out_demonstrations(rows, config)[0]
    trained = len(train) if whole else training_count(config, count)
    basis = f"{'' if whole else 'about '}{count:,} demonstrations"
    counter = _token_counter(tokenizer_folder, config)
    if counter is None and config.packing:
        what = "packing makes sequences by their tokens, and the model's tokenizer is not on this machine"
        return PairSizes(count, basis=f"{basis}: steps are not counted, since {what}")
    sample = train[:: max(1, len(train) // (_PACKED_ROWS if config.packing else _TOKENIZED_PAIRS))]
    if counter is None:
        characters = [len(row.text if row.text is not None else text_of(row.messages)) for row in sample]
        mean = sum(characters) / len(characters) / _CHARACTERS_PER_TOKEN
        return PairSizes(
            count, min(mean, config.max_seq_length), None, f"{basis}, tokens from characters (no tokenizer here)",
            trained=trained,
        )  # fmt: skip
    found = counter.demonstration_lengths(list(sample))
    lengths = [length for length in found if length is not None]
    if not lengths:
        return PairSizes(count, None, None, f"{basis}; the chat template refuses them")
    cut = [min(config.max_seq_length, length) for length in lengths]
    basis = f"{basis}, tokens counted on {len(lengths):,} of them"
    if not config.packing:
        longest = max(cut) if len(lengths) == len(train) and whole else None
        sequences = tuple((length, 0) for length in cut)
        return PairSizes(count, sum(cut) / len(cut), longest, basis, sequences, trained)
    strategy = str(config.trl.get("packing_strategy") or "bfd")
    kept = sum(cut if strategy == "bfd" else lengths)  # the other strategies leave no token out
    exact = len(lengths) == trained
    processes = (config.dataset_num_proc or 1) if exact else 1
    packed = packed_sequences(lengths, config.max_seq_length, strategy, processes)
    sequences_of_all = -(-packed * trained // len(lengths))
    basis = f"{basis}, packed into {'' if exact else 'about '}{sequences_of_all:,} sequences"
    return PairSizes(count, kept / packed, None, basis, trained=sequences_of_all)


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
