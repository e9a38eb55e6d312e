"""Children that run our own modules: what they execute, when they end, and what is said when they end early."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.errors import DataError
from dpo_tui.hardware.doctor.doctor_child import DoctorProcess
from dpo_tui.hardware.doctor.registry import DoctorOptions, collect_stack_report, start_stack_report
from dpo_tui.processes.json_child import ChildError, JsonChild
from dpo_tui.processes.torch_tool import TorchTool, run_tool

_PATIENCE = 30


def until(condition: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, words
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make a module that a child finds, from its source."""

    def make(source: str) -> str:
        folder = tmp_path / "modules"
        folder.mkdir(exist_ok=True)
        (folder / "child_of_a_test.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return "child_of_a_test"

    return make


def scan_something(folder: Path) -> None:
    with ScanProcess(ScanRequest(Source(str(folder / "data.jsonl")))) as scan, pytest.raises(DataError):
        list(scan.events())


def ask_the_doctor(folder: Path) -> None:
    with DoctorProcess(DoctorOptions(), {"memory", "torch"}) as doctor:
        list(doctor.findings())


def import_the_stack(folder: Path) -> None:
    collect_stack_report(start_stack_report(), lambda words: None)


def probe_a_config(folder: Path) -> None:
    with pytest.raises(ChildError):
        run_tool("memory_probe", {"config": str(folder / "config.toml"), "settings": []}, environment={})


def generate_answers(folder: Path) -> None:
    with TorchTool("generate", environment={}) as tool, pytest.raises(ChildError, match="no model is loaded"):
        list(tool.ask({"do": "answers"}))


@pytest.mark.parametrize(
    "start",
    [
        scan_something,
        generate_answers,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (ask_the_doctor, import_the_stack, probe_a_config)),
    ],
    ids=lambda one: one.__name__,
)
def test_no_child_executes_a_module_that_lies_in_the_current_folder(
    start: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    trap = tmp_path / "hostile"
    trap.mkdir()
    for name in ("torch", "json", "orjson", "bitsandbytes", "dpo_tui"):
        (trap / f"{name}.py").write_text(
            f"open({str(trap / 'executed')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    (trap / "config.toml").write_text('model_name = "none"\ndataset = "none"\ngpus = "none"\n')
    (trap / "data.jsonl").write_text('{"a": 1}\n')
    monkeypatch.chdir(trap)
    start(trap)
    assert not (trap / "executed").exists()


_SLEEPER = "import sys, time\nprint('{\"ready\": true}')\ntime.sleep(600)\n"


def test_a_child_ends_when_its_parent_is_killed(module: Callable[[str], str]) -> None:
    """Even while it works and reads nothing: the pipe to the parent tells, not the next request."""
    code = (
        "import os, signal\n"
        "from dpo_tui.processes.json_child import JsonChild\n"
        f"child = JsonChild({module(_SLEEPER)!r}, 'sleeping')\n"
        "next(child.messages())\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    until(lambda: not is_alive(pid), "the child goes on for nobody")


def test_a_child_outlives_the_thread_that_started_it(module: Callable[[str], str]) -> None:
    """The app starts children from worker threads, which end long before the child has answered."""
    name = module(
        "import json, sys\nfor line in sys.stdin:\n    print(json.dumps({'answer': json.loads(line)['question']}))\n"
    )
    started: list[JsonChild] = []
    thread = threading.Thread(target=lambda: started.append(JsonChild(name, "echoing")))
    thread.start()
    thread.join()
    with started[0] as child:
        for question in (1, 2):
            child.send({"question": question})
            assert next(child.messages()) == {"answer": question}


def test_a_child_is_ended_from_another_thread_with_what_it_forked(module: Callable[[str], str]) -> None:
    name = module(
        "import os, time\nfork = os.fork()\nif fork:\n    print('{\"fork\": %d}' % fork, flush=True)\ntime.sleep(600)\n"
    )
    with JsonChild(name, "sleeping") as child:
        messages = child.messages()
        fork = next(messages)["fork"]
        threading.Timer(0.1, child.close).start()
        assert list(messages) == []
        assert child.died().message == "sleeping was cancelled"
    until(lambda: not is_alive(fork), "what the child forked goes on")


def test_extra_variables_reach_the_child(module: Callable[[str], str]) -> None:
    name = module("import json, os\nprint(json.dumps({'gpus': os.environ['CUDA_VISIBLE_DEVICES']}))\n")
    with JsonChild(name, "looking", environment={"CUDA_VISIBLE_DEVICES": "3"}) as child:
        assert list(child.messages()) == [{"gpus": "3"}]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('the disk is gone')", "looking ended early: OSError: the disk is gone"),
        ("raise SystemExit(3)", "looking ended early: exit code 3"),
        ("import os\nos.kill(os.getpid(), 11)", "looking was ended by SIGSEGV"),
        ("import os\nos.kill(os.getpid(), 40)", "looking was ended by signal 40"),
        ("import os\nos.write(1, b'{\"half\": ')\nos.kill(os.getpid(), 9)", "looking was ended by SIGKILL"),
    ],
)  # fmt: skip
def test_an_early_end_is_said_in_words(module: Callable[[str], str], source: str, words: str) -> None:
    with JsonChild(module(source), "looking") as child:
        child.send({"do": "something"})
        assert list(child.messages()) == []
        assert child.died().message == words


def test_a_line_that_is_no_object_is_an_error_and_not_skipped(module: Callable[[str], str]) -> None:
    with (
        JsonChild(module("print('Downloading')"), "looking") as child,
        pytest.raises(ChildError, match="'Downloading'"),
    ):
        list(child.messages())


def test_a_torch_tool_that_dies_names_its_task_and_not_its_module() -> None:
    with TorchTool("generate", environment={}) as tool:
        os.kill(tool.pid, signal.SIGTERM)
        with pytest.raises(ChildError, match=r"^generating answers was ended by SIGTERM$"):
            list(tool.ask({"do": "answers"}))
