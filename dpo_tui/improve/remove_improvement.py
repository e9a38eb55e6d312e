"""Delete an improvement with the groups and runs of its rounds, for the app and the CLI. Standard library only."""

from dpo_tui.errors import RunError
from dpo_tui.groups.group_status import group_status
from dpo_tui.groups.group_store import remove_group
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_status import groups_of
from dpo_tui.improve.improvement_store import remove_improvement
from dpo_tui.runs import run_lock, store


def remove_improvement_with_runs(folder: ImprovementFolder) -> int:
    """Delete an improvement; nothing of it is deleted while something of it runs.

    The runs of a group whose files cannot be read are not known, and stay.

    Returns:
        How many runs were deleted.

    Raises:
        RunError: it, or a training of it, is running, or something cannot be deleted.
    """
    hint = f"Stop it first: dpo-tui stop {folder.id}"
    if run_lock.owner(folder.lock) is not None:
        raise RunError(f"improvement {folder.id} is still running", hint=hint)
    groups, runs = groups_of(folder), []
    for group in groups:
        try:
            status = group_status(group)
        except RunError:
            continue
        if status.live or any(one.live for one in status.members):
            raise RunError(f"improvement {folder.id}: its training, group {group.id}, is still running", hint=hint)
        runs += [run for run in status.runs if run.path.is_dir()]
    # In this order: without the folder of the improvement or a group nothing would say which theirs were.
    for run in runs:
        store.remove(run)
    for group in groups:
        remove_group(group)
    remove_improvement(folder)
    return len(runs)
