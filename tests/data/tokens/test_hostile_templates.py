"""A chat template that loops or makes gigabytes is refused, wherever it is rendered."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.scan.scan_process import ScanProcess, ScanRequest
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens import template_process
from dpo_tui.data.tokens.chat_template import TemplateLimitError
from dpo_tui.data.tokens.limited_template import LimitedTemplate
from dpo_tui.data.tokens.template_process import GuardedTemplate, RenderError
from dpo_tui.errors import DataError
from dpo_tui.processes.child_environment import child_environment
from tests.support.supervised_runs import until

LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
GIGABYTES = "{{ 'x' * 1500000000 }}"
WITHOUT_A_BREAK = "{% set n = 10 %}{{ (n ** (n ** n)) % 7 }}"
"""One instruction of Python, in whose midst neither signals nor other threads have their turn."""
CHAT: list[Message] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a second for each rendering."""
    monkeypatch.setattr(template_process, "SECONDS", 0.2)


@pytest.mark.parametrize(
    ("template", "limit"),
    [(LOOP, "time"), (GIGABYTES, "memory"), (WITHOUT_A_BREAK, "time"), ("{{ 'x' * 20000000 }}", "size")],
)
def test_a_hostile_template_is_refused_in_words(template: str, limit: str, little_time: None) -> None:
    guarded = GuardedTemplate(template, {}, "org/model")
    with pytest.raises(TemplateLimitError, match="the chat template of org/model") as refused:
        guarded.render(CHAT)
    assert refused.value.limit == limit
    # The next template is rendered as if nothing had been.
    assert GuardedTemplate("{{ messages[0].content }}", {}, "m").render(CHAT) == "hello"


def test_a_template_that_is_hostile_to_long_messages_alone_is_refused_there(little_time: None) -> None:
    cubic = "{% for a in messages[0].content %}" * 3 + "{% endfor %}" * 3 + "done"
    guarded = GuardedTemplate(cubic, {}, "m")
    assert guarded.render(CHAT) == "done"
    with pytest.raises(TemplateLimitError):
        guarded.render([{"role": "user", "content": "x" * 5000}])


def test_constants_are_computed_within_the_limits_too(little_time: None) -> None:
    with pytest.raises(TemplateLimitError):
        GuardedTemplate("{{ (10 ** (10 ** 10)) % 7 }}", {}, "m").open()


def test_errors_of_a_template_are_told_by_their_first_line() -> None:
    with pytest.raises(RenderError, match=r"^roles must alternate$"):
        GuardedTemplate("{{ raise_exception('roles must alternate\nreally') }}", {}, "m").render(CHAT)
    with pytest.raises(RenderError, match="division"):
        GuardedTemplate("{{ 1 // (messages | length - 1) }}", {}, "m").render(CHAT)


def test_a_scan_renders_within_the_limits_in_its_own_process() -> None:
    template = LimitedTemplate(LOOP, {}, "m", seconds=0.2)
    with pytest.raises(TemplateLimitError):
        template.render(CHAT)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


_HELD = f"""
import sys
from dpo_tui.data.tokens.template_process import GuardedTemplate, _shared
template = GuardedTemplate({{"loop": {LOOP!r}, "held": {WITHOUT_A_BREAK!r}}}[sys.argv[1]], {{}}, "m")
template.open()
print(_shared._child.pid, flush=True)
template.render([])
"""


@pytest.mark.parametrize(
    ("template", "ending"), [("loop", signal.SIGTERM), ("held", signal.SIGHUP), ("held", signal.SIGKILL)]
)
def test_the_child_ends_with_its_parent(template: str, ending: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", _HELD, template], stdout=subprocess.PIPE, env=child_environment(), text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    until(lambda: child.cpu_times().user > 0.3, "the child renders")
    os.kill(parent.pid, ending)
    parent.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child has ended")
    assert child.pid not in psutil.pids() or child.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def hostile_model(tmp_path: Path, tiny_model: Path) -> Path:
    """A model whose chat template makes gigabytes."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(GIGABYTES, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["estimate", "train"])
def test_commands_refuse_the_model_before_anything_starts(
    name: str, home: Path, tmp_path: Path, hostile_model: Path, tiny_pairs: Path
) -> None:
    config = {"model_name": str(hostile_model), "dataset": str(tiny_pairs), "gpus": "none"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = CliRunner().invoke(cli, [name, str(tmp_path / "config.json")])
    said = done.stdout + done.stderr + str(done.exception)
    assert "takes more than 512 mb of memory" in " ".join(said.split()).lower()
    assert not (home / "runs").exists() or not any((home / "runs").iterdir())


def test_a_scan_refuses_the_model_too(home: Path, hostile_model: Path, tiny_pairs: Path) -> None:
    request = ScanRequest(Source(str(tiny_pairs)), model=str(hostile_model), max_length=100)
    with ScanProcess(request) as scan, pytest.raises(DataError, match="takes more than 512 MB of memory"):
        list(scan.events())
