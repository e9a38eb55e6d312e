"""Finding commands: completion by a real shell, near names, and the description for programs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dpo_tui.cli import COMMANDS, cli
from tests.support.app import ended_run
from tests.support.command_line import CommandLine
from tests.support.repository import ROOT


def complete(home: Path, *words: str) -> list[str]:
    """What bash is told for the last word of a command line, by the protocol of click's script."""
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "dpo_tui"],
        env={
            "PATH": "/usr/bin:/bin",
            "DPO_TUI_HOME": str(home),
            "_DPO_TUI_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["dpo-tui", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stderr == ""
    return [line.partition(",")[2] for line in answer.stdout.splitlines() if line]


def test_runs_are_completed_by_id_and_by_name(tmp_path: Path) -> None:
    ended_run(tmp_path, "20261101-101010-aaaa", "helpful", steps=2)
    ended_run(tmp_path, "20261102-101010-bbbb", "two words; rm -rf $HOME", steps=2)
    everything = ["last", "20261102-101010-bbbb", "20261101-101010-aaaa", "helpful"]
    assert complete(tmp_path, "status", "") == everything
    assert complete(tmp_path, "compare", "last", "hel") == ["helpful"]
    assert complete(tmp_path, "config", "fix", "202611") == everything[1:3]
    assert complete(tmp_path, "sta") == ["status"]


def test_a_home_that_cannot_be_read_proposes_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    assert complete(tmp_path, "status", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_one_that_it_takes(dpo_tui: CommandLine, tmp_path: Path, shell: str) -> None:
    code, out, _ = dpo_tui("completion", shell)
    assert code == 0 and "_DPO_TUI_COMPLETE" in out
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(out)
        checked = subprocess.run([shell, "-n", str(script)], check=False, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


# What a shell does when tab is pressed after "dpo-tui status hel".
PRESS_TAB = {
    "bash": 'eval "$(dpo-tui completion bash)"; COMP_WORDS=(dpo-tui status hel); COMP_CWORD=2; '
    "_dpo_tui_completion dpo-tui; printf '%s\\n' \"${COMPREPLY[@]}\"",
    "zsh": "compdef() { :; }; _describe() { print -l -- ${(P)3}; }; "
    'eval "$(dpo-tui completion zsh)"; '
    "words=(dpo-tui status hel); CURRENT=3; _dpo_tui_completion",
    "fish": 'dpo-tui completion fish | source; complete -C "dpo-tui status hel"',
}


@pytest.mark.parametrize("shell", PRESS_TAB)
def test_a_shell_proposes_the_names_of_runs(tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    ended_run(tmp_path, "20261101-101010-aaaa", "helpful", steps=2)
    command = tmp_path / "bin" / "dpo-tui"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m dpo_tui "$@"\n')
    command.chmod(0o755)
    pressed = subprocess.run(
        [shell, "-c", PRESS_TAB[shell]],
        env={
            "PATH": f"{command.parent}:/usr/bin:/bin",
            "DPO_TUI_HOME": str(tmp_path),
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.match(r"helpful\b", pressed.stdout), pressed


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("stauts", "Did you mean status?"), ("exp", "Did you mean export?"), ("xyzzy", "`dpo-tui --help` lists all")],
)
def test_a_command_that_does_not_exist_names_the_nearest(dpo_tui: CommandLine, typed: str, hint: str) -> None:
    code, out, err = dpo_tui(typed)
    assert (code, out) == (2, "") and f"no command {typed!r}" in err and hint in err


def test_the_description_for_programs_holds_every_command_option_and_exit_code(dpo_tui: CommandLine) -> None:
    code, out, err = dpo_tui("help", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "") and document["exit_codes"].keys() == {"0", "1", "2", "3", "130"}
    described = {command["command"].split()[1]: command for command in document["commands"]}
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None and described[name]["help"]
        flags = {flag for option in described[name]["options"] for flag in option["flags"]}
        wanted = {flag for option in command.params if isinstance(option, click.Option) for flag in option.opts}
        assert wanted <= flags and "--help" in flags
    assert {inner["command"] for inner in described["config"]["commands"]} >= {
        "dpo-tui config check",
        "dpo-tui config convert",
    }
    json_flag = next(option for option in described["status"]["options"] if "--json" in option["flags"])
    assert json_flag["takes_value"] is False


def test_help_names_the_way_to_a_command_below_a_command(dpo_tui: CommandLine) -> None:
    assert "Usage: dpo-tui config check" in dpo_tui("help", "config", "check")[1]
    assert "Commands:" in dpo_tui("help")[1]
    assert dpo_tui("help", "runs", "x")[0] == 2


def test_the_list_of_runs_is_not_cut_in_a_pipe(tmp_path: Path) -> None:
    name = "a-name-of-many-letters-" * 4
    reason = "out of memory at step 3; " * 8
    ended_run(tmp_path, "20261101-101010-aaaa", name, "failed", reason=reason, steps=2)
    listed = subprocess.run(
        [sys.executable, "-P", "-m", "dpo_tui", "runs"],
        env={"PATH": "/usr/bin:/bin", "DPO_TUI_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert name in listed.stdout and reason.strip() in listed.stdout
