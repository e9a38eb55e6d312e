"""What a sweep is: its values, their combinations, their checks before anything starts, and the frozen plan."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli.sweep_command import start_time
from dpo_tui.config.files import load
from dpo_tui.errors import ConfigError, DpoTuiError, RunError, UsageError
from dpo_tui.groups.group_folder import GroupFolder
from dpo_tui.groups.group_plan import GroupMember, GroupPlan, read_plan
from dpo_tui.groups.group_removal import removal_of
from dpo_tui.groups.group_state import GroupState, read_group_state
from dpo_tui.groups.group_status import group_status, member_status
from dpo_tui.groups.group_store import all_groups, create_group, find, find_run, groups_home
from dpo_tui.groups.sweep import Sweep, combinations, parse_sweep, prepare_sweep
from dpo_tui.groups.sweep_values import label
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import write_json_atomic
from dpo_tui.runs.devices import DeviceRequest
from dpo_tui.runs.frozen_config import read_settings
from dpo_tui.runs.frozen_run import create_frozen
from dpo_tui.start import checked_rows
from tests.support.command_line import CommandLine, command_line
from tests.support.supervised_runs import edit_state, supervised


@pytest.fixture(name="dpo_tui")
def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def config(tmp_path: Path, home: Path, tiny_model: Path, tiny_pairs: Path) -> Path:
    values = {"model_name": str(tiny_model), "dataset": str(tiny_pairs), "name": "tiny", "gpus": "none"}
    path = tmp_path / "c.toml"
    path.write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()) + "max_seq_length = 128\n"
    )
    return path


def test_values_are_those_of_a_toml_array_or_plain_texts() -> None:
    assert parse_sweep(["beta=0.05, 1e-1", "training.learning_rate=1e-6,5e-6"]).values == {
        "beta": (0.05, 0.1),
        "learning_rate": (1e-6, 5e-6),
    }
    assert parse_sweep(["loss_type=sigmoid,ipo", "use_lora=true,false"]).values == {
        "loss_type": ("sigmoid", "ipo"),
        "use_lora": (True, False),
    }
    assert parse_sweep(['lora_target_modules=["q_proj"],["q_proj","v_proj"]']).values == {
        "lora_target_modules": (["q_proj"], ["q_proj", "v_proj"])
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["beta"], "expected KEY=VALUE"),
        (["betta=1,2"], "did you mean beta"),
        (["beta=0.1"], "one value is nothing to compare"),
        (["beta=0.1,"], "one value is nothing to compare"),
        (["beta="], "a value is empty"),
        (["beta=x,,y"], "a value is empty"),
        (["beta=0.1,0.2,1e-1"], "0.1 is given twice"),
        (["beta=0.1,0.2", "dpo.beta=0.3,0.4"], "--sweep beta is given twice"),
        (["name=a,b"], "would all give the same model"),
        (["gpus=0,1"], "says where and how fast"),
    ],
)
def test_what_is_no_sweep_is_refused_in_words(given: list[str], words: str) -> None:
    with pytest.raises(DpoTuiError, match=words) as refused:
        parse_sweep(given)
    assert refused.value.exit_code == 2


def test_the_first_setting_varies_slowest_and_a_random_choice_is_always_the_same() -> None:
    sweep = Sweep({"a": (1, 2), "b": (1, 2, 3)})
    tried, possible = combinations(sweep, seed=0)
    assert possible == 6
    assert [(one["a"], one["b"]) for one in tried] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    some = [combinations(Sweep(sweep.values, 3), seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert some[0] == some[1] and len({str(one) for one in some}) > 1
    assert all(len(one) == 3 and all(item in tried for item in one) for one in some)
    assert combinations(Sweep(sweep.values, 50), seed=0)[0] == tried
    with pytest.raises(UsageError, match="10,000 runs; 1,000 are the most"):
        combinations(Sweep({name: tuple(range(10)) for name in "abcd"}), seed=0)


def test_every_combination_is_checked_before_anything_starts_and_the_wrong_one_is_named(
    config: Path, dpo_tui: CommandLine
) -> None:
    code, out, err = dpo_tui("train", str(config), "--sweep", "beta=0.1,-1", "--sweep", "learning_rate=1e-6,5e-6")
    assert (code, out) == (2, "")
    assert "with beta=-1 learning_rate=1e-06" in err and "greater than 0" in err
    code, _, err = dpo_tui("train", str(config), "--sweep", "load_best=none,margin", "--set", "eval_split=0")
    assert code == 2 and "with load_best=margin" in err
    code, _, err = dpo_tui("train", str(config), "--sweep", "max_seq_length=128,9")
    assert code == 2 and "with max_seq_length=9" in err
    assert (all_groups(), store.all_runs()) == ([], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sweep", "beta=0.1,0.2", "--set", "beta=0.3"), "given with --set and with --sweep"),
        (("--sweep", "num_train_epochs=1,2", "--set", "max_steps=3"), "changes nothing with max_steps = 3"),
        (("--sweep", "lora_r=4,8", "--set", "use_lora=false"), "changes nothing with use_lora = false"),
        (("--at-most", "2"), "--at-most is for a sweep"),
        (("--random", "2"), "--random is for a sweep"),
        (("--early-stop-worst",), "--early-stop-worst is for a sweep"),
        (("--sweep", "beta=0.1,0.2", "--after", "noon"), "not a time"),
        (("--sweep", "beta=0.1,0.2", "--early-stop-worst", "--set", "eval_split=0"), "nothing is held out"),
        (("--sweep", "lora_r=4,8", "--early-stop-worst", "--set", "strategy=sft"), "strategy = sft has not"),
        (("--sweep", "seed=1,2", "--early-stop-worst"), "each of these runs holds out others"),
    ],
)
def test_options_that_cannot_work_are_refused(
    config: Path, dpo_tui: CommandLine, options: tuple[str, ...], words: str
) -> None:
    code, out, err = dpo_tui("train", str(config), *options)
    assert (code, out) == (2, "") and words in err


def test_the_plan_is_shown_and_a_dry_run_starts_nothing(config: Path, dpo_tui: CommandLine) -> None:
    command = ("train", str(config), "--sweep", "beta=0.1,0.2", "--sweep", "learning_rate=1e-6,5e-6", "--random", "3")
    code, out, err = dpo_tui(*command, "--dry-run", "--after", "2h")
    assert (code, out, all_groups()) == (0, "", [])
    assert "sweep tiny: 3 runs of 4 combinations, chosen at random by the seed" in err
    assert "on the processor, one at a time" in err and "of training a run" in err and "starts no run before" in err


def test_data_are_read_once_for_all_runs_that_read_the_same(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = checked_rows.split_of

    def counted(*arguments: Any, **options: Any) -> Any:
        reads.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(checked_rows, "split_of", counted)
    four = parse_sweep(["beta=0.1,0.2", "learning_rate=1e-6,5e-6"])
    members = prepare_sweep(config, four, {}).plan.members
    assert len(members) == 4 and len(reads) == 1 and len({one.reads for one in members}) == 1
    members = prepare_sweep(config, parse_sweep(["beta=0.1,0.2", "seed=1,2"]), {}).plan.members
    assert len(reads) == 3, "the seed chooses what is held out"
    assert len({one.reads for one in members}) == 2


def test_members_are_frozen_whole_and_a_name_is_one_groups(config: Path) -> None:
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {"max_steps": 7}, at_most=2, argv=["x"])
    group = create_group(ready.plan, ready.configs)
    settings = [read_settings(group.member_config(number)) for number in (1, 2)]
    assert [(one["beta"], one["max_steps"], one["name"]) for one in settings] == [
        (0.05, 7, "tiny-1"),
        (0.1, 7, "tiny-2"),
    ]
    plan = read_plan(group)
    assert (plan.members, plan.at_most, plan.settings) == (ready.plan.members, 2, ["beta"])
    assert plan.bound == 1, "on the processor one at a time, whatever is allowed"
    assert find("tiny") == group == find(group.id[:-2])
    with pytest.raises(DpoTuiError, match="is a group of runs"):
        find_run("tiny")
    again = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {})
    assert (again.plan.name, again.plan.members[0].name) == ("tiny-3", "tiny-3-1"), "tiny-2 is a run to come"


def test_the_longest_name_and_a_setting_that_the_file_lacks_can_be_swept(config: Path, tiny_model: Path) -> None:
    config.write_text(config.read_text().replace(f"model_name = {json.dumps(str(tiny_model))}\n", ""))
    models = json.dumps([str(tiny_model), f"{tiny_model}/."])[1:-1]
    for _ in range(2):
        ready = prepare_sweep(config, parse_sweep([f"model_name={models}"]), {}, name="n" * 64)
        group = create_group(ready.plan, ready.configs)
        assert [len(load(group.member_config(number)).config.name or "") for number in (1, 2)] <= [64, 64]
    assert ready.plan.name.endswith("-3")


def test_a_time_to_start_is_a_time_of_day_a_wait_or_a_date() -> None:
    noon = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
    assert start_time("22:30", noon) == noon + 10.5 * 3600
    assert start_time("11:00", noon) == noon + 23 * 3600, "tomorrow's"
    assert (start_time("90m", noon), start_time("2h", noon)) == (noon + 5400, noon + 7200)
    assert start_time("2026-11-27T13:00", noon) == noon + 3600
    with pytest.raises(UsageError, match="that is past"):
        start_time("2026-11-27T11:00", noon)
    for distant in ("9999999999d", "9" * 400 + "h", "2028-11-27T11:00"):
        with pytest.raises(UsageError, match="more than a year away"):
            start_time(distant, noon)


def test_one_more_run_than_fits_waits_in_the_queue() -> None:
    request = DeviceRequest(("gpu:0", "gpu:1", "gpu:2", "gpu:3"), 2)
    members = tuple(GroupMember(number, "", {}, device_request=request) for number in range(1, 9))
    assert GroupPlan("", "", members=members).bound == 3
    assert GroupPlan("", "", members=members, at_most=1).bound == 1
    jobs = (GroupMember(1, "", {}, launcher="slurm"),) * 40
    assert GroupPlan("", "", members=jobs).bound == 16
    assert [GroupPlan("", "", members=jobs, at_most=number).bound for number in (2, 40)] == [2, 40]


HOSTILE = [
    "",
    "[]",
    "{}",
    "{" * 50_000,
    '{"id": 5, "name": [], "members": []}',
    '{"id": "x", "name": "y", "members": "all"}',
    '{"id": "x", "name": "y", "members": [null]}',
    '{"id": "x", "name": "y", "members": [{"number": "1", "name": "", "values": {}}]}',
    '{"id": "x", "name": "y", "members": [{"number": 2, "name": "", "values": {}}]}',
    '{"id": "x", "name": "y", "members": [{"number": 1, "name": "", "values": {}, "device_request": {"count": 3}}]}',
    '{"id": "x", "name": "\\u001b[31m", "members": [], "at_most": 1e400}',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_wrong_plan_makes_that_group_unreadable_and_harms_no_list(
    config: Path, dpo_tui: CommandLine, text: str
) -> None:
    good = create_group(*_planned(config))
    bad = GroupFolder(groups_home() / "20260101-000000-0000")
    bad.path.mkdir()
    bad.plan.write_text(text)
    with pytest.raises(RunError, match=bad.id):
        read_plan(bad)
    code, out, _ = dpo_tui("runs")
    assert code == 0 and good.id in out and "unknown" in out and "\x1b" not in out
    for command in (("status",), ("stop",), ("resume",), ("compare",)):
        code, _, err = dpo_tui(*command, bad.id)
        assert code == 1 and bad.id in err and "Traceback" not in err
    assert dpo_tui("runs", "--groups", "--json")[0] == 0
    assert dpo_tui("rm", "-y", bad.id)[0] == 0 and not bad.path.exists() and good.path.exists()


@pytest.mark.parametrize(
    "text", ['{"runs": []}', '{"runs": {"1": 5}}', '{"status": 7}', '{"driver_pid": "x"}', '{"behind": {"1": null}}']
)
def test_a_wrong_state_is_named_and_a_torn_one_is_that_of_a_group_that_has_not_begun(config: Path, text: str) -> None:
    group = create_group(*_planned(config))
    group.state.write_text(text)
    with pytest.raises(RunError, match="is not a group's state"):
        read_group_state(group)
    group.state.write_text('{"runs": ')
    assert read_group_state(group).runs == {}


def test_a_group_whose_state_is_lost_finds_its_runs_and_is_deleted_with_them(
    config: Path, dpo_tui: CommandLine
) -> None:
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {})
    group = create_group(ready.plan, ready.configs)
    belongs = {"id": group.id, "kind": "sweep", "member": 1, "values": {}}
    run = create_frozen(ready.plan.members[0].frozen(group), "tiny-1", group=belongs)
    stranger = create_frozen(ready.plan.members[0].frozen(group), "tiny-1")
    group.state.write_text("garb")
    status = group_status(group)
    assert (status.runs, status.reason) == ([run], "its state.json is missing or torn")
    assert dpo_tui("rm", "-y", group.id)[0] == 0
    assert store.all_runs() == [stranger]


def test_a_member_whose_state_cannot_be_read_spoils_no_ranking_and_is_deleted_if_its_config_is_the_groups(
    config: Path, dpo_tui: CommandLine
) -> None:
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1,0.2"]), {})
    group = create_group(ready.plan, ready.configs)
    own, other, whole = (
        create_frozen(
            one.frozen(group), one.name, group={"id": group.id, "kind": "sweep", "member": one.number, "values": {}}
        )
        for one in ready.plan.members
    )
    runs = {"1": own.id, "2": other.id, "3": whole.id}
    write_json_atomic(group.state, (GroupState(status="done", driver_pid=1, runs=runs)).to_dict())
    for run in (own, other):
        run.state.write_text('{"status": "banana"}')
    other.config.write_text("beta = 7.0\n")
    whole.metrics.write_text('{"step": 2, "eval_rewards/accuracies": 0.75}\n')
    code, out, err = dpo_tui("compare", group.id)
    assert code == 0, err
    assert "0.75" in out and "Left out, since what is recorded of it cannot be read: tiny-1, tiny-2." in out
    edit_state(whole, status="done")
    code, _, err = dpo_tui("rm", "-y", group.id)
    assert code == 0 and "and its 2 runs" in err
    assert err.splitlines()[-1].startswith("Kept, since their states") and err.splitlines()[-1].endswith(other.id)
    assert store.all_runs() == [other]


def test_a_group_whose_driver_was_killed_is_not_deleted_by_halves_while_a_run_lives(config: Path) -> None:
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {})
    group = create_group(ready.plan, ready.configs)
    runs = [
        create_frozen(
            one.frozen(group), one.name, group={"id": group.id, "kind": "sweep", "member": one.number, "values": {}}
        )
        for one in ready.plan.members
    ]
    edit_state(runs[0], status="done")
    with supervised(runs[1]), pytest.raises(RunError, match="is still running"):
        removal_of(group)
    assert sorted(run.id for run in store.all_runs()) == sorted(run.id for run in runs)


def test_an_unreadable_member_with_a_supervisor_is_not_over(config: Path) -> None:
    """Else another run would be started beside it, on the same GPU."""
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {})
    group = create_group(ready.plan, ready.configs)
    run = create_frozen(ready.plan.members[0].frozen(group), "tiny-1")
    run.state.write_text('{"status": "banana"}')
    state = GroupState(runs={"1": run.id})
    with supervised(run):
        one = member_status(ready.plan.members[0], state, group.id)
        assert (one.status, one.live, one.over, one.failed) == ("unknown", True, False, False)
    one = member_status(ready.plan.members[0], state, group.id)
    assert (one.live, one.over, one.failed) == (False, True, True)


def test_values_that_differ_are_never_shown_alike() -> None:
    assert label({"beta": 0.1234567}) == "beta=0.1234567" and label({"beta": 0.1234568}) == "beta=0.1234568"
    assert label({"learning_rate": 5e-7, "beta": 1.0, "seed": 3}) == "learning_rate=5e-07 beta=1 seed=3"


def test_a_newer_group_is_left_alone(config: Path, dpo_tui: CommandLine) -> None:
    group = create_group(*_planned(config))
    group.plan.write_text('{"version": 2}')
    code, _, err = dpo_tui("status", group.id)
    assert code == 1 and "written by a newer dpo-tui" in err


def test_groups_are_completed_where_they_are_taken(config: Path) -> None:
    from click.shell_completion import CompletionItem

    from dpo_tui.cli.run_argument import RUN, RUN_OR_GROUP

    group = create_group(*_planned(config))
    nothing: Any = None

    def proposed(items: list[CompletionItem]) -> list[str]:
        return [item.value for item in items]

    assert proposed(RUN_OR_GROUP.shell_complete(nothing, nothing, "")) == [group.id, "tiny"]
    assert proposed(RUN.shell_complete(nothing, nothing, "")) == []


def _planned(config: Path) -> tuple[GroupPlan, tuple[str, ...]]:
    ready = prepare_sweep(config, parse_sweep(["beta=0.05,0.1"]), {})
    return ready.plan, ready.configs


def test_an_empty_value_is_not_taken_for_a_text() -> None:
    with pytest.raises(ConfigError, match="a value is empty"):
        parse_sweep(["loss_type=sigmoid,,ipo"])
