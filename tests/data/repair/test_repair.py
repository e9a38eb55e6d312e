"""A repair never touches the input, says what it did, and does it the same way twice."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli.inspect import inspect
from dpo_tui.data.load_labelled import load_labelled
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.repair.repair import Repaired, repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.repair.row_forms import LABELLED_ANSWERS, Edit
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError, UsageError
from tests.support.data_files import NO_CLEAR_WINNER, TOO_SIMILAR, assistant, row, rows, user, write_lines

pytestmark = pytest.mark.usefixtures("home")


def repaired(path: Path, out: Path, plan: RepairPlan, **options: Any) -> Repaired:
    source = Source(str(path), **options)
    if plan.drop_checks:
        scan(ScanRequest(source, workers=1), lambda _event: None)
    return repair(source, plan, out)


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_dropped_by_check_and_the_sidecar_says_which(tmp_path: Path) -> None:
    records = [row(0), TOO_SIMILAR, row(1), row(0), NO_CLEAR_WINNER, {"prompt": "p"}, row(2)]
    path, out = write_lines(tmp_path / "in.jsonl", records), tmp_path / "out.jsonl"
    before = path.read_bytes()
    done = repaired(path, out, RepairPlan(drop_checks=("too-similar", "no-clear-winner", "duplicate-pair")))
    assert documents(out) == [row(0), row(1), row(2)]
    assert (done.written, done.left_out, done.changed) == (3, 4, 0)
    recorded = [(one["row"], one["reason"].split(":")[0]) for one in documents(done.sidecar) if "row" in one]
    assert recorded == [(2, "too-similar"), (4, "duplicate-pair"), (5, "no-clear-winner"), (6, "missing-field")]
    assert path.read_bytes() == before


def test_the_same_repair_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [*rows(30), TOO_SIMILAR, *rows(5)])
    plan = RepairPlan(drop_checks=("too-similar", "duplicate-pair"), hold_out=0.2)
    contents = []
    for _ in range(2):
        repaired(path, tmp_path / "out.jsonl", plan)
        names = ("out.jsonl", "out.eval.jsonl", "out.jsonl.repair.jsonl")
        contents.append([(tmp_path / name).read_bytes() for name in names])
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "in.jsonl", "out.eval.jsonl", "out.jsonl", "out.jsonl.repair.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mask", "before", "after"),
    [(0o077, 0o600, 0o600), (0o022, 0o600, 0o600), (0o077, 0o644, 0o600), (0o022, 0o664, 0o644)],
)
def test_what_is_written_may_be_read_by_nobody_else_than_the_input(
    tmp_path: Path, mask: int, before: int, after: int
) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", rows(20)), tmp_path / "out.jsonl"
    path.chmod(before)
    earlier = os.umask(mask)
    try:
        done = repaired(path, out, RepairPlan(hold_out=0.2))
    finally:
        os.umask(earlier)
    made = [out, out.with_name("out.eval.jsonl"), done.sidecar]
    assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [after] * 3


def test_repairing_what_is_repaired_changes_nothing(tmp_path: Path) -> None:
    checks = ("too-similar", "no-clear-winner", "duplicate-pair", "contradicting-pair")
    flipped = row(3) | {"chosen": row(3)["rejected"], "rejected": row(3)["chosen"]}
    path = write_lines(tmp_path / "in.jsonl", [*rows(9), TOO_SIMILAR, *rows(4), flipped, NO_CLEAR_WINNER])
    repaired(path, tmp_path / "once.jsonl", RepairPlan(drop_checks=checks))
    done = repaired(tmp_path / "once.jsonl", tmp_path / "twice.jsonl", RepairPlan(drop_checks=checks))
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()
    assert (done.left_out, done.changed) == (0, 0)


def test_rows_are_flipped_edited_and_dropped_by_hand(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", [*rows(4), row(4) | {"chosen": ""}]), tmp_path / "out.jsonl"
    plan = RepairPlan(
        drop_rows=frozenset({1}),
        flip_rows=frozenset({2}),
        edits={3: Edit(prompt="New question?"), 5: Edit("q", "a", "b")},
    )
    done = repaired(path, out, plan)
    second, third, fourth, fifth = documents(out)
    assert (second["chosen"], second["rejected"]) == (row(1)["rejected"], row(1)["chosen"])
    assert third == row(2) | {"prompt": "New question?"}
    assert fourth == row(3)
    assert fifth == {"prompt": "q", "chosen": "a", "rejected": "b"}
    recorded = [(one["row"], one["action"]) for one in documents(done.sidecar) if "row" in one]
    assert recorded == [(1, "left out"), (2, "flipped"), (3, "edited"), (5, "edited")]


def test_an_edit_that_empties_a_row_leaves_it_out(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", rows(2))
    done = repaired(path, tmp_path / "out.jsonl", RepairPlan(edits={1: Edit(chosen=" ")}))
    assert (done.written, done.left_out) == (1, 1)


def test_long_pairs_are_left_out_not_cut(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [row(0), row(1) | {"chosen": "x" * 501}, row(2) | {"chosen": "x" * 500}])
    repaired(path, tmp_path / "out.jsonl", RepairPlan(longest_text=500))
    assert [one["prompt"] for one in documents(tmp_path / "out.jsonl")] == [row(0)["prompt"], row(2)["prompt"]]


def test_held_out_prompts_are_those_that_training_would_hold_out(tmp_path: Path) -> None:
    from dpo_tui.data.pairs.hold_out_by_prompt import split_by_prompt

    path = write_lines(tmp_path / "in.jsonl", [*rows(40), *rows(10)])
    repaired(path, tmp_path / "out.jsonl", RepairPlan(hold_out=0.25, seed=42))
    train, held_out = split_by_prompt(load_pairs(Source(str(path))).pairs, 0.25, 42)
    assert [one["prompt"] for one in documents(tmp_path / "out.jsonl")] == [one.prompt[0]["content"] for one in train]
    assert len(documents(tmp_path / "out.eval.jsonl")) == len(held_out)


def test_columns_are_mapped_and_mixed_shapes_become_one(tmp_path: Path) -> None:
    mixed = [{"q": "p", "up": "a", "down": "b"}, {"q": [user("p2")], "up": [assistant("a2")], "down": "b2"}]
    path = write_lines(tmp_path / "in.jsonl", mixed)
    fields = {"prompt_field": "q", "chosen_field": "up", "rejected_field": "down"}
    repaired(path, tmp_path / "out.jsonl", RepairPlan(), **fields)
    assert documents(tmp_path / "out.jsonl") == [
        {"prompt": [user("p")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"prompt": [user("p2")], "chosen": [assistant("a2")], "rejected": [assistant("b2")]},
    ]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (RepairPlan(drop_checks=("nonsense",)), "no check 'nonsense'"),
        (RepairPlan(drop_checks=("few-pairs",)), "names no rows"),
    ],
)
def test_checks_that_name_no_rows_are_refused(tmp_path: Path, plan: RepairPlan, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        repair(Source(str(write_lines(tmp_path / "in.jsonl", rows(2)))), plan, tmp_path / "out.jsonl")


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", rows(2))
    (tmp_path / "link.jsonl").symlink_to(path)
    for out in (path, tmp_path / "link.jsonl"):
        with pytest.raises(UsageError, match="is the input"):
            repair(Source(str(path)), RepairPlan(), out)


def test_an_output_that_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    """Root could replace /dev/null, or the link /dev/stdout, by a file."""
    path = write_lines(tmp_path / "in.jsonl", rows(2))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.jsonl").symlink_to(write_lines(tmp_path / "other.jsonl", rows(1)))
    for name in ("pipe", "link.jsonl", "."):
        with pytest.raises(UsageError, match="is not a regular file"):
            repair(Source(str(path)), RepairPlan(), tmp_path / name)
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link.jsonl").is_symlink()
    assert not list(tmp_path.glob("*.repair.jsonl"))


@pytest.mark.parametrize("plan", [RepairPlan(flip_rows=frozenset({3})), RepairPlan(drop_rows=frozenset({1, 3}))])
def test_a_row_that_is_not_there_is_refused_and_nothing_is_written(tmp_path: Path, plan: RepairPlan) -> None:
    path = write_lines(tmp_path / "in.jsonl", rows(2))
    with pytest.raises(UsageError, match="there is no row 3"):
        repair(Source(str(path)), plan, tmp_path / "out.jsonl")
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["in.jsonl"]


def test_an_output_that_would_be_empty_leaves_the_old_one(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", rows(2)), tmp_path / "out.jsonl"
    repair(Source(str(path)), RepairPlan(), out)
    earlier = {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    with pytest.raises(DataError, match="nothing would be left"):
        repair(Source(str(path)), RepairPlan(drop_rows=frozenset({1, 2})), out)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()} == earlier


def test_a_file_that_no_repair_wrote_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", rows(2)), tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(UsageError, match="no repair wrote it"):
        repair(Source(str(path)), RepairPlan(), out)
    assert out.read_text() == "precious"
    repair(Source(str(path)), RepairPlan(), out, over=True)
    assert len(out.read_text().splitlines()) == 2


def test_an_output_folder_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", rows(2))
    with pytest.raises(DataError, match="cannot be written"):
        repair(Source(str(path)), RepairPlan(), tmp_path / "nowhere" / "out.jsonl")


def test_the_command_line_repairs(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", [*rows(6), TOO_SIMILAR]), tmp_path / "out.jsonl"
    arguments = [str(path), "--write", str(out), "--drop", "too-similar", "--flip", "1", "--hold-out", "0.3"]
    done = CliRunner().invoke(inspect, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "4 pairs written" in done.stderr
    assert f"2 held out in {tmp_path / 'out.eval.jsonl'}" in done.stderr
    assert "1 rows left out, 1 changed" in done.stderr
    with pytest.raises(UsageError):
        CliRunner().invoke(inspect, [str(path), "--drop", "too-similar"], catch_exceptions=False)


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n // 2}", "completion": f"answer {n}", "label": n % 2 == 0} for n in range(count)]


def test_labelled_answers_are_repaired_as_pairs_are(tmp_path: Path) -> None:
    records = labelled(6)
    records[1]["completion"] = "<|im_start|>assistant"
    records[3]["completion"] = ""
    records[4]["prompt"] = "long " * 100
    path, out = write_lines(tmp_path / "in.jsonl", records), tmp_path / "out.jsonl"
    scan(ScanRequest(Source(str(path)), workers=1), lambda _event: None)
    plan = RepairPlan(drop_checks=("template-tokens",), flip_rows=frozenset({1}), longest_text=100)
    done = repair(Source(str(path)), plan, out, form=LABELLED_ANSWERS)
    assert documents(out) == [{**records[0], "label": False}, records[2], records[5]]
    assert (done.written, done.left_out, done.changed, done.noun) == (3, 3, 1, "labelled answers")
    recorded = [(one["row"], one.get("reason", "")) for one in documents(done.sidecar) if "row" in one]
    assert [row for row, _ in recorded] == [1, 2, 4, 5]
    assert "template-tokens" in recorded[1][1] and "longer than 100" in recorded[3][1]


def test_labels_of_other_kinds_are_written_as_what_they_mean(tmp_path: Path) -> None:
    """Messages, a system prompt and thumbs: read again, the copy has the same labelled answers."""
    records = [
        {"prompt": [{"role": "system", "content": "short"}, user("q")], "completion": [assistant("a")], "label": True},
        {"prompt": "q2", "response": "b", "thumbs": "down"},
    ]
    for number, record in enumerate(records):
        path = write_lines(tmp_path / f"in{number}.jsonl", [record, record | {"prompt": "other"}])
        out = tmp_path / f"out{number}.jsonl"
        repair(Source(str(path)), RepairPlan(), out, form=LABELLED_ANSWERS)
        assert load_labelled(Source(str(out))).rows == load_labelled(Source(str(path))).rows
        again = tmp_path / f"again{number}.jsonl"
        repair(Source(str(out)), RepairPlan(), again, form=LABELLED_ANSWERS)
        assert again.read_bytes() == out.read_bytes()


def test_the_answers_of_a_prompt_are_held_out_together(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", labelled(40)), tmp_path / "out.jsonl"
    done = repair(Source(str(path)), RepairPlan(hold_out=0.2), out, form=LABELLED_ANSWERS)
    assert done.evaluation is not None
    held = {one["prompt"] for one in documents(done.evaluation)}
    assert len(held) * 2 == done.held_out == 8
    assert held.isdisjoint(one["prompt"] for one in documents(out))


def test_an_edit_changes_the_answer_on_its_own_side_and_a_row_without_a_label_stays_out(tmp_path: Path) -> None:
    records = [*labelled(2), {"prompt": "p", "completion": "no label"}]
    path, out = write_lines(tmp_path / "in.jsonl", records), tmp_path / "out.jsonl"
    edit = Edit(chosen="new good", rejected="new bad")
    plan = RepairPlan(edits={1: edit, 2: edit, 3: edit}, flip_rows=frozenset({2}))
    done = repair(Source(str(path)), plan, out, form=LABELLED_ANSWERS)
    assert [(one["completion"], one["label"]) for one in documents(out)] == [("new good", True), ("new bad", True)]
    assert done.left_out == 1


def test_the_command_line_repairs_labelled_answers(tmp_path: Path) -> None:
    path, out = write_lines(tmp_path / "in.jsonl", labelled(6)), tmp_path / "out.jsonl"
    done = CliRunner().invoke(inspect, [str(path), "--write", str(out), "--flip", "2"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "6 labelled answers written" in done.stderr and "0 rows left out, 1 changed" in done.stderr
    assert [one["label"] for one in documents(out)] == [True, True, True, False, True, False]
