"""`dpo-tui mcp`, asked by the protocol's own client over stdin and stdout."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from dpo_tui.cli.mcp_tools import shown
from dpo_tui.processes.install_command import install_command
from tests.support.app import ended_run
from tests.support.command_line import CommandLine
from tests.support.repository import ROOT

READING = {
    "list_runs",
    "run_status",
    "run_metrics",
    "run_config",
    "run_logs",
    "compare_runs",
    "estimate",
    "inspect_data",
    "hardware",
}
WRITING = {"start_run", "stop_run", "checkpoint_run", "resume_run"}


@asynccontextmanager
async def server(home: Path, *options: str) -> AsyncIterator[Client]:
    """A client of a server of its own."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "dpo_tui", "mcp", *options],
        env={"DPO_TUI_HOME": str(home), "PYTHONPATH": str(ROOT), "MY_API_KEY": "a-secret-of-mine"},
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


async def ask(client: Client, tool: str, **arguments: Any) -> tuple[bool, str]:
    """Whether a tool succeeded, and its text."""
    result = await client.call_tool(tool, arguments)
    return not result.is_error, result.content[0].text  # type: ignore[union-attr]


async def test_runs_are_read_and_nothing_can_be_changed(home: Path, dpo_tui: CommandLine, tiny_pairs: Path) -> None:
    folder = ended_run(home, "20261101-101010-aaaa", "helpful", steps=20)
    folder.rank_log(0).write_text("step 1\n\x1b]0;title\x07a-secret-of-mine \x1b[31mred\n")
    ended_run(home, "20261102-101010-bbbb", "other", steps=20)
    async with server(home) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == READING
        ok, text = await ask(client, "list_runs", limit=1)
        assert ok and [run["name"] for run in json.loads(text)["runs"]] == ["other"] and json.loads(text)["of"] == 2
        ok, text = await ask(client, "run_status", run="helpful")
        assert ok and json.loads(text) == json.loads(dpo_tui("status", "helpful", "--json")[1])
        ok, text = await ask(client, "run_metrics", run="helpful", lines=2)
        assert ok and [line["step"] for line in json.loads(text)][-1] == 20
        ok, text = await ask(client, "run_config", run="helpful")
        assert ok and "learning_rate" in text and "5e-07" in text
        assert await ask(client, "run_logs", run="helpful") == (True, "step 1\n[hidden] red")
        ok, text = await ask(client, "compare_runs", runs=["helpful", "other"])
        assert ok and len(json.loads(text)["runs"]) == 2
        ok, text = await ask(client, "inspect_data", data=[str(tiny_pairs)])
        assert ok and json.loads(text)["usable"] == 40
        # A run is named, never a path or an option; and no tool that writes is there to be called.
        for run in ("../../etc", "/etc", "--help", "-n", str(folder.path)):
            ok, text = await ask(client, "run_status", run=run)
            assert not ok and "no such run" in text and "exit code 3" in text, run
        for tool in WRITING:
            ok, text = await ask(client, tool, run="last")
            assert not ok and "Unknown tool" in text


async def test_runs_are_steered_only_where_that_was_allowed(home: Path, tmp_path: Path) -> None:
    ended_run(home, "20261101-101010-aaaa", "helpful", steps=5)
    config = tmp_path / "config.toml"
    config.write_text("[model]\nmodel_name = 3\n")
    async with server(home, "--allow-write") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == READING | WRITING
        assert all(tools[name].annotations.read_only_hint == (name in READING) for name in tools)  # type: ignore[union-attr]
        ok, text = await ask(client, "start_run", config=str(config), settings={"beta": 0.3})
        assert not ok and "model_name" in text and "exit code 2" in text
        ok, text = await ask(client, "stop_run", run="helpful")
        assert not ok and "20261101-101010-aaaa" in text


@pytest.mark.slow
async def test_a_run_is_started_stopped_and_resumed(
    home: Path, tmp_path: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[model]\nmodel_name = "{tiny_model}"\n[data]\ndataset = "{tiny_pairs}"\n[training]\nmax_steps = 2000\n'
    )
    async with server(home, "--allow-write") as client:
        ok, text = await ask(client, "start_run", config=str(config), settings={"logging_steps": 1}, name="by-agent")
        run = text.split()[0]
        assert ok and run[:2] == "20"

        async def status() -> dict[str, Any]:
            return dict(json.loads((await ask(client, "run_status", run=run))[1]))

        while not (await status()).get("step"):
            assert (await status())["status"] in ("queued", "starting", "running")
        assert (await ask(client, "stop_run", run="by-agent"))[0]
        while (await status())["status"] != "stopped":
            pass
        assert (await ask(client, "resume_run", run=run))[0]
        assert (await ask(client, "stop_run", run=run, now=True))[0]
        while (await status())["status"] in ("queued", "starting", "running", "stopping"):
            pass


def test_without_the_package_the_command_that_installs_it_is_named(
    dpo_tui: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    monkeypatch.delitem(sys.modules, "dpo_tui.cli.mcp_tools", raising=False)
    code, out, err = dpo_tui("mcp")
    assert (code, out) == (2, "") and "needs the package mcp" in err and "'mcp>=2,<3'" in err


def test_the_command_that_installs_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert install_command("a>=1") == f"{sys.executable} -m pip install 'a>=1'"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert install_command("a>=1") == f"uv pip install --python {sys.executable} 'a>=1'"


def test_secrets_and_control_characters_do_not_reach_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    text = "false 0123456789abcdef hf_ABCDEFGHIJKLMNOPQRST https://me:pass@host/x \x1b[2Jend"
    assert shown(text) == "false [hidden] [hidden] https://[hidden]@host/x end"
    assert "more characters" in shown("x" * 300_000) and len(shown("x" * 300_000)) < 201_000
