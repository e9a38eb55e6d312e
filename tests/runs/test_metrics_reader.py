"""Metrics are read while they grow: each line once, whatever happens to the file."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.runs import remaining_time
from dpo_tui.runs.metrics_reader import MetricsTail, latest, read_all

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8)
_OBJECTS = st.dictionaries(_NAMES, st.one_of(st.integers(), st.floats(allow_nan=False), st.none(), st.text(max_size=9)))
_GARBAGE = st.sampled_from(
    [b"{", b"[1]", b"null", b'{"step": 1', b"\xff\xfe\xfd", b"Traceback (most recent call last):"]
)
_LINES = st.lists(st.one_of(_OBJECTS, _GARBAGE), max_size=12)


@settings(max_examples=120, deadline=None)
@given(_LINES, st.data())
def test_every_line_is_read_once_however_the_file_grows(lines: list[Any], data: st.DataObject) -> None:
    """What the worker logs reaches the panels, whole, in order, and once."""
    text = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8), label="cuts"))
    limit = data.draw(st.one_of(st.none(), st.integers(1, 40)), label="max_bytes")
    found: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        tail = MetricsTail(path)
        assert tail.poll() == []
        with open(path, "ab", buffering=0) as out:
            for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
                out.write(text[start:stop])
                found += tail.poll(limit)
        while tail.offset < len(text):
            found += tail.poll(limit)
    assert found == [line for line in lines if not isinstance(line, bytes)]
    assert tail.skipped == sum(isinstance(line, bytes) for line in lines)
    assert tail.restarts == 0


def test_a_truncated_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = MetricsTail(path)
    assert [line["step"] for line in tail.poll()] == [1, 2]
    path.write_text('{"step": 7}\n')
    assert [line["step"] for line in tail.poll()] == [7]
    assert tail.restarts == 1


@pytest.mark.parametrize("in_place", [True, False], ids=["rewritten", "replaced"])
def test_another_file_of_the_same_length_or_more_is_told_from_growth(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    tail = MetricsTail(path)
    tail.poll()
    other = path if in_place else tmp_path / "other"
    other.write_text('{"step": 8}\n{"step": 9}\n')
    other.replace(path)
    assert [line["step"] for line in tail.poll()] == [8, 9]
    assert tail.restarts == 1


def test_a_line_without_end_is_given_up_and_what_follows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 3_000_000 + b'\n{"step": 1}\n')
    tail = MetricsTail(path)
    assert tail.poll() == [{"step": 1}]
    assert tail.skipped == 1


def test_not_a_number_and_infinity_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": NaN, "grad_norm": Infinity}\n')
    (line,) = MetricsTail(path).poll()
    assert math.isnan(line["loss"]) and line["grad_norm"] == math.inf


def test_the_latest_value_of_each_key_is_found_also_of_a_rare_evaluation(tmp_path: Path) -> None:
    """`status --json` has training's and evaluation's latest side by side."""
    path = tmp_path / "metrics.jsonl"
    assert latest(path) == {}
    lines = [{"step": step, "loss": 1 / step, "pad": "x" * 60} for step in range(1, 900)]
    lines.insert(300, {"step": 300, "eval_loss": 0.4, "eval_rewards/accuracies": 0.8})
    lines.insert(310, {"step": 300, "kl": 2.5})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 900, "lo')
    found = latest(path)
    assert (found["step"], found["loss"]) == (899, 1 / 899)
    assert (found["eval_loss"], found["eval_rewards/accuracies"], found["kl"]) == (0.4, 0.8, 2.5)


# What TRL 1.16 logs at a step of DPO and the worker adds: about 575 bytes a line.
_TRAINED = (
    "loss grad_norm learning_rate entropy mean_token_accuracy num_tokens rewards/chosen rewards/rejected "
    "rewards/accuracies rewards/margins logps/chosen logps/rejected logits/chosen logits/rejected step_seconds "
    "data_seconds tokens_per_second vram_peak_gb"
).split()


def trained(step: int) -> dict[str, Any]:
    return {"t": 1.7e9 + step, "step": step, "epoch": step / 7, **{name: step + 0.123456789012 for name in _TRAINED}}


def evaluated(step: int) -> dict[str, Any]:
    names = [name for name in _TRAINED[:14] if name not in ("grad_norm", "learning_rate")]
    return {"t": 1.7e9 + step, "step": step, "epoch": step / 7, **{f"eval_{name}": step + 0.25 for name in names}}


def test_an_evaluation_is_found_a_thousand_steps_of_trls_own_lines_back(tmp_path: Path) -> None:
    """The last KL estimate may be older still: it is left out where it would take too long."""
    path = tmp_path / "metrics.jsonl"
    lines = []
    for step in range(2999):
        if step:
            lines.append(trained(step))
        if step % 1000 == 0:
            lines.append(evaluated(step))
        if step in (0, 1000):
            lines.append({"step": step, "eval_kl": 2.5 + step, "eval_kl_n": 32, "kl": 2.5 + step})
    _write(path, *lines)
    assert path.stat().st_size > 2999 * 550
    found = latest(path)
    assert found == {
        **lines[-1],
        **{key: value for key, value in evaluated(2000).items() if key.startswith("eval_")},
        **{"eval_kl": 1002.5, "eval_kl_n": 32, "kl": 1002.5},
    }
    assert latest(path, evaluations=False) == lines[-1], "a line of the list of runs needs no more"


@pytest.mark.parametrize("shift", range(0, 120, 4))
def test_an_evaluation_is_found_wherever_it_lies_to_the_blocks_that_are_read(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "metrics.jsonl"
    first, rest = json.dumps(evaluated(0)) + "\n", json.dumps({"eval_loss": 0.75, "pad": "e" * 60}) + "\n"
    # The end of the file is where blocks begin: 128 KB back, and 256 KB further.
    for back in (1 << 17, (1 << 17) + (1 << 18)):
        after = "x" * (back - 60 - shift - len('{"loss": 1, "pad": ""}\n'))
        path.write_text(first + rest + json.dumps({"loss": 1, "pad": after}) + "\n")
        assert latest(path)["eval_loss"] == 0.75


def test_a_line_that_only_speaks_of_an_evaluation_or_is_torn_hides_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, {"step": 0, "eval_loss": 0.7}, {"step": 1, "eval_loss": 0.6})
    with path.open("a") as out:
        out.write('{"step": 2, "eval_loss": 0.5, "eval_rew\n')
        out.write('{"step": 2, "note": ["eval_loss", "kl"]}\n')
        out.write("".join(json.dumps(trained(step)) + "\n" for step in range(3, 400)))
    found = latest(path)
    assert (found["step"], found["eval_loss"]) == (399, 0.6)


@pytest.mark.parametrize("evaluate", [False, True], ids=["no evaluation", "a recent one"])
def test_a_long_history_is_not_read_to_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate: bool
) -> None:
    path = tmp_path / "metrics.jsonl"
    kl = {"eval_kl": 1.0, "kl": 1.0}
    found = [{**evaluated(step), **kl} if evaluate and step in (1, 3900) else trained(step) for step in range(1, 4000)]
    _write(path, *found)
    read, pread = [], os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert latest(path) == {**(found[3899] if evaluate else {}), **trained(3999)}
    assert sum(read) < path.stat().st_size / 3


def test_a_long_history_comes_in_chunks_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "pad": "x" * 100}) + "\n" for step in range(20_000)) + '{"st')
    chunks = list(read_all(path))
    assert len(chunks) > 1
    assert [line["step"] for chunk in chunks for line in chunk] == list(range(20_000))
    assert list(read_all(tmp_path / "none")) == []


def _write(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_pace_is_that_of_the_current_attempt(tmp_path: Path) -> None:
    """The ETA is right after a resume: a slow earlier attempt says nothing about this one."""
    path = tmp_path / "metrics.jsonl"
    slow = [{"t": 100 + 50 * step, "step": step, "step_seconds": 50.0} for step in range(10)]
    fast = [{"t": 1000 + 2 * step, "step": 10 + step, "step_seconds": 2.0} for step in range(5)]
    _write(path, *slow)
    assert remaining_time.step_seconds(path, since=999) is None, "not known yet"
    _write(path, *slow, *fast)
    assert remaining_time.step_seconds(path, since=999) == 2.0
    progress = {"step": 15, "max_steps": 115, "t": 1010.0}
    assert remaining_time.eta_seconds(progress, 2.0, since=999, now=1010.0) == 200.0
    assert remaining_time.eta_seconds(progress, 2.0, since=1011, now=1012.0) is None, "an earlier attempt's progress"
    assert remaining_time.eta_seconds(progress, None, since=999, now=1010.0) is None
    assert remaining_time.eta_seconds({}, 2.0, since=999, now=1010.0) is None


def test_the_pace_follows_the_recent_past_and_not_one_slow_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    early = [{"t": float(step), "step": step, "step_seconds": 9.0} for step in range(100)]
    late = [{"t": 100.0 + step, "step": 100 + step, "step_seconds": 60.0 if step == 7 else 1.0} for step in range(20)]
    _write(path, *early, *late)
    assert remaining_time.step_seconds(path, since=0) == 1.0


def test_a_file_that_tells_no_step_time_still_gives_a_pace(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, *({"t": 30.0 * n, "step": 10 * n, "loss": 0.6} for n in range(5)))
    assert remaining_time.step_seconds(path, since=None) == 3.0


def test_the_pace_of_two_different_steps_is_between_them(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    odd = [{"t": 3.0, "step": 3, "step_seconds": value} for value in (True, None, 0, -1.0, "2")]
    _write(path, {"t": 1.0, "step": 1, "step_seconds": 2.0}, {"t": 2.0, "step": 2, "step_seconds": 5.0}, *odd)
    assert remaining_time.step_seconds(path, since=None) == 3.5


def test_lines_of_one_step_or_of_one_moment_give_no_pace(tmp_path: Path) -> None:
    """Training and evaluation are logged beside each other; a resume repeats steps."""
    path = tmp_path / "metrics.jsonl"
    _write(path, {"t": 1.0, "step": 5}, {"t": 9.0, "step": 5}, {"t": 9.0, "step": 6}, {"t": 12.0, "step": 4})
    assert remaining_time.step_seconds(path, since=None) is None


@pytest.mark.parametrize(
    ("progress", "now", "seconds"),
    [
        ({"step": 90, "max_steps": 100, "t": 50.0}, 50.0, 20.0),
        ({"step": 90, "max_steps": 100, "t": 50.0}, 51.5, 18.5),
        ({"step": 90, "max_steps": 100, "t": 50.0}, 70.0, 18.0),
        ({"step": 90, "max_steps": 100, "t": 50.0}, 40.0, 20.0),
        ({"step": 100, "max_steps": 100, "t": 50.0}, 51.0, 0.0),
        ({"step": 1, "max_steps": 0, "t": 50.0}, 50.0, None),
        ({"step": True, "max_steps": 100, "t": 50.0}, 50.0, None),
        ({"step": 90, "max_steps": 100}, 50.0, None),
    ],
    ids=["just logged", "in a step", "a step at most", "clocks differ", "done", "no steps", "no number", "no time"],
)
def test_the_remaining_time_counts_down_within_a_step_and_no_further(
    progress: dict[str, Any], now: float, seconds: float | None
) -> None:
    assert remaining_time.eta_seconds(progress, 2.0, since=None, now=now) == seconds


def test_the_estimate_of_kl_before_the_first_step_is_not_that_of_a_trained_model(tmp_path: Path) -> None:
    """Later ones are skipped where the time budget of evaluations is used up."""
    path = tmp_path / "metrics.jsonl"
    start = [
        {"step": 0, "eval_loss": 0.69},
        {"step": 0, "eval_kl": 0.0, "eval_kl_stderr": 0.0, "eval_kl_n": 4, "kl": 0.0},
    ]
    _write(path, *start)
    assert latest(path)["eval_kl"] == 0.0
    _write(
        path, *start, {"step": 10, "loss": 0.6, "kl_term": 0.2}, {"step": 10, "eval_loss": 0.61, "eval_kl_term": 0.3}
    )
    assert latest(path) == {"step": 10, "loss": 0.6, "eval_loss": 0.61, "kl_term": 0.2, "eval_kl_term": 0.3}
    _write(path, *start, {"step": 10, "eval_loss": 0.61}, {"step": 10, "eval_kl": 1.5, "eval_kl_n": 4})
    assert latest(path)["eval_kl"] == 1.5


def test_the_latest_values_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    """`status --json` prints them so, the newest line first: the same each time."""
    path = tmp_path / "metrics.jsonl"
    _write(path, evaluated(0), trained(1))
    assert list(latest(path)) == list(dict.fromkeys([*trained(1), *evaluated(0)]))
