"""Groups as text, for `dpo-tui runs` and `dpo-tui status`."""

import time
from collections.abc import Sequence

from dpo_tui.cli.run_summary_text import clip, columns, fit, glyph
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_status import PLANNED, REFUSED, REMOVED, GroupStatus, MemberStatus
from dpo_tui.groups.sweep_values import label
from dpo_tui.text.durations import ago
from dpo_tui.text.printable import printable

_STATUS, _ID, _NAME = 10, 20, 16


def group_lines(folder: GroupFolder, status: GroupStatus, width: int) -> list[str]:
    """A group in a few lines: status, what it is, and a line for each of its runs."""
    plan = status.plan
    about = [f"{plan.kind} of {len(plan.members)} runs over {', '.join(plan.settings)}: {status.tally()}"]
    about += [status.reason] if status.reason else []
    about += [f"ended {ago(status.state.ended_at, time.time())}"] if status.state.ended_at else []
    rows = [*(printable(line, single_line=True) for line in about), *map(_member_line, status.members)]
    head = clip(f"{glyph(status.status)} {status.status} {plan.name} {folder.id}", width)
    return [head, *(cut(f"  {row}", width) for row in rows), f"  {printable(str(folder.path), single_line=True)}"]


def _member_line(one: MemberStatus) -> str:
    shown = "behind" if one.behind else one.status
    sign = {PLANNED: ".", REFUSED: "x", REMOVED: "-"}.get(one.status) or glyph(one.status)
    run = one.run.id if one.run is not None else ""
    reason = f"  {one.reason}" if one.reason and one.status not in ("done", "running") else ""
    return _row((f"{sign} {shown}", run, one.member.name, f"{label(one.member.values)}{reason}"), (_STATUS, _ID, _NAME))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells below each other; the last one takes the rest."""
    *heads, last = cells
    text = " ".join(fit(cell, width) for cell, width in zip(heads, widths, strict=True))
    return f"{text} {printable(last, single_line=True)}"


def group_next_steps(folder: GroupFolder, status: GroupStatus) -> list[str]:
    """The commands that make sense in the group's status, each with its purpose, one a line."""
    key = folder.id
    compare, stop = (f"dpo-tui compare {key}", "rank its runs"), (f"dpo-tui stop {key}", "stop all, with checkpoints")
    resume, pause = (f"dpo-tui resume {key}", "go on"), (f"dpo-tui queue pause {key}", "start no other run")
    left = any(one.status in ("stopped", "lost") and not one.behind for one in status.members)
    over = [compare] if status.status == "done" and not left else [resume, compare]
    choices = [compare, stop, pause] if status.live else over
    size = max(len(command) for command, _ in choices)
    return [f"  {command.ljust(size)}  {purpose}" for command, purpose in choices]


def cut(text: str, width: int) -> str:
    """A line of a table cut to a width, its blanks kept."""
    return text if columns(text) <= width else text[: width - 1] + "…"


def group_row(folder: GroupFolder, status: GroupStatus | str, width: int | None) -> str:
    """A group as one row above its runs in the list of runs.

    Args:
        folder: the group.
        status: its status, or why it cannot be read.
        width: columns of the terminal; None for a file or a pipe.
    """
    if isinstance(status, str):
        text = _row(("? unknown", folder.id, status), (_STATUS, _ID))
    else:
        about = f"{status.plan.name}  {status.plan.kind}: {status.tally()}"
        reason = f" · {status.reason}" if status.reason and status.status != "done" else ""
        text = _row((f"{glyph(status.status)} {status.status}", folder.id, f"{about}{reason}"), (_STATUS, _ID))
    return text if width is None else cut(text, width)
