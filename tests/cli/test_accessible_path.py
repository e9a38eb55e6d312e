"""What the monitor shows of a run, the plain commands say: the path of those who cannot see a screen of cells."""

import json
import re
import time

import pytest

from dpo_tui.runs.atomic_files import append_json_line
from dpo_tui.views.monitor_text import header
from dpo_tui.views.run_feed import RunFeed
from tests.support.command_line import CommandLine
from tests.support.supervised_runs import edit_state, make, supervised

pytestmark = pytest.mark.usefixtures("home")
METRICS = {
    "loss": 0.512, "rewards/accuracies": 0.7125, "rewards/margins": 0.38, "step_seconds": 6.0, "vram_peak_gb": 9.13,
    "tokens_per_second": 2412.0, "eval_loss": 0.533, "eval_rewards/accuracies": 0.681, "eval_rewards/margins": 0.291,
    "eval_kl": 1.9, "eval_kl_stderr": 0.31,
}  # fmt: skip


def test_status_says_every_figure_of_the_monitor(dpo_tui: CommandLine) -> None:
    folder = make("helpful")
    now = time.time()
    edit_state(folder, status="running", attempt=1, started_at=now - 7200, attempt_started_at=now - 60)
    folder.config.write_text("per_device_train_batch_size = 2\ngradient_accumulation_steps = 4\n")
    doing = {"phase": "train", "step": 412, "max_steps": 1125, "epoch": 1.1, "t": now, "done": 412}
    folder.progress.write_text(json.dumps(doing))
    folder.metrics.write_text(json.dumps({"t": now, "step": 412, **METRICS}) + "\n")
    advice = {"t": now, "kind": "advice", "severity": "info", "message": "Healthy: accuracy 71 % and rising."}
    append_json_line(folder.events, advice)
    with supervised(folder):
        feed = RunFeed(folder)
        feed.poll(now)
        shown = [text for part in header(feed) for text, role in part if role in ("title", "value")]
        code, out, _ = dpo_tui("status", "helpful")
    assert code == 0
    said = " ".join(out.split())
    # The numbers of the title row: in "2.4k tok/s" and "1 h 11 min" those of `status` are more exact.
    numbers = [number for text in shown for number in re.findall(r"[0-9][0-9.,]*(?![0-9.,k])", text) if "k" not in text]
    assert len(numbers) >= 9
    assert [number for number in numbers if number not in said] == []
    for figure in ("loss 0.512 · accuracy 0.713 · margin 0.38", "2,412 tokens a second", "batch 2 × 4 = 8"):
        assert figure in said
    assert "held out: loss 0.533 · accuracy 0.681 · margin 0.291 · KL 1.9 ± 0.31 nats an answer" in said
    assert "Healthy: accuracy 71 % and rising." in said
