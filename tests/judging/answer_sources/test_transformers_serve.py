"""The server of transformers itself as the endpoint, over the tiny model: it answers, and it judges."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource
from dpo_tui.judging.answer_sources.sample_answers import sample_answers
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.judges.open_judge import open_judge
from dpo_tui.judging.preference_pairs import AnswerPair

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("fastapi", "openai", "uvicorn")),
        reason="transformers serve needs fastapi, openai and uvicorn: pip install transformers[serving]",
    ),
]


@pytest.fixture(scope="module")
def sampling_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with `do_sample`: without it in the model's own config this server answers greedily, whatever the
    temperature of a request.
    """
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(tiny_model, folder)
    place = folder / "generation_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"do_sample": True}))
    return folder


@pytest.fixture(scope="module")
def served(sampling_model: Path) -> Iterator[str]:
    """The address of the server, up to and including ``/v1``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(sampling_model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while True:
            assert time.monotonic() < deadline and server.poll() is None, "the server did not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def test_it_answers(served: str, sampling_model: Path) -> None:
    requests = [AnswerRequest(key, n, [{"role": "user", "content": key}]) for key in ("help", "why") for n in range(4)]
    source = AnswerSource(url=served, endpoint_model=str(sampling_model), concurrency=2)
    found = list(sample_answers(source, requests, temperature=1.0, top_p=1.0, max_new_tokens=6, seed=1))
    assert {(one.id, one.number) for one in found} == {(one.id, one.number) for one in requests}
    assert all(0 < one.tokens <= 6 and not one.tokens_are_words for one in found)
    assert any(one.cut for one in found)
    assert len({one.text for one in found if one.id == "help"}) > 1


def test_it_judges(served: str, sampling_model: Path) -> None:
    """Random weights say nothing that can be read: a tie of which both orders had no verdict."""
    pair = AnswerPair("p", [{"role": "user", "content": "help"}], "one", "two", 1, 1)
    with open_judge(JudgeChoice("endpoint", served, str(sampling_model))) as judge:
        ((_, said),) = judge.compare([pair])
    assert (said.verdict, said.details) == ("tie", {"orders": [None, None]})
