"""A sweep: one config with several values of some settings, each combination checked before anything starts."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig, load, parse_setting
from dpo_tui.config.schema import SECTIONS, Config
from dpo_tui.errors import ConfigError, DataError, UsageError
from dpo_tui.groups.group_plan import GroupMember, GroupPlan
from dpo_tui.groups.group_store import all_groups, group_name, member_names
from dpo_tui.groups.sweep_settings import WITHOUT_EFFECT
from dpo_tui.groups.sweep_values import label
from dpo_tui.runs import naming, store
from dpo_tui.start.checked_rows import CheckedRows, reading_key
from dpo_tui.start.earlier_run_model import PREVIOUS, ProgressCallback
from dpo_tui.start.prepare import Prepared, frozen, prepare
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.plain_documents import parse_toml

MOST_RUNS = 1000
"""Runs of one sweep at most; more take weeks, and are mostly a slip of the keyboard."""
_NUMBERS = 10
"""Characters of a run's name that its number in the group, and that of a group of the same name, may take."""
_NOT_SPLIT_BY = {"max_seq_length", "truncation_mode", "dataset_num_proc"}
"""Settings of [data] that do not decide which pairs are held out."""
_OPTION = "--sweep"
_EXAMPLE = "beta=0.05,0.1"


@dataclass(frozen=True)
class Sweep:
    """What a sweep varies.

    Args:
        values: of each setting, by its name, in the order in which they were given.
        random: how many combinations are tried, chosen at random; None for all.
    """

    values: dict[str, tuple[Any, ...]]
    random: int | None = None


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep that is ready to start.

    Attributes:
        plan: of its group; the id comes with the folder.
        members: the runs, in the order of the plan.
        possible: how many combinations there are, of which the members are all or some.
    """

    plan: GroupPlan
    members: tuple[Prepared, ...]
    possible: int
    configs: tuple[str, ...] = field(repr=False, default=())


def parse_sweep(assignments: Sequence[str], number: int | None = None) -> Sweep:
    """Read the options ``--sweep KEY=V,V…``.

    Args:
        assignments: their texts. Values are those of a TOML array; where that cannot be, plain texts between commas.
        number: of ``--random``.

    Raises:
        ConfigError: there is no ``=``, no such setting, or no value.
        UsageError: a setting or a value is named twice, has one value, or changes nothing.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for text in assignments:
        key, listed = parse_setting(text, _OPTION, _EXAMPLE)
        if key in values:
            raise UsageError(f"{_OPTION} {key} is given twice", hint=f"give its values together: {_OPTION} {key}=V,V,V")
        if why := WITHOUT_EFFECT.get(key):
            raise UsageError(f"{_OPTION} {key}: its values would all give the same model: {why}")
        values[key] = _values(key, listed)
    return Sweep(values, number)


def _values(key: str, listed: str) -> tuple[Any, ...]:
    try:
        found = parse_toml(f"values = [{listed}]")["values"]
    except ValueError:
        found = [_value(piece.strip()) for piece in listed.split(",")]
    if not found or "" in found:
        raise ConfigError(f"{_OPTION} {key}={listed}: a value is empty", hint=f"for example: {_OPTION} {_EXAMPLE}")
    if len(found) == 1:
        raise UsageError(
            f"{_OPTION} {key}={listed}: one value is nothing to compare",
            hint=f"give several, between commas; for one value in all runs: --set {key}={listed}",
        )
    # 1e-6 and 0.000001 are one value, and true is not 1.
    twice = next((one for place, one in enumerate(found) if any(_same(one, other) for other in found[:place])), None)
    if twice is not None:
        raise UsageError(f"{_OPTION} {key}={listed}: {twice} is given twice")
    return tuple(found)


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def combinations(sweep: Sweep, seed: int) -> tuple[list[dict[str, Any]], int]:
    """Return the combinations that are tried, and how many there are.

    Args:
        sweep: what varies. The first setting varies slowest, as in nested loops.
        seed: decides which ones ``--random`` takes, so that the same command makes the same runs.

    Raises:
        UsageError: there are too many.
    """
    possible = 1
    for values in sweep.values.values():
        possible *= len(values)
    wanted = possible if sweep.random is None else min(sweep.random, possible)
    if wanted > MOST_RUNS:
        raise UsageError(
            f"the sweep has {wanted:,} runs; {MOST_RUNS:,} are the most", hint="--random N takes N combinations of them"
        )
    if wanted == possible:
        chosen: Sequence[int] = range(possible)
    else:
        chosen = sorted(random.Random(seed).sample(range(possible), wanted))  # noqa: S311 - not for cryptography
    return [_combination(sweep.values, index) for index in chosen], possible


