"""A program as the judge: real processes that score well, badly, late, wrongly or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.judging.judges import program_judge
from dpo_tui.judging.judges.judge import AnswerToScore, JudgeChoice
from dpo_tui.judging.judges.open_judge import check_judge, open_judge
from dpo_tui.judging.preference_pairs import AnswerPair

PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
ANSWERS = [AnswerToScore("p", PROMPT, text) for text in ("a", "bbb", "cc")]
EACH = "import json, sys\nfor line in sys.stdin:\n    row = json.loads(line)\n"
LENGTH = EACH + '    print(json.dumps({"id": row["id"], "score": len(row["answer"])}))\n'


def program(folder: Path, source: str) -> JudgeChoice:
    path = folder / "score.py"
    path.write_text(source)
    return JudgeChoice("program", f"{sys.executable} '{path}' --secret abc")


def scores(choice: JudgeChoice, answers: list[AnswerToScore] = ANSWERS) -> list[float]:
    with open_judge(choice) as judge:
        return [value for _, value in judge.score(answers)]


def test_it_gets_prompt_messages_and_answer_and_its_scores_come_in_order(tmp_path: Path) -> None:
    """In whatever order it gives them; the name holds the program and no argument, which may be secret."""
    source = f"""{EACH}    rows = globals().setdefault("rows", [])
    rows.append(row)
for row in reversed(rows):
    assert row["prompt"] == "Why?" and row["messages"][0]["role"] == "system", row
    print(json.dumps({{"id": row["id"], "score": len(row["answer"]) + 0.5}}))
"""
    choice = program(tmp_path, source)
    assert scores(choice) == [1.5, 3.5, 2.5]
    with open_judge(choice) as judge:
        assert judge.gives_scores
        assert judge.name == f"program {sys.executable} {tmp_path}/score.py"


def test_scores_and_comparisons_agree_and_an_answer_is_scored_once(tmp_path: Path) -> None:
    """Also by a program that says something else each time: a score is kept while the judge is open."""
    counted = tmp_path / "count"
    source = f"""import random
{EACH}    open({str(counted)!r}, "a").write("x")
    print(json.dumps({{"id": row["id"], "score": random.random()}}))
"""
    pairs = [AnswerPair("p", PROMPT, left, right, 1, 1) for left, right in (("a", "b"), ("b", "c"), ("a", "a"))]
    with open_judge(program(tmp_path, source)) as judge:
        compared = [said for _, said in judge.compare(pairs)]
        found = {one.answer: value for one, value in judge.score([AnswerToScore("q", PROMPT, "b"), ANSWERS[0]])}
    assert compared[0].details["scores"] == [found["a"], found["b"]]
    assert compared[0].verdict == ("left" if found["a"] > found["b"] else "right")
    assert compared[1].details["scores"][0] == found["b"]
    assert compared[2].verdict == "tie"
    assert counted.read_text() == "xxx"


def test_the_judge_sees_each_answer_up_to_the_length_that_is_set(tmp_path: Path) -> None:
    choice = JudgeChoice("program", program(tmp_path, LENGTH).target, max_answer_chars=2)
    assert scores(choice) == [1, 2, 2]
    with open_judge(choice) as judge:
        ((_, said),) = judge.compare([AnswerPair("p", PROMPT, "bbb", "bbbbbb", 1, 1)])
    assert said.verdict == "tie"


@pytest.mark.parametrize("source", [LENGTH, EACH.replace("sys.stdin", "list(sys.stdin)") + LENGTH.splitlines()[-1]])
def test_much_flows_in_both_directions_without_a_deadlock(tmp_path: Path, source: str) -> None:
    """More than the pipes hold, for a program that answers line by line and for one that reads all of it first."""
    answers = [AnswerToScore(str(number), PROMPT, "x" * (500 + number % 7) + str(number)) for number in range(2000)]
    noisy = source.replace("import json, sys", "import json, sys; sys.stderr.write('warning ' * 20000)")
    found = scores(program(tmp_path, noisy), answers)
    assert found == [len(one.answer) for one in answers]


def test_scores_come_as_the_program_gives_them(tmp_path: Path) -> None:
    """It waits for a sign that the first score has arrived before it gives the second."""
    sign = tmp_path / "sign"
    source = f"""import os, time
{EACH}    while row["id"] == "2" and not os.path.exists({str(sign)!r}):
        time.sleep(0.01)
    print(json.dumps({{"id": row["id"], "score": 1}}))
