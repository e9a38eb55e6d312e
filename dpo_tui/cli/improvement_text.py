"""Improvements as text, for `dpo-tui runs` and `dpo-tui status`."""

import time

from dpo_tui.cli.group_text import cut
from dpo_tui.cli.run_summary_text import clip, glyph
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import ImprovementStatus, groups_of
from dpo_tui.improve.report.report_figures import complete_rounds
from dpo_tui.improve.report.report_markdown import rate_text
from dpo_tui.improve.round_figures import round_figures
from dpo_tui.improve.round_verdicts import AGAINST_START, JUDGE
from dpo_tui.text.durations import ago
from dpo_tui.text.printable import printable


def improvement_lines(folder: ImprovementFolder, status: ImprovementStatus, width: int) -> list[str]:
    """An improvement in a few lines: status, what it does now, a line for each complete round, what can be done."""
    head = clip(f"{glyph(status.status)} {status.status} {status.plan.name} {folder.id}", width)
    about = [line for line in (status.reason, status.progress) if line]
    about += [f"ended {ago(status.state.ended_at, time.time())}"] if status.state.ended_at else []
    rounds = [_round_line(folder, status, number) for number in complete_rounds(folder, status.plan)]
    groups = groups_of(folder)
    if status.live and len(groups) > len(rounds):
        rounds.append(f"round {len(rounds) + 1} trains as group {groups[-1].id}")
    rows = [printable(line, single_line=True) for line in (*about, *rounds)]
    return [
        head,
        *(cut(f"  {row}", width) for row in rows),
        f"  {printable(str(folder.path), single_line=True)}",
        *_next_steps(folder, status),
    ]


def improvement_row(folder: ImprovementFolder, status: ImprovementStatus | str, width: int | None) -> str:
    """An improvement as one row in the list of runs.

    Args:
        folder: the improvement.
        status: its status, or why it cannot be read.
        width: columns of the terminal; None for a file or a pipe.
    """
    if isinstance(status, str):
        text = f"? unknown  {folder.id} {status}"
    else:
        done = len(complete_rounds(folder, status.plan))
        tail = status.progress or (status.reason if status.status != "done" else "")
        about = f"{status.plan.name}  improvement: {done} of {status.plan.rounds} rounds{f' · {tail}' if tail else ''}"
        text = f"{glyph(status.status)} {status.status:<8} {folder.id} {about}"
    text = printable(text, single_line=True)
    return text if width is None else cut(text, width)


def _round_line(folder: ImprovementFolder, status: ImprovementStatus, number: int) -> str:
    figures = round_figures(folder, status.plan, number)
    rate = rate_text(figures["wins"][JUDGE][AGAINST_START])
    kl = "" if figures["kl"] is None else f"  KL {figures['kl']:z.2f}"
    return f"round {number}: {figures['counts'].get('pairs', 0)} pairs  {rate} over the start{kl}  run {figures['run']}"


def _next_steps(folder: ImprovementFolder, status: ImprovementStatus) -> list[str]:
    key = folder.id
    if status.live:
        return [f"  dpo-tui stop {key}    stop it; a training saves a checkpoint"]
    steps = [] if status.status == "done" else [f"  dpo-tui resume {key}  go on"]
    if folder.report.exists():
        steps.append(f"  its report: {printable(str(folder.report), single_line=True)}")
    return steps
