"""Delete an improvement with the groups and runs of its rounds, for the app and the CLI. Standard library only."""

from dpo_tui.errors import RunError
from dpo_tui.groups.group_removal import removal_of
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import groups_of
from dpo_tui.improve.improvement_store import remove_improvement
from dpo_tui.runs import run_lock


def remove_improvement_with_runs(folder: ImprovementFolder) -> int:
    """Delete an improvement; nothing of it is deleted while something of it runs.

    What stays of a group is what stays when the group is deleted by itself: `dpo_tui.groups.group_removal`.

    Returns:
        How many runs were deleted.

    Raises:
        RunError: it, or a training of it, is running, or something cannot be deleted.
    """
    hint = f"Stop it first: dpo-tui stop {folder.id}"
    if run_lock.owner(folder.lock) is not None:
        raise RunError(f"improvement {folder.id} is still running", hint=hint)
    try:
        removals = [removal_of(group) for group in groups_of(folder)]
    except RunError as error:
        raise RunError(f"improvement {folder.id}: its training is still running: {error.message}", hint=hint) from None
    # In this order: without the folder of the improvement or a group nothing would say which theirs were.
    for removal in removals:
        removal.carry_out()
    remove_improvement(folder)
    return sum(len(removal.runs) for removal in removals)
