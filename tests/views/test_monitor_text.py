"""Text of the monitor screen: phase, title row and samples."""

import json
import time
from dataclasses import replace
from pathlib import Path

from dpo_tui.runs import run_lock
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.ranks import Rank, RankReporter
from dpo_tui.runs.state import write_state
from dpo_tui.views.monitor_text import fraction, header, samples_text
from dpo_tui.views.run_feed import RunFeed
from tests.support.fake_run import begin, progress, write_history


def header_text(feed: RunFeed) -> str:
    return " | ".join("".join(text for text, _ in part) for part in header(feed))


def test_a_worker_that_does_not_train_yet_shows_its_phase_and_that_phases_progress():
    feed = RunFeed(RunFolder(Path("/nonexistent/20261101-101010-aaaa")))
    feed.about = {"status": "running", "phase": "load-model", "done": 1, "total": 4, "step": 0, "max_steps": 100}
    feed.events = [{"kind": "phase", "message": "Loading the model"}]
    assert any("loading the model" in text for part in header(feed) for text, _ in part)
    assert fraction(feed.about) == 0.25


def test_the_header_says_pace_batch_and_memory(tmp_path):
    """Status, step, epoch, ETA, tokens/s, effective batch, VRAM peak."""
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    state = begin(folder, "helpful-8b")
    write_history(folder, 1, 30, 100)
    progress(folder, 30, 100)
    feed = RunFeed(folder)
    feed.poll(time.time())
    feed.about |= {"status": "running", "eta_seconds": 4350.0}
    text = header_text(feed)
    for part in ("helpful-8b", "training", "step 30/100", "ETA 1 h 12 min", "epoch 0.9", "k tok/s", "peak 9.1 GB"):
        assert part in text
    feed.about["eta_seconds"] = 2182.0
    assert "ETA 36 min |" in header_text(feed), "seconds of a guess are noise"
    assert "batch 2 × 4 = 8" in text, "as config.toml says"
    feed.about |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert "batch 1 × 8 = 8" in header_text(feed), "as out-of-memory retries left it"
    assert state.per_device_train_batch_size is None
    feed.about |= {"ranks": 2}
    assert "batch 1 × 8 × 2 processes = 16" in header_text(feed)


def test_the_header_names_job_nodes_and_the_process_that_is_silent(tmp_path):
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    begin(folder, "helpful-8b")
    feed = RunFeed(folder)
    feed.poll(time.time())
    now = time.time()
    reports = [{"rank": number, "node": f"n{number + 1}", "code": None, "t": now - 40 * number} for number in (0, 1)]
    job = {"id": "4711", "node": "n1", "restarts": 0, "nodes": "n[1-2]"}
    feed.about |= {"status": "running", "ranks": 2, "job": job, "rank_reports": reports}
    text = header_text(feed)
    assert "rank 1 on n2 silent for 40 s | job 4711 on n[1-2] | 2 processes on 2 nodes" in text
    feed.about |= {"status": "queued", "job": {"id": "4711", "state": "PENDING"}, "rank_reports": []}
    assert "job 4711" in header_text(feed).split(" | ")
    feed.about |= {"status": "done"}
    assert "job" not in header_text(feed), "only while it matters where it runs"


def test_a_feed_reads_what_each_of_several_processes_does(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    folder = RunFolder(tmp_path / "20261101-101010-aaaa")
    state = begin(folder, "helpful-8b")
    write_state(folder, replace(state, ranks=2))
    progress(folder, 3, 100)
    RankReporter(folder, Rank(1, 1, 2)).heartbeat("train", step=3)
    run_lock.acquire(folder.lock)
    try:
        feed = RunFeed(folder)
        feed.poll(time.time())
    finally:
        run_lock.release(folder.lock)
    assert [(one["rank"], one["node"]) for one in feed.about["rank_reports"]] == [(1, "n7")]


def test_answers_stand_by_prompt_the_first_before_the_latest(tmp_path):
    path = tmp_path / "samples.jsonl"
    chat = [{"role": "user", "content": "Hi?"}]
    rows = [
        {"step": step, "prompt": chat, "answer": answer} for step, answer in ((0, "No."), (5, "Maybe."), (9, "Yes!"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = [paragraph for paragraph, _ in samples_text(path)]
    assert text[0] == "Hi?"
    assert "No." in text and "Yes!" in text and "Maybe." not in text
