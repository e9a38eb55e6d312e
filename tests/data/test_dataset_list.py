"""Part files, patterns and lists of datasets are one dataset, and every row number leads to its file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli.inspect import inspect
from dpo_tui.config.files import from_values, load, local_paths, parse_assignment
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.changed_data import file_change
from dpo_tui.data.load_demonstrations import load_demonstrations
from dpo_tui.data.load_pairs import LoadedPairs, load_pairs
from dpo_tui.data.load_split import split_pairs
from dpo_tui.data.pair_sizes import pair_sizes
from dpo_tui.data.repair.repair import repair
from dpo_tui.data.repair.repair_plan import RepairPlan
from dpo_tui.data.scan.report import Report
from dpo_tui.data.scan.report_text import report_text
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source, training_source
from dpo_tui.data.source_mix import chosen_rows, rows_of_mix
from dpo_tui.errors import DataError
from dpo_tui.start.prepare import prepare
from dpo_tui.text.location_list import as_text, locations_of
from dpo_tui.views.dataset_browser import DatasetBrowser, Decisions
from dpo_tui.views.run_plan import RunPlan, parse, with_values
from tests.support.data_files import assistant, row, user, write_lines
from tests.support.training import loaded as loaded_config

pytestmark = pytest.mark.usefixtures("home")


def write_rows(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    return write_lines(path, records)


def scanned(source: Source) -> Report:
    return scan(ScanRequest(source, workers=1), lambda event: None)


def prompts(loaded: LoadedPairs) -> list[str]:
    return [pair.prompt[0]["content"] for pair in loaded.pairs]


def numbered(first: int, count: int) -> list[dict[str, str]]:
    return [row(number) for number in range(first, first + count)]


@pytest.fixture
def three(tmp_path: Path) -> Source:
    """Ten rows as JSON lines, five conversations as CSV, and twenty rows of other columns as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_rows(tmp_path / "a.jsonl", numbered(0, 10))
    lines = ["prompt,chosen,rejected"]
    for one in numbered(100, 5):
        cells = [json.dumps([message]) for message in (user(one["prompt"]), assistant(one["chosen"]), assistant("no"))]
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    (tmp_path / "b.csv").write_text("\n".join(lines) + "\n")
    names = {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}
    table = pa.Table.from_pylist([{names[key]: one[key] for key in names} for one in numbered(200, 20)])
    (tmp_path / "c").mkdir()
    for part in range(2):
        pq.write_table(table.slice(10 * part, 10), tmp_path / "c" / f"part-{part}.parquet")
    return Source.of([str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv"), str(tmp_path / "c" / "*.parquet")])


@pytest.mark.parametrize("names", [("part_0", "part_1", "part_2"), ("helpful", "harmless", "honest")])
def test_a_folder_of_parts_is_one_dataset(tmp_path: Path, names: tuple[str, ...]) -> None:
    for place, name in enumerate(sorted(names)):
        write_rows(tmp_path / "data" / f"{name}.jsonl", numbered(10 * place, 3))
    loaded = load_pairs(Source(str(tmp_path / "data")))
    assert prompts(loaded) == [row(number)["prompt"] for number in (0, 1, 2, 10, 11, 12, 20, 21, 22)]
    assert loaded.notes[0].startswith(f"3 files are read as one dataset: {sorted(names)[0]}.jsonl")
    assert scanned(Source(str(tmp_path / "data"))).notes == loaded.notes


def test_a_folder_of_different_kinds_is_asked_for(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "a.jsonl", numbered(0, 3))
    (tmp_path / "data" / "a.csv").write_text("prompt,chosen,rejected\na,b,c\n")
    with pytest.raises(DataError, match="holds 2 data files") as caught:
        load_pairs(Source(str(tmp_path / "data")))
    assert "as a list" in str(caught.value.hint)


@pytest.mark.parametrize("pattern", ["many/*.jsonl", "many/part_?.jsonl", "**/part_*.jsonl", "many/part_[01].jsonl"])
def test_a_pattern_is_the_files_that_match_it(tmp_path: Path, pattern: str) -> None:
    for part in range(2):
        write_rows(tmp_path / "many" / f"part_{part}.jsonl", numbered(10 * part, 3))
    (tmp_path / "many" / "notes.txt").write_text("no data")
    assert len(load_pairs(Source(str(tmp_path / pattern))).pairs) == 6


def test_a_pattern_without_a_match_and_a_name_with_brackets_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\*.jsonl matches no file"):
        load_pairs(Source(str(tmp_path / "x*.jsonl")))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"matches no data file, only a.txt"):
        load_pairs(Source(str(tmp_path / "*.txt")))
    with pytest.raises(DataError, match="does not exist") as caught:
        load_pairs(Source("a.jsonl,b.jsonl"))
    assert "Several are a list" in str(caught.value.hint)
    path = write_rows(tmp_path / "data[1].jsonl", numbered(0, 3))
    assert len(load_pairs(Source(str(path))).pairs) == 3


def test_sources_may_differ_in_columns_shapes_and_containers(three: Source) -> None:
    loaded, report = load_pairs(three), scanned(three)
    numbers = [*range(10), *range(100, 105), *range(200, 220)]
    assert prompts(loaded) == [row(number)["prompt"] for number in numbers]
    assert (report.rows, report.usable, report.notes) == (35, 35, loaded.notes)
    assert [(one.rows, one.usable, one.used) for one in loaded.sources] == [(10, 10, 10), (5, 5, 5), (20, 20, 20)]
    assert loaded.notes[0] == "4 files are read as one dataset: a.jsonl, b.csv, part-0.parquet, part-1.parquet"


def test_row_numbers_name_the_file(tmp_path: Path, three: Source) -> None:
    first, last = tmp_path / "a.jsonl", tmp_path / "d.jsonl"
    first.write_text(first.read_text() + "\n{broken\n")  # a blank line has a number, too
    last.write_text(
        json.dumps(row(300)) + '\n{"prompt": "p", "chosen": "a", "rejected": "b", "chosen": "c"}\n{"x": 1}\n'
    )
    source = Source.of([*three.locations, str(last)])
    loaded, report = load_pairs(source), scanned(source)
    assert [problem.label for problem in loaded.dropped] == ["row 12 (a.jsonl row 12)", "row 40 (d.jsonl row 3)"]
    assert any(
        note.endswith("(39): row 39 (d.jsonl row 2): `chosen` occurs twice, and the last value is used")
        for note in loaded.notes
    )
    found = {problem.check: (problem.rows, problem.detail) for problem in report.problems}
    assert found["bad-json"][0] == [12]
    assert found["missing-field"][1].startswith("row 40 (d.jsonl row 3): ")
    assert [file["rows_before"] for file in report.files] == [0, 12, 17, 27, 37]
    text = report_text(report.to_json())
    assert "rows 12 (a.jsonl row 12)" in text
    assert "rows 40 (d.jsonl row 3)" in text
    browser = DatasetBrowser(as_text(source.locations))
    assert [browser.at(number, Decisions()).place for number in (1, 13, 18, 38)] == [
        "a.jsonl row 1", "b.csv row 1", "part-0.parquet row 1", "d.jsonl row 1",
    ]  # fmt: skip
    assert browser.at(13, Decisions()).prompt == row(100)["prompt"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.jsonl").write_text(json.dumps(row(ord(folder))) + "\n{broken\n")
    loaded = load_pairs(Source(str(tmp_path / "*" / "data.jsonl")))
    assert [problem.place for problem in loaded.dropped] == ["x/data.jsonl row 2", "y/data.jsonl row 2"]


@pytest.mark.parametrize(
    ("usable", "weights", "most", "expected"),
    [
        ((1000, 100), (0.7, 0.3), None, [233, 100]),
        ((1000, 100), (7, 3), None, [233, 100]),
        ((10, 10), (0.5, 0.5), None, [10, 10]),
        ((1000, 1000, 1000), (0.1, 0.2, 0.7), None, [142, 285, 1000]),
        ((300, 700), (0.3, 0.7), None, [300, 700]),
        ((1000, 1000), (0.7, 0.3), 100, [70, 30]),
        ((10, 0), (0.5, 0.5), None, [0, 0]),
    ],
)  # fmt: skip
def test_a_mix_has_the_shares_of_its_weights_and_repeats_no_row(
    usable: tuple[int, ...], weights: tuple[float, ...], most: int | None, expected: list[int]
) -> None:
    assert rows_of_mix(usable, weights, most) == expected


def test_the_rows_of_a_mix_depend_on_the_seed_and_on_nothing_else() -> None:
    numbers = list(range(1, 1001))
    chosen = chosen_rows(numbers, 100, 42, 0)
    assert len(chosen) == 100
    assert chosen == chosen_rows(numbers, 100, 42, 0)
    assert chosen < chosen_rows(numbers, 200, 42, 0)
    assert chosen not in (chosen_rows(numbers, 100, 43, 0), chosen_rows(numbers, 100, 42, 1))
    # Written down, so that another version or machine that chooses otherwise is noticed.
    assert sorted(chosen_rows(range(1, 21), 5, 42, 0)) == [1, 5, 7, 18, 19]


def weighted(source: Source, *weights: float, **options: Any) -> Source:
    return Source.of(source.locations, weights=weights, **options)


def test_weights_say_how_many_rows_of_each_source_are_used(three: Source) -> None:
    source = weighted(three, 0.2, 0.2, 0.6)
    loaded, report = load_pairs(source), scanned(source)
    assert [one.used for one in loaded.sources] == [5, 5, 15]
    hundreds = Counter(int(prompt.rsplit(" ", 1)[1]) // 100 for prompt in prompts(loaded))
    assert hundreds == {0: 5, 1: 5, 2: 15}
    assert [pair.row for pair in loaded.pairs] == sorted(pair.row for pair in loaded.pairs)
    assert loaded.notes[1].endswith("a.jsonl: 5 of 10 usable rows are used, 20.0% of the mix")
    assert report.notes == loaded.notes
    assert report.sources == [one.to_json() for one in loaded.sources]
    assert report.steps_per_epoch == 4  # 25 pairs, and 8 a step
    assert "25 of 35 usable pairs are in the mix" in report.verdict
    assert prompts(load_pairs(weighted(three, 0.2, 0.2, 0.6, seed=7))) != prompts(loaded)
    assert len(load_pairs(weighted(three, 0.2, 0.2, 0.6, max_rows=10)).pairs) == 10


def test_a_source_that_gives_nothing_to_the_mix_is_an_error(tmp_path: Path, three: Source) -> None:
    write_rows(tmp_path / "bad.jsonl", [{"x": 1}])
    with pytest.raises(DataError, match=r"bad.jsonl has no usable row"):
        load_pairs(Source.of([*three.locations, str(tmp_path / "bad.jsonl")], weights=(1, 1, 1, 1)))
    with pytest.raises(DataError, match=r"b.csv would give no row to the mix"):
        scanned(weighted(three, 1, 0.001, 1))


def test_demonstrations_are_mixed_as_pairs_are(three: Source) -> None:
    found = load_demonstrations(Source.of(three.locations[:2], weights=(0.6, 0.4)))
    assert [one.used for one in found.sources] == [7, 5]
    assert len(found.rows) == 12


def test_a_ranking_counts_as_one_row_of_the_mix(tmp_path: Path) -> None:
    ranking = [{"prompt": f"p{n}", "answers": [{"answer": f"{n}{k}", "rank": k} for k in range(3)]} for n in range(4)]
    write_rows(tmp_path / "a.jsonl", ranking)
    write_rows(tmp_path / "b.jsonl", numbered(0, 8))
    source = Source.of([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], weights=(0.5, 0.5))
    loaded, report = load_pairs(source), scanned(source)
    assert [one.used for one in loaded.sources] == [one["used"] for one in report.sources] == [4, 4]
    assert len(loaded.pairs) == 4 * 3 + 4


def config_of(**values: Any) -> Config:
    return from_values({"model_name": "m", **values})


def test_a_config_takes_one_dataset_or_a_list() -> None:
    assert config_of(dataset="a.jsonl").dataset == config_of(dataset=["a.jsonl"]).dataset == "a.jsonl"
    config = config_of(dataset=["a.jsonl", "b/*.parquet"], dataset_weights=[0.7, 0.3])
    assert config.datasets == ("a.jsonl", "b/*.parquet")
    source = training_source(config)
    assert (source.locations, source.weights, source.seed) == (("a.jsonl", "b/*.parquet"), (0.7, 0.3), config.seed)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dataset": []}, "must name a dataset"),
        ({"dataset": ""}, "must name a dataset"),
        ({"dataset": ["a", ""]}, "has an empty name in it"),
        ({"dataset": "a", "dataset_weights": [1.0]}, ""),
        ({"dataset": ["a", "b"], "dataset_weights": [1.0]}, "must have 2 numbers, one for each dataset"),
        ({"dataset": "a", "dataset_weights": [1.0, 2.0]}, "is for several datasets"),
        ({"dataset": ["a", "b"], "dataset_weights": [1.0, 0.0]}, "must be above 0"),
        ({"dataset": ["a", "b"], "dataset_weights": [1.0, -1.0]}, "must be above 0"),
        ({"dataset": 3}, "valid string"),
    ],
)
def test_a_wrong_list_is_a_problem_of_the_config(values: dict[str, Any], said: str) -> None:
    if not said:
        assert config_of(**values).dataset_weights == [1.0]
        return
    with pytest.raises(InvalidConfigError, match=said):
        config_of(**values)


def test_a_list_comes_from_the_command_line_and_goes_through_the_frozen_config(tmp_path: Path) -> None:
    assert parse_assignment('dataset=["a.jsonl", "b"]') == ("dataset", ["a.jsonl", "b"])
    config = config_of(dataset=["a.jsonl", "b"], dataset_weights=[2, 1], encoding="gbk")
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load(path).config == config


def test_paths_of_a_list_are_made_absolute_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "data" / "a.jsonl", numbered(0, 1))
    (tmp_path / "c.toml").write_text('model_name = "m"\ndataset = ["data/a.jsonl", "data/*.jsonl", "org/name"]\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = tmp_path.resolve() / "data"
    assert local_paths(load(tmp_path / "c.toml"))["dataset"] == (
        str(data / "a.jsonl"),
        str(data / "*.jsonl"),
        "org/name",
    )


def test_text_and_list_are_each_others_counterpart(tmp_path: Path) -> None:
    assert locations_of("a.jsonl, b/*.jsonl\norg/name") == ("a.jsonl", "b/*.jsonl", "org/name")
    assert locations_of(as_text(("a", "b"))) == ("a", "b")
    path = write_rows(tmp_path / "one, two.jsonl", numbered(0, 1))
    assert locations_of(str(path)) == (str(path),)
    assert parse("dataset", "A.jsonl, b.jsonl") == ("A.jsonl", "b.jsonl")
    plan = with_values(RunPlan(), {"dataset": locations_of("a.jsonl")})
    assert (plan.config.dataset, plan.has_data) == ("a.jsonl", True)


def test_the_check_before_the_start_names_sources_and_rows(tmp_path: Path, tiny_model: Path, three: Source) -> None:
    (tmp_path / "d.jsonl").write_text("{broken\n" + json.dumps(row(9)) + "\n")
    config = loaded_config(
        tmp_path, tiny_model, tmp_path / "a.jsonl",
        dataset=[*three.locations, str(tmp_path / "d.jsonl")], dataset_weights=[10, 5, 20, 1], eval_split=0.2,
    )  # fmt: skip
    prepared = prepare(config)
    assert [problem.label for problem in prepared.dropped] == ["row 36 (d.jsonl row 1)"]
    assert any(note.endswith("b.csv: 5 of 5 usable rows are used, 13.9% of the mix") for note in prepared.data_notes)
    assert (prepared.rows, prepared.usable) == (37, 36)
    assert 0 < prepared.held_out < 12
    split = split_pairs(prepared.config, download=False)
    assert [one.used for one in split.sources] == [10, 5, 20, 1]
    assert pair_sizes(prepared.config, None).rows == 36


def test_a_change_of_any_file_is_noticed(tmp_path: Path, three: Source) -> None:
    config = config_of(dataset=list(three.locations))
    receipt = {"data": {"sha256": load_pairs(three).sha256, "rows": 35, "unusable": 0}}
    assert file_change(receipt, config) is None
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text() + "a,b,c\n")
    change = file_change(receipt, config)
    assert change is not None
    assert change.location == ", ".join(three.locations)


def test_evaluation_data_takes_the_lists_and_patterns_that_a_dataset_takes(
    tmp_path: Path, tiny_model: Path, three: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "train.jsonl", numbered(300, 6))
    toml = f'model_name = "{tiny_model}"\ndataset = "{data}"\n[eval]\neval_dataset = ["a.jsonl", "b.c*", "org/name"]\n'
    (tmp_path / "c.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    found = load(tmp_path / "c.toml")
    here = tmp_path.resolve()
    assert local_paths(found)["eval_dataset"] == (str(here / "a.jsonl"), str(here / "b.c*"), "org/name")
    (tmp_path / "frozen.toml").write_text(to_toml(found.config))
    assert load(tmp_path / "frozen.toml").config == found.config
    assert parse("eval_dataset", "A.jsonl, b.jsonl") == ("A.jsonl", "b.jsonl")

    config = found.config.model_copy(update={"eval_dataset": three.locations})
    split = split_pairs(config, download=False)
    assert (len(split.train), len(split.held_out)) == (6, 35)
    receipt = {"data": {"sha256": split.sha256, "held_out_sha256": split.held_out_sha256, "rows": 6, "unusable": 0}}
    assert file_change(receipt, config) is None
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text() + "a,b,c\n")
    change = file_change(receipt, config)
    assert change is not None
    assert change.location == ", ".join(three.locations)


def test_one_evaluation_set_in_brackets_is_the_set_and_an_empty_name_is_refused() -> None:
    assert config_of(dataset="d", eval_dataset=["a.jsonl"]).eval_dataset == "a.jsonl"
    assert config_of(dataset="d", eval_dataset=None).eval_datasets == ()
    for value, reason in (([], "must name a dataset"), (["a", ""], "has an empty name in it")):
        with pytest.raises(InvalidConfigError, match=reason):
            config_of(dataset="d", eval_dataset=value)


def test_a_repair_writes_all_sources_into_one_file(tmp_path: Path, three: Source) -> None:
    out = tmp_path / "out" / "all.jsonl"
    out.parent.mkdir()
    done = repair(three, RepairPlan(flip_rows=frozenset({11})), out)
    assert (done.written, done.changed) == (35, 1)
    written = load_pairs(Source(str(out)))
    assert written.pairs[10].rejected[0]["content"] == row(100)["chosen"]


def test_inspect_takes_several_datasets(three: Source) -> None:
    done = CliRunner().invoke(inspect, [*three.locations, "--weights", "0.2,0.2,0.6", "--json"])
    assert done.exit_code == 0, done.output
    assert [one["used"] for one in json.loads(done.stdout)["sources"]] == [5, 5, 15]
    for wrong in ("1,2", "1,2,0", "1,2,x"):
        failed = CliRunner().invoke(inspect, [*three.locations, "--weights", wrong])
        assert "one number above 0 for each of several DATA" in str(failed.exception)


def test_a_file_that_is_named_twice_is_said(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", numbered(0, 3))
    assert "a.jsonl: named twice, and read twice" in load_pairs(Source.of([str(path), str(path)])).notes
