"""What an improvement uses."""

from types import SimpleNamespace

import pytest

from dpo_tui.improve import usage_meter
from dpo_tui.improve.usage_meter import UsageMeter


def test_time_of_which_no_gpu_told_its_power_is_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that stops answering leaves the last power behind, which is not the present one."""
    now = 0.0
    monkeypatch.setattr(usage_meter, "time", SimpleNamespace(monotonic=lambda: now))
    powers = iter([300.0, None, None, 100.0, 100.0])
    meter = UsageMeter({"training": 5.0}, 1000.0, 7.0, watts=lambda: next(powers))
    for _ in range(4):
        now += 10.0
        meter.add("training")
    assert meter.fields == {
        "seconds": {"training": 45.0}, "joules": 1000.0 + 10 * 300 + 10 * 100, "unmetered_seconds": 27.0
    }  # fmt: skip


def test_without_a_gpu_there_is_no_energy_and_waiting_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(usage_meter, "time", SimpleNamespace(monotonic=lambda: now))
    meter = UsageMeter({}, None, watts=lambda: None)
    now = 60.0
    meter.add("waiting", counts=False)
    now = 90.0
    meter.add("training")
    assert (meter.joules, meter.seconds, meter.unmetered_seconds) == (None, {"training": 30.0}, 30.0)
