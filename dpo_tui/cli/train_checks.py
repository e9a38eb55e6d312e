"""What the checks of a config found, in words, for `dpo-tui train`."""

from dpo_tui.cli.output import narrate
from dpo_tui.start.prepare import Prepared
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.printable import printable

_MOST_ROWS_NAMED = 5


def narrate_checks(prepared: Prepared, source: str) -> None:
    """Print what the checks of a config found: rows that cannot be used, settings that are unwise."""
    held_out = f", {prepared.held_out:,} of them held out" if prepared.held_out else ""
    counted = f"{prepared.usable:,} of {prepared.rows:,} rows can be used"
    if prepared.usable > prepared.rows:  # of a ranking, or of a pair as labelled answers, a row gives several
        counted = f"{prepared.rows:,} rows give {prepared.usable:,} {strategy_of(prepared.config).data.value}"
    narrate(f"{printable(source)}: {counted}{held_out}")
    unusable = [problem for problem in prepared.dropped if problem.check != "tie"]  # the notes count these
    for problem in unusable[:_MOST_ROWS_NAMED]:
        narrate(f"  {problem.label}: {printable(problem.message, single_line=True)}")
    if len(unusable) > _MOST_ROWS_NAMED:
        narrate(f"  and {len(unusable) - _MOST_ROWS_NAMED:,} more")
    for note in prepared.data_notes:
        narrate(f"data: {printable(note, single_line=True)}")
    for note in prepared.launcher_notes:
        narrate(f"slurm: {printable(note, single_line=True)}")
    for note in prepared.model_notes:
        narrate(f"model: {printable(note, single_line=True)}")
    for found in prepared.template:
        narrate(f"{found.severity}: {printable(found.sentence, single_line=True)}")
    for note in prepared.notes:
        narrate(f"profile: {note}")
    for advice in prepared.advice:
        narrate(f"{advice.severity}: {advice.message}")
