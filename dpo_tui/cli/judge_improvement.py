"""`dpo-tui judge IMPROVEMENT`: a person's verdicts, as the judge of its rounds or to calibrate the one that it has."""

import textwrap

import click

from dpo_tui.cli.manual_ranking import read_key, show_answers
from dpo_tui.cli.output import narrate
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import improvement_status
from dpo_tui.improve.person_verdicts import PERSON, asked_pairs, calibration_of, record_verdict
from dpo_tui.improve.report.write_report import rewrite_report
from dpo_tui.judging.judges.judge import Side

_KEYS: dict[str, Side] = {"l": "left", "r": "right", "t": "tie"}
_HELP = "l left is better · r right is better · t as good as each other · q quit, verdicts are kept"


def judge_improvement(folder: ImprovementFolder) -> None:
    """Ask for verdicts until none is wanted, or the person quits; each is kept at once.

    Raises:
        RunError: the improvement cannot be read.
    """
    status = improvement_status(folder)
    asked = asked_pairs(folder, status.plan)
    if not asked:
        narrate("Nothing waits for your verdict now.")
    else:
        narrate(_HELP)
    for place, one in enumerate(asked, 1):
        show_answers(f"{place} of {len(asked)}", one.pair.prompt, one.pair.left, one.pair.right)
        key = read_key({*_KEYS, "q"}, _HELP)
        if key == "q":
            break
        record_verdict(folder, one, _KEYS[key])
    if status.plan.judge.get("kind") == PERSON:
        return
    found = calibration_of(folder, status.plan)
    if found is not None:
        click.echo(textwrap.fill(found.summary(), 80))
        rewrite_report(folder)