def _combination(values: dict[str, tuple[Any, ...]], index: int) -> dict[str, Any]:
    """The combination at an index: its digits in the mixed radix of the numbers of values."""
    found: dict[str, Any] = {}
    for name in reversed(values):
        index, place = divmod(index, len(values[name]))
        found[name] = values[name][place]
    return {name: found[name] for name in values}


def prepare_sweep(
    path: Path, sweep: Sweep, changes: dict[str, Any], *, name: str | None = None, **limits: Any
) -> PreparedSweep:
    """Check every combination of a sweep over a config file; see `prepare_combinations`.

    Args:
        path: the config file.
        sweep: what varies.
        changes: settings that override the file in all runs, as from ``--set``.
        name: of the group, if not the config's.
        **limits: as `prepare_combinations` takes them.

    Raises:
        UsageError: a setting is both swept and set, or its values change nothing.
        ConfigError: a combination cannot work; it is named.
        DataError: likewise.
    """
    if both := next((one for one in sweep.values if one in changes), None):
        raise UsageError(f"{both} is given with --set and with {_OPTION}", hint="keep one of them")
    return prepare_combinations(
        lambda values: load(path, changes | values), sweep, source=str(path), name=name, **limits
    )


def prepare_combinations(
    read: Callable[[dict[str, Any]], LoadedConfig],
    sweep: Sweep,
    *,
    source: str,
    name: str | None = None,
    at_most: int | None = None,
    not_before: float | None = None,
    early_stop: bool = False,
    argv: Sequence[str] = (),
    report: ProgressCallback = lambda message: None,
) -> PreparedSweep:
    """Check every combination of a sweep as a run of its own; nothing starts.

    Args:
        read: reads the config with these settings changed.
        sweep: what varies.
        source: what the config is called.
        name: of the group, if not the config's; its runs are called ``name-1``, ``name-2`` …
        at_most: as in `GroupPlan`, like the rest.
        not_before: likewise.
        early_stop: likewise.
        argv: likewise.
        report: called with the progress of a merge.

    Raises:
        UsageError: its values change nothing.
        ConfigError: a combination cannot work; it is named.
        DataError: likewise.
    """
    first = {setting: values[0] for setting, values in sweep.values.items()}
    with _named(first):
        base = read(first)  # and not the config alone, which may lack what is swept
    if base.config.model_name == PREVIOUS:
        raise UsageError(f'model_name = "{PREVIOUS}": a sweep has no stage before it', hint='use model_name = "run:ID"')
    _refuse_without_effect(base.config, sweep)
    tried, possible = combinations(sweep, base.config.seed)
    # Each combination's settings before the first one's data: a wrong value is found at once.
    loaded = []
    for values in tried:
        with _named(values):
            loaded.append(read(values))
            if early_stop:
                _require_accuracy(loaded[-1])
    if early_stop:
        _require_shared_pairs([one.config for one in loaded])
    rows, prepared = CheckedRows(), []
    for values, one in zip(tried, loaded, strict=True):
        with _named(values):
            prepared.append(prepare(one, name, rows=rows, report=report))
    # One name, one group: it is what commands take for GROUP, and its runs are found beside those of other groups.
    taken = {store.name_of(run) for run in store.all_runs()}
    for group in all_groups():
        taken |= {group_name(group), *member_names(group)}
    title = naming.numbered((prepared[0].config.name or "sweep")[: naming.LONGEST - _NUMBERS], taken)
    members, configs = [], []
    for number, (values, ready) in enumerate(zip(tried, prepared, strict=True), 1):
        run_name = f"{title}-{number}"
        run = frozen(replace(ready, config=ready.config.model_copy(update={"name": run_name})))
        configs.append(run.config_toml)
        members.append(
            GroupMember(
                number,
                run_name,
                values,
                reading_key(ready.config),
                list(run.devices),
                run.device_request,
                run.python,
                run.launcher,
                run.ranks,
                run.estimated_gb,
            )
        )
    plan = GroupPlan(
        "",
        title,
        created_at=time.time(),
        source=source,
        settings=list(sweep.values),
        members=tuple(members),
        at_most=at_most,
        not_before=not_before,
        early_stop=early_stop,
        argv=list(argv),
    )
    return PreparedSweep(plan, tuple(prepared), possible, tuple(configs))


