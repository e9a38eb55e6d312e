"""`estimate` as text: at most 80 columns, every figure with its unit."""

import textwrap

from dpo_tui.cli.estimate_answer import EstimateResult
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.memory_band import band_note, clock, parameters
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.printable import printable

_WIDTH = 80
_LABEL = 58
_VERDICTS = {
    "fits": "✓ fits",
    "tight": "! tight: it fits, with less than a tenth to spare",
    "does-not-fit": "✗ does not fit",
    "unknown": "? unknown: nothing tells how much memory is free (give --vram GB)",
}


def lines(answer: EstimateResult) -> list[str]:
    """The whole answer, line by line."""
    return [
        *_head(answer),
        "",
        *_parts(answer),
        "",
        *_verdict(answer),
        *_changes(answer),
        "",
        *_size(answer),
        *_notes(answer),
    ]


def _head(answer: EstimateResult) -> list[str]:
    config, strategy = answer.config, strategy_of(answer.config)
    weights = "4-bit" if config.use_4bit else "bf16" if config.bf16 and answer.device == "cuda" else "fp32"
    method = f"rank {config.lora_r}" if config.use_lora else "all weights"
    name = printable(config.model_name, single_line=True).rpartition("/")[2]
    what = [
        name,
        parameters(answer.arch.parameters),
        f"{strategy.title}, {weights}, {method}",
        f"{config.per_device_train_batch_size} × {config.gradient_accumulation_steps} {strategy.data.value}",
        f"{config.max_seq_length} tokens",
    ]
    return _wrapped(" · ".join(what))


def _parts(answer: EstimateResult) -> list[str]:
    rows = [_row(part.label, part.size) for part in answer.memory.parts]
    where = "GPU memory" if answer.device == "cuda" else "main memory (no GPU is used)"
    rows.append("─" * (_LABEL + 10))
    rows.append(_row(f"{where}, at its most: {answer.memory.peak.name}", answer.memory.total))
    if answer.free is not None:
        name = "free" if answer.device_name is not None else "free, as --vram says"
        rows.append(
            _row(f"{name}{f' on {answer.device_name}' if answer.device_name not in (None, 'cpu') else ''}", answer.free)
        )
    return rows


def _verdict(answer: EstimateResult) -> list[str]:
    found = _wrapped(_VERDICTS[answer.verdict])
    if answer.device == "cuda" and (note := band_note(answer.config, answer.arch, answer.memory)):
        found += _wrapped(note)
    return found


def _changes(answer: EstimateResult) -> list[str]:
    if not answer.changes:
        if answer.verdict == "does-not-fit":
            return ["", *_wrapped("No change of settings makes it fit; it needs a larger GPU.")]
        return []
    enough = [change for change in answer.changes if change.fits]
    if len(enough) == len(answer.changes):
        title = "Any one of these makes it fit:" if len(enough) > 1 else "This makes it fit:"
    elif enough:
        title = "These together make it fit:"
    else:
        title = "All of these together are not enough:"
    found = ["", title]
    for change in answer.changes:
        found += _wrapped(f"• {change.description}, saves {change.saves / GB:.1f} GB", indent="  ", hanging="    ")
        flags = " ".join(f"--set {name}={_value(value)}" for name, value in change.settings.items())
        found += _wrapped(flags, indent="    ", hanging="    ")
    return found


def _size(answer: EstimateResult) -> list[str]:
    steps, duration = answer.steps, answer.duration
    found = []
    if steps is not None:
        tokens = f", {steps.tokens:,} tokens" if steps.tokens else ""
        found += _wrapped(f"{steps.steps:,} steps{tokens} ({printable(answer.sizes.words)})")
    else:
        found += _wrapped(printable(answer.sizes.words).capitalize() + ".")
    if duration is not None:
        span = f"{clock(duration.low)} to {clock(duration.high)}"
        found += _wrapped(f"Time: about {clock(duration.seconds)} ({span}); {duration.basis}")
    return found


def _notes(answer: EstimateResult) -> list[str]:
    found: list[str] = []
    for note in [*answer.reasons, *answer.memory.notes]:
        found += _wrapped(f"· {printable(note, single_line=True)}", hanging="  ")
    for one in answer.earlier:
        if one.measured is None:
            continue
        guess = f", estimated {one.estimated / GB:.1f}" if one.estimated else ""
        words = (
            f"run {one.run} ({printable(one.device)}): measured {one.measured / GB:.1f} GB{guess}, without the context"
        )
        found += _wrapped(f"· {words}", hanging="  ")
    if not answer.earlier and answer.device == "cuda":
        found += _wrapped("· No run was measured on this machine yet; --probe measures one real step.", hanging="  ")
    return found


def _row(words: str, size: int) -> str:
    words = printable(words, single_line=True)
    if len(words) > _LABEL:
        words = words[: _LABEL - 1] + "…"
    return f"{words:<{_LABEL}} {size / GB:6.2f} GB"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    after = indent if hanging is None else hanging
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=after, break_on_hyphens=False) or [""]