"""
    with open_judge(program(tmp_path, source)) as judge:
        coming = judge.score(ANSWERS)
        next(coming)
        sign.touch()
        assert len(list(coming)) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("fine", "line 1 of its output: it is not JSON: 'fine'"),
        pytest.param("[" * 5000, "it is not JSON", id="deep"),
        ("[1]", "it is no JSON object"),
        ('{"score": 1}', "it has no id that was sent"),
        ('{"id": 1, "score": 1}', "it has no id that was sent"),
        ('{"id": "01", "score": 1}', "it has no id that was sent"),
        ('{"id": "4", "score": 1}', "the id '4' was not sent"),
        ('{"id": "0", "score": 1}', "the id '0' was not sent"),
        ('{"id": "1"}', "its score is not a number"),
        ('{"id": "1", "score": "1"}', "its score is not a number"),
        ('{"id": "1", "score": true}', "its score is not a number"),
        ('{"id": "1", "score": null}', "its score is not a number"),
        ('{"id": "1", "score": NaN}', "its score is not a finite number"),
        ('{"id": "1", "score": -Infinity}', "its score is not a finite number"),
        ('{"id": "1", "score": 1e999}', "its score is not a finite number"),
        pytest.param('{"id": "1", "score": 1' + "0" * 400 + "}", "its score is not a finite number", id="huge"),
        ('{"id": "2", "score": 1}\n{"id": "2", "score": 1}', "line 2 of its output: the id '2' came before"),
        pytest.param("x" * (1 << 21), "wrote a line of more than 1,048,576 bytes", id="endless"),
        pytest.param("\x1b]0;evil\x07", "it is not JSON: ''", id="escape"),
    ],
)
def test_a_line_that_is_no_score_is_refused_and_says_what_was_expected(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(DpoTuiError) as refused:
        scores(program(tmp_path, f"print({line!r})\n"))
    assert why in refused.value.message
    assert "\x1b" not in str(refused.value)
    assert "expected one line" in (refused.value.hint or "")


def test_answers_without_a_score_are_counted_and_those_with_one_are_kept(tmp_path: Path) -> None:
    source = LENGTH.replace("    print", '    if row["id"] == "2": break\n    print')
    got = []
    with open_judge(program(tmp_path, source)) as judge, pytest.raises(DpoTuiError) as refused:
        got.extend(value for _, value in judge.score(ANSWERS))
    assert got == [1]
    assert "without a score for 2 of 3 answers; the first has the id '2'" in refused.value.message


def test_an_error_shows_the_last_lines_of_stderr_without_escape_sequences(tmp_path: Path) -> None:
    """Also where every score was given: what a program says of itself in the end is not passed over."""
    source = LENGTH + "sys.stderr.write('early\\n' * 9 + '\\x1b[31mno model\\x1b[0m at /models\\n'); sys.exit(3)"
    got = []
    with open_judge(program(tmp_path, source)) as judge, pytest.raises(DpoTuiError) as refused:
        got.extend(value for _, value in judge.score(ANSWERS))
    assert len(got) == 3
    assert "ended with exit code 3" in refused.value.message
    assert refused.value.message.endswith("early\nno model at /models")


def test_a_program_killed_by_a_signal_and_one_that_is_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(DpoTuiError, match="ended with exit code 137"):
        scores(program(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(DpoTuiError, match=f"exit code 127:\n{broken}: No such file or directory"):
        scores(JudgeChoice("program", str(broken)))
    with pytest.raises(UsageError, match="/nowhere/score: there is no such program"):
        check_judge(JudgeChoice("program", "/nowhere/score --all"))


def test_a_program_that_says_nothing_for_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_judge, "TIMEOUT_SECONDS", 1.5)
    pid = tmp_path / "pid"
    source = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(DpoTuiError, match=r"gave no line for 1\.5 s, and was ended"):
        scores(program(tmp_path, source))
    assert gone(int(pid.read_text()))


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    choice = program(tmp_path, LENGTH)
    assert scores(JudgeChoice("program", f"{choice.target} ; touch {mark} $(touch {mark})")) == [1, 3, 2]
    assert not mark.exists()
    with pytest.raises(UsageError, match="cannot be read"), open_judge(JudgeChoice("program", "x 'y")):
        pass


def test_keys_and_tokens_are_not_in_its_environment_and_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DPO_TUI_JUDGE_KEY", "DPO_TUI_ANSWERS_KEY", "HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "secret-value")
    monkeypatch.setenv("OF_THE_USER", "1")
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    seen = tmp_path / "environment"
    scores(program(tmp_path, f"import os; open({str(seen)!r}, 'w').write(str(dict(os.environ)))\n{LENGTH}"))
    assert "secret-value" not in seen.read_text()
    assert "'OF_THE_USER': '1'" in seen.read_text()
    assert "'PYTHONPATH': '/of/the/user'" in seen.read_text()


def test_it_dies_with_us(tmp_path: Path) -> None:
    """By whatever signal, and with what it started itself."""
    pids = tmp_path / "pids"
    source = f"""import os, subprocess, time
child = subprocess.Popen(["sleep", "600"])
open({str(pids)!r} + ".part", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids)!r} + ".part", {str(pids)!r})
time.sleep(600)
"""
    choice = program(tmp_path, source)
    code = f"""from dpo_tui.judging.judges.open_judge import open_judge
from dpo_tui.judging.judges.judge import AnswerToScore, JudgeChoice
with open_judge(JudgeChoice("program", {choice.target!r})) as judge:
    list(judge.score([AnswerToScore("p", [], "x")]))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 30
        while not pids.exists():
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    for pid in map(int, pids.read_text().split()):
        assert gone(pid)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False