@contextmanager
def _named(values: dict[str, Any]) -> Iterator[None]:
    """Context whose errors name the combination."""
    try:
        yield
    except (ConfigError, DataError, UsageError) as error:
        kind = next(one for one in (ConfigError, DataError, UsageError) if isinstance(error, one))
        said = f"with {label(values)}: {error.message}" if values else error.message
        raise kind(said, hint=error.hint) from None


def _refuse_without_effect(config: Config, sweep: Sweep) -> None:
    """Refuse settings that another setting of the config makes idle.

    Raises:
        UsageError: a setting that is swept changes nothing.
    """
    idle: dict[str, str] = {}
    if not config.use_lora and "use_lora" not in sweep.values:
        idle |= dict.fromkeys(set(SECTIONS["lora"].model_fields) - {"use_lora"}, "use_lora = false")
    if config.max_steps is not None and "max_steps" not in sweep.values:
        idle["num_train_epochs"] = f"max_steps = {config.max_steps}"
    if config.has_evaluation_data and "eval_dataset" not in sweep.values:
        idle["eval_split"] = "eval_dataset"
    for name in sweep.values:
        if name in idle:
            raise UsageError(f"{_OPTION} {name}: it changes nothing with {idle[name]}: every run would be the same")


def _require_accuracy(loaded: LoadedConfig) -> None:
    """Check that runs can be compared while they train.

    Raises:
        UsageError: they have no held-out accuracy.
    """
    config = loaded.config
    if not any(metric.name == "rewards/accuracies" for metric in strategy_of(config).judged_metrics):
        raise UsageError(f"--early-stop-worst compares held-out accuracy, which strategy = {config.strategy} has not")
    if config.eval_split == 0 and not config.has_evaluation_data:
        raise UsageError(
            "--early-stop-worst compares held-out accuracy, and nothing is held out",
            hint="set eval_split, or an eval_dataset",
        )


def _require_shared_pairs(configs: Sequence[Config]) -> None:
    """Check that any two runs hold out the same pairs.

    Raises:
        UsageError: none do, so that no run would ever be stopped.
    """
    split = [*(set(SECTIONS["data"].model_fields) - _NOT_SPLIT_BY), "eval_split", "seed"]
    separate = ["eval_dataset", "eval_dataset_config", "eval_dataset_split"]
    keys = {repr([getattr(one, name) for name in (separate if one.has_evaluation_data else split)]) for one in configs}
    if len(keys) == len(configs):
        raise UsageError(
            "--early-stop-worst compares runs on the same held-out pairs, and each of these runs holds out others",
            hint="name an eval_dataset, whose pairs are the same for all",
        )
