"""The result of `dpo-tui estimate` as text of at most 80 columns."""

import textwrap

from dpo_tui.cli.estimate_result import EstimateResult
from dpo_tui.hardware.memory.expected_range import expected_range_note
from dpo_tui.hardware.memory.memory_estimate import GB
from dpo_tui.hardware.memory.weights import packed_while_loading
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.durations import rough_duration
from dpo_tui.text.numbers import parameter_count
from dpo_tui.text.printable import printable

_WIDTH = 80
_LABEL_COLUMNS = 58
"""Weights from which on their number is given in billions."""
_VERDICTS = {
    "fits": "✓ fits",
    "tight": "! tight: it fits, with less than a tenth to spare",
    "does-not-fit": "✗ does not fit",
    "unknown": "? unknown: nothing tells how much memory is free (give --vram GB)",
}


def result_lines(result: EstimateResult) -> list[str]:
    """Lay out a result: configuration, memory by part, verdict and changes, then steps, time and notes."""
    return [
        *_configuration(result),
        "",
        *_parts(result),
        "",
        *_verdict(result),
        *_changes(result),
        "",
        *_steps_and_time(result),
        *_notes(result),
    ]


def _configuration(result: EstimateResult) -> list[str]:
    config, strategy = result.config, strategy_of(result.config)
    stored, loaded = result.arch.quantisation, packed_while_loading(config, result.arch)
    weights = (
        stored.title
        if stored
        else "4-bit"
        if config.use_4bit
        else loaded.short_title
        if loaded
        else "fp16"
        if config.fp16 and result.device == "cuda"
        else "bf16"
        if config.bf16 and result.device == "cuda"
        else "fp32"
    )
    method = f"rank {config.lora_r}" if config.use_lora else "all weights"
    name = printable(config.model_name, single_line=True).rpartition("/")[2]
    what = [
        name,
        _size(result.arch),
        f"{strategy.title}, {weights}, {method}",
        f"{config.batch_text}{f' = {config.effective_batch}' if config.world_size > 1 else ''} {strategy.data.value}",
        f"{config.max_seq_length} tokens",
    ]
    return _wrapped(" · ".join(what))


def _size(arch: Architecture) -> str:
    """The number of weights; with experts, also of those that one token passes through."""
    size = f"{'about ' if arch.guessed else ''}{parameter_count(arch.parameters)}"
    if not arch.has_experts:
        return size
    return f"{size} ({parameter_count(arch.active_parameters)} active)"


def _parts(result: EstimateResult) -> list[str]:
    rows = [_row(part.label, part.size) for part in result.memory.parts]
    where = "GPU memory" if result.device == "cuda" else "main memory (no GPU is used)"
    if result.config.world_size > 1:
        kind = "GPU" if result.device == "cuda" else "main"
        where = f"{kind} memory of each of {result.config.world_size}"
    rows.append("─" * (_LABEL_COLUMNS + 10))
    rows.append(_row(f"{where}, at its most: {result.memory.peak.name}", result.memory.total))
    if result.free is not None:
        name = "free" if result.device_name is not None else "free, as --vram says"
        if result.config.world_size > 1 and result.device == "cpu":
            name = "free for each process"
        rows.append(
            _row(f"{name}{f' on {result.device_name}' if result.device_name not in (None, 'cpu') else ''}", result.free)
        )
    return rows


def _verdict(result: EstimateResult) -> list[str]:
    lines = _wrapped(_VERDICTS[result.verdict])
    if result.device == "cuda" and (note := expected_range_note(result.config, result.arch, result.memory)):
        lines += _wrapped(note)
    return lines


def _changes(result: EstimateResult) -> list[str]:
    if not result.changes:
        if result.verdict == "does-not-fit":
            return ["", *_wrapped("No change of settings makes it fit; it needs a larger GPU.")]
        return []
    enough = [change for change in result.changes if change.fits]
    if len(enough) == len(result.changes):
        title = "Any one of these makes it fit:" if len(enough) > 1 else "This makes it fit:"
    elif enough:
        title = "These together make it fit:"
    else:
        title = "All of these together are not enough:"
    lines = ["", title]
    for change in result.changes:
        lines += _wrapped(f"• {change.description}, saves {change.saves / GB:.1f} GB", indent="  ", hanging="    ")
        flags = " ".join(f"--set {name}={_assigned_value(value)}" for name, value in change.settings.items())
        lines += _wrapped(flags, indent="    ", hanging="    ")
    return lines


def _steps_and_time(result: EstimateResult) -> list[str]:
    steps, duration = result.steps, result.duration
    lines = []
    if steps is not None:
        tokens = f", {steps.tokens:,} tokens" if steps.tokens else ""
        lines += _wrapped(f"{steps.steps:,} steps{tokens} ({printable(result.sizes.basis)})")
    else:
        lines += _wrapped(printable(result.sizes.basis).capitalize() + ".")
    if duration is not None:
        span = f"{rough_duration(duration.low)} to {rough_duration(duration.high)}"
        lines += _wrapped(f"Time: about {rough_duration(duration.seconds)} ({span}); {duration.basis}")
    return lines


def _notes(result: EstimateResult) -> list[str]:
    lines: list[str] = []
    for note in [*result.reasons, *result.memory.notes]:
        lines += _wrapped(f"· {printable(note, single_line=True)}", hanging="  ")
    for one in result.earlier:
        if one.measured is None:
            continue
        guess = f", estimated {one.estimated / GB:.1f}" if one.estimated else ""
        text = (
            f"run {one.run} ({printable(one.device)}): measured {one.measured / GB:.1f} GB{guess}, without the context"
        )
        lines += _wrapped(f"· {text}", hanging="  ")
    if not result.earlier and result.device == "cuda":
        lines += _wrapped("· No run was measured on this machine yet; --probe measures one real step.", hanging="  ")
    return lines


def _row(label: str, size: int) -> str:
    label = printable(label, single_line=True)
    if len(label) > _LABEL_COLUMNS:
        label = label[: _LABEL_COLUMNS - 1] + "…"
    return f"{label:<{_LABEL_COLUMNS}} {size / GB:6.2f} GB"


def _assigned_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    after = indent if hanging is None else hanging
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=after, break_on_hyphens=False) or [""]
