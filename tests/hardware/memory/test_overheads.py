"""Overheads of GPU memory are assumed until a machine has measured them, and estimates use what it measured."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu_parts.measured_overheads import measured_overheads
from dpo_tui import paths
from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.memory.memory_estimate import estimate
from dpo_tui.hardware.memory.overheads import ASSUMED, Overheads, overheads
from dpo_tui.hardware.models.lookup import architecture_of

pytestmark = pytest.mark.usefixtures("home")
MEASURED = Overheads(cuda_context=631_000_000, slack_of_fixed=0.02, slack_of_activations=0.11, source='a "card"')


def write(text: str) -> None:
    paths.memory_overheads().parent.mkdir(parents=True, exist_ok=True)
    paths.memory_overheads().write_text(text)


def test_without_a_measurement_they_are_assumed() -> None:
    assert overheads() == ASSUMED


def test_a_measured_table_is_read_as_it_was_written_and_changes_the_estimate() -> None:
    config = from_values({"model_name": "Qwen/Qwen2.5-1.5B-Instruct", "dataset": "pairs.jsonl", "use_4bit": True})
    arch = architecture_of(config.model_name)
    assert arch is not None
    before, on_cpu = estimate(config, arch), estimate(config, arch, device="cpu")
    write(MEASURED.as_toml())
    assert overheads() == MEASURED
    after = estimate(config, arch)
    assert after.part("cuda_context") == 631_000_000
    assert after.total - before.total == 131_000_000 + after.part("allocator_slack") - before.part("allocator_slack")
    assert after.part("allocator_slack") > 1.9 * before.part("allocator_slack")
    assert [part.label for part in after.parts if part.key == "cuda_context"] == ['CUDA context (a "card")']
    assert estimate(config, arch, device="cpu") == on_cpu


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("cuda_context = ", "cannot be read"),
        (MEASURED.as_toml().replace("631000000", "-1"), "cuda_context = -1"),
        (MEASURED.as_toml().replace("0.02000", "nan"), "slack_of_fixed = nan"),
        (MEASURED.as_toml().replace("0.11000", '"0.1"'), "slack_of_activations = '0.1'"),
        (MEASURED.as_toml().replace("source", "from"), "source = None"),
    ],
)
def test_a_table_that_holds_no_measurement_is_refused(text: str, named: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=named):
        overheads()


def results(tmp_path: Path, shares: tuple[float, float], *, dry: bool = False) -> Path:
    """Rows of which the allocator has lost these shares of the fixed memory and of the rest."""
    lines: list[dict[str, object]] = [{"machine": {"gpus": ["Card 80 GB"]}, "date": "2026-11-27", "dry": dry}]
    for fixed, moving, context in ((2.0, 6.0, 0.6), (5.0, 1.0, 0.7), (9.0, 4.0, 0.6), (1.0, 8.0, 0.5), (3.0, 3.0, 0.6)):
        lost = shares[0] * fixed + shares[1] * moving
        sizes = {"fixed": fixed, "allocated": fixed + moving, "reserved": fixed + moving + lost, "context": context}
        lines.append({"part": "c", "row": f"{fixed}", **sizes})
    lines += [{"part": "c", "row": "failed", "error": "OutOfMemoryError"}, {"part": "d", "row": "speed"}]
    path = tmp_path / "gpu.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_benchmark_finds_the_shares_that_its_rows_show(tmp_path: Path) -> None:
    found = measured_overheads(results(tmp_path, (0.03, 0.12)))
    assert found is not None
    assert (found.slack_of_fixed, found.slack_of_activations) == (pytest.approx(0.03), pytest.approx(0.12))
    assert found.cuda_context == 600_000_000
    assert found.source == "measured on Card 80 GB, 2026-11-27, 5 rows"


def test_a_share_is_never_negative(tmp_path: Path) -> None:
    found = measured_overheads(results(tmp_path, (-0.01, 0.2)))
    assert found is not None
    assert found.slack_of_fixed == 0 and 0.15 < found.slack_of_activations < 0.2


def test_a_dry_run_measures_nothing(tmp_path: Path) -> None:
    assert measured_overheads(results(tmp_path, (0.03, 0.12), dry=True)) is None
