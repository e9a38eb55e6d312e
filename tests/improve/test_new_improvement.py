"""What cannot work is refused in words before anything starts; what can is frozen with its held-out prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import ConfigError, DpoTuiError, RunError, UsageError
from dpo_tui.improve.improvement_folder import ImprovementFolder
from dpo_tui.improve.improvement_plan import read_plan
from dpo_tui.improve.improvement_store import all_improvements, create, find, read_prompts, remove_improvement
from dpo_tui.improve.new_improvement import ImprovementRequest, PreparedImprovement, prepare_improvement
from dpo_tui.improve.rounds.round_work import RoundWork
from dpo_tui.judging.answer_sources.answer_source import AnswerSource
from dpo_tui.judging.judges.judge import JudgeChoice
from tests.support.command_line import CommandLine, command_line
from tests.support.improvements import program

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


@pytest.fixture
def asked(tmp_path: Path, tiny_model: Path) -> Any:
    """Returns a function that prepares an improvement, with changes to a good request."""

    def prepare(
        config: str = "", prompts: int = 30, prompts_file: Path | None = None, **changes: Any
    ) -> PreparedImprovement:
        (tmp_path / "c.toml").write_text(f'[model]\nmodel_name = "{tiny_model}"\nuse_4bit = false\n{config}')
        (tmp_path / "p.txt").write_text("".join(f"question {number}\n" for number in range(prompts)))
        request: dict[str, Any] = {
            "config": tmp_path / "c.toml",
            "prompts": prompts_file or tmp_path / "p.txt",
            "judge": program(tmp_path, "len(one['answer'])"),
        }
        return prepare_improvement(ImprovementRequest(**request | changes))

    return prepare


def test_prompts_are_split_by_a_hash_and_no_prompt_is_on_both_sides(asked: Any) -> None:
    ready = asked(prompts=60)
    held_out = {one.id for one in ready.prompts if one.held_out}
    training = {one.id for one in ready.prompts if not one.held_out}
    assert (len(held_out), len(training)) == (12, 48) and held_out.isdisjoint(training)
    assert [one.held_out for one in asked(prompts=60).prompts] == [one.held_out for one in ready.prompts]


def test_the_config_keeps_what_the_file_sets_and_leaves_the_rest_to_a_profile(asked: Any, tiny_model: Path) -> None:
    ready = asked("[training]\nlearning_rate = 2e-5\n", options={"rounds": 1})
    assert "learning_rate = 2e-05" in ready.config or "learning_rate = 2e-5" in ready.config
    assert "dataset" not in ready.config and "lora_r" not in ready.config
    assert ready.plan.model == str(tiny_model)


@pytest.mark.parametrize("line", ['[data]\ndataset = "pairs.jsonl"', '[eval]\neval_dataset = "held.jsonl"'])
def test_a_config_that_names_data_is_refused(asked: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml: names (dataset|eval_dataset), and improve makes its own data"):
        asked(f"{line}\n")


def test_too_few_prompts_are_refused_with_the_numbers(asked: Any) -> None:
    with pytest.raises(UsageError, match=r"17 different prompts are too few: at least 10 .* and 8 trained on"):
        asked(prompts=17)
    assert len(asked(prompts=18).prompts) == 18


def test_a_program_that_cannot_judge_is_refused_now_and_not_after_an_hour(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(DpoTuiError, match="ZeroDivisionError"):
        asked(judge=program(tmp_path, "1 / 0", name="broken.py"))
    with pytest.raises(DpoTuiError):
        asked(judge=JudgeChoice("program", "/nowhere/judge"))


def test_a_setting_that_cannot_be_trained_with_is_refused(asked: Any) -> None:
    with pytest.raises(ConfigError, match="beta"):
        asked("[dpo]\nbeta = -1\n")
    with pytest.raises(ConfigError, match="with beta=-1"):
        asked(options={"sweep": {"beta": [0.1, -1]}})


def test_what_only_later_rounds_are_refused_for_is_refused_before_the_first(asked: Any) -> None:
    compute = '[compute]\ngpus = "none"\nranks = 2\ndistributed = "fsdp2"\n'
    with pytest.raises(ConfigError, match="ref_model"):
        asked(compute, options={"rounds": 2, "reference": "start"})


def test_an_endpoint_that_serves_the_start_model_cannot_answer_in_later_rounds(asked: Any) -> None:
    source = AnswerSource(url="http://localhost:1/v1", endpoint_model="x")
    with pytest.raises(UsageError, match="serves the start model"):
        asked(source_of_answers=source, options={"rounds": 2})


def test_it_is_found_by_id_prefix_and_name_and_removed(asked: Any) -> None:
    ready = asked(name="mine")
    folder = create(ready.plan, ready.config, ready.prompts)
    assert [found.path for found in (find(folder.id), find("mine"), find(folder.id[:12]))] == [folder.path] * 3
    assert read_plan(folder).judge["kind"] == "program"
    assert [one.held_out for one in read_prompts(folder)] == [one.held_out for one in ready.prompts]
    remove_improvement(folder)
    assert all_improvements() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "missing or torn"),
        ('{"name": 7, "model": "m"}', "is not a plan of an improvement"),
        ('{"name": "x", "model": "m", "rounds": "many"}', "is not a plan of an improvement"),
        ('{"version": 99}', "written by a newer dpo-tui"),
    ],
)
def test_a_plan_that_cannot_be_read_is_said_and_harms_no_list(
    home: Path, call: CommandLine, text: str, said: str
) -> None:
    folder = ImprovementFolder(home / "improvements" / "20260101-000000-abcd")
    folder.path.mkdir(parents=True)
    folder.plan.write_text(text)
    code, _, err = call("status", folder.id)
    assert code == 1 and said in err
    code, out, _ = call("runs")
    assert code == 0 and folder.id in out
    assert call("rm", "--yes", folder.id)[0] == 0 and not folder.path.exists()


def test_the_command_checks_and_starts_nothing_when_dry(tmp_path: Path, asked: Any, call: CommandLine) -> None:
    asked()
    judge = ("--judge-command", program(tmp_path, "1").target)
    code, _, err = call("improve", str(tmp_path / "c.toml"), "--prompts", str(tmp_path / "p.txt"), *judge, "--dry-run")
    assert code == 0, err
    assert "20 prompts to train on, 10 held out; up to 3 rounds of 4 answers to each prompt" in err
    assert all_improvements() == []


def test_the_start_model_answers_with_the_settings_that_its_training_has(asked: Any, tmp_path: Path) -> None:
    """Its revision too: a file that pins one is not trained from another."""
    (tmp_path / "mine.jinja").write_text(
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    ready = asked(f'chat_template = "{tmp_path}/mine.jinja"\nmodel_revision = "v1"\n')
    expected = {"chat_template": str(tmp_path / "mine.jinja"), "model_revision": "v1"}
    assert expected.items() <= ready.plan.model_settings.items()
    folder = create(ready.plan, ready.config, ready.prompts)
    work = RoundWork.of(folder, lambda *_: None)
    assert work.answers_from(None).settings == ready.plan.model_settings
    frozen = work.config("pairs.jsonl")
    assert (frozen.config.chat_template, frozen.config.model_revision) == (str(tmp_path / "mine.jinja"), "v1")


def test_a_reference_of_the_config_is_not_replaced_in_silence(asked: Any, tiny_model: Path) -> None:
    line = f'[dpo]\nref_model = "{tiny_model}"\n'
    with pytest.raises(ConfigError, match="names ref_model, and later rounds have the reference that --reference says"):
        asked(line)
    asked(line, options={"rounds": 1})


def test_prompts_that_differ_in_case_or_space_alone_stay_on_one_side(asked: Any, tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("".join(f"question {n}\nQUESTION   {n}\n" for n in range(40)))
    ready = asked(prompts=1, prompts_file=path)
    sides: dict[str, set[bool]] = {}
    for one in ready.prompts:
        sides.setdefault(" ".join(one.messages[0]["content"].lower().split()), set()).add(one.held_out)
    assert all(len(found) == 1 for found in sides.values())
    path.write_text("".join(f"{'question'.upper() if n % 2 else 'question'}{' ' * n} x\n" for n in range(40)))
    with pytest.raises(UsageError, match="differ in case or white space alone"):
        asked(prompts=1, prompts_file=path)


def test_prompts_are_those_that_the_improvement_began_with(asked: Any) -> None:
    ready = asked()
    folder = create(ready.plan, ready.config, ready.prompts)
    text = folder.prompts.read_text()
    folder.prompts.write_text(text.replace('"held_out":true', '"held_out":false', 1))
    with pytest.raises(RunError, match=r"prompts\.jsonl is missing or not as it was written"):
        read_prompts(folder)
    folder.prompts.write_text(text)
    assert len(read_prompts(folder)) == 30


def test_a_prompt_too_long_for_a_line_of_the_files_is_refused(asked: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": f"question {n}"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "\x01" * 190_000}]))
    with pytest.raises(UsageError, match=r"a prompt has 1,140,\d+ bytes, and at most 500,000 are taken"):
        asked(prompts=1, prompts_file=path)


def test_a_number_that_is_none_is_refused(asked: Any) -> None:
    """NaN passes every limit: a margin of it would make pairs of equal answers."""
    for option in ("margin", "hours", "length_limit"):
        with pytest.raises(UsageError, match="is no finite number"):
            asked(options={option: float("nan")})


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (JudgeChoice("reward-model", "/nowhere/reward"), "--reward-model = /nowhere/reward: no such folder"),
        (JudgeChoice("model", "/nowhere/judge"), "--judge-model = /nowhere/judge: no such folder"),
        (JudgeChoice("endpoint", "http://me:secret@127.0.0.1:1/v1", "m"), "user name or"),
    ],
)
def test_a_judge_that_cannot_be_reached_is_refused_now(asked: Any, judge: JudgeChoice, said: str) -> None:
    with pytest.raises(DpoTuiError, match=said) as refused:
        asked(judge=judge)
    assert "secret" not in str(refused.value)


def test_an_address_with_a_password_comes_into_no_file(asked: Any) -> None:
    source = AnswerSource(url="http://me:secret@127.0.0.1:1/v1", endpoint_model="x")
    with pytest.raises(UsageError, match="user name or"):
        asked(source_of_answers=source, options={"rounds": 1})


@pytest.mark.parametrize("seconds", ['{"training": "long"}', '{"training": true}', "[1]"])
def test_a_state_with_times_that_are_no_numbers_is_said(
    home: Path, asked: Any, call: CommandLine, seconds: str
) -> None:
    ready = asked()
    folder = create(ready.plan, ready.config, ready.prompts)
    folder.state.write_text(f'{{"status": "stopped", "seconds": {seconds}}}')
    code, _, err = call("status", folder.id)
    assert code == 1 and "state.json is not the state of an improvement: seconds" in err
