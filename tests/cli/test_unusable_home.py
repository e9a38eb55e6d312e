"""A home folder that is missing, read-only, full or refused: every command says so in a sentence, with what to set."""

import errno
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_tui import paths
from dpo_tui.cli import _print_file_system_error
from dpo_tui.errors import HomeError
from dpo_tui.hub.cache import hub_cache
from tests.support.command_line import CommandLine
from tests.support.doctor_facts import findings
from tests.support.repository import ROOT

ROOT_USER = os.geteuid() == 0
SETTING = "export DPO_TUI_HOME="
NOBODY = 65534
WITHOUT_OVERRIDE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root without the right to pass over permissions, as root is on a network disk that maps it to nobody."""


def call(home: str, *arguments: str, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own, with everything below ``home``."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DPO_TUI_HOME", "XDG_DATA_HOME")}
    return subprocess.run(
        [*(before or []), sys.executable, "-P", "-m", "dpo_tui", *arguments],
        env=environment | {"DPO_TUI_HOME": home, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str], reason: str) -> None:
    assert "Traceback" not in result.stdout + result.stderr
    assert result.returncode == 2 and reason in result.stderr and SETTING in result.stderr, result.stderr


@pytest.fixture(name="config")
def config_of_tiny_model(tmp_path: Path, tiny_model: Path, tiny_pairs: Path) -> str:
    """A config that would train."""
    file = tmp_path / "config.toml"
    file.write_text(f'[model]\nmodel_name = "{tiny_model}"\n[data]\ndataset = "{tiny_pairs}"\n')
    return str(file)


def test_without_any_home_folder_the_variable_to_set_is_named(
    monkeypatch: pytest.MonkeyPatch, dpo_tui: CommandLine, tiny_pairs: Path
) -> None:
    for name in ("HOME", "DPO_TUI_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for command in (("runs",), ("status", "last"), ("demo", "--no-tui"), ("paths",), ("queue",)):
        code, _, err = dpo_tui(*command)
        assert code == 2 and "HOME is not set" in err and SETTING in err, command
    found = findings()
    assert {name: found[name].status for name in ("disk-runs", "disk-models")} == dict.fromkeys(
        ("disk-runs", "disk-models"), "fail"
    )
    assert "HOME is not set" in found["disk-models"].message and str(hub_cache()).startswith("~")
    monkeypatch.setenv("DPO_TUI_HOME", "/somewhere")
    assert paths.home() == Path("/somewhere")
    monkeypatch.setenv("DPO_TUI_HOME", ".")
    assert paths.home() == Path.cwd()


def test_a_user_that_does_not_exist_is_a_missing_path_and_no_crash(dpo_tui: CommandLine, tmp_path: Path) -> None:
    assert paths.expanded("~no-such-user/x.jsonl") == Path("~no-such-user/x.jsonl")
    assert paths.expanded("~/x") == Path.home() / "x"
    config = tmp_path / "config.toml"
    config.write_text('[model]\nmodel_name = "~no-such-user/m"\n[data]\ndataset = "~no-such-user/x.jsonl"\n')
    code, _, err = dpo_tui("estimate", str(config))
    assert code == 2 and "~no-such-user" in err
    # In the scan's child process too.
    assert_refused(call("~no-such-user/dpo-tui", "inspect", str(config)), "no home folder ~no-such-user")


def test_no_module_expands_a_home_folder_by_itself() -> None:
    for module in (ROOT / "dpo_tui").rglob("*.py"):
        if module.name != "paths.py":
            text = module.read_text(encoding="utf-8")
            assert ".expanduser(" not in text and "Path.home(" not in text, f"{module}: paths.expanded does not raise"


def test_a_home_below_a_file_is_refused_in_words(tmp_path: Path, tiny_pairs: Path, config: str) -> None:
    home = tmp_path / "file"
    home.write_text("")
    for command in (
        ("runs",),
        ("status", "last"),
        ("train", config, "--detach"),
        ("inspect", str(tiny_pairs)),
    ):
        assert_refused(call(str(home / "dpo-tui"), *command), "Not a directory")


def test_root_that_may_not_write_a_network_disk_is_told_why(tmp_path: Path, tiny_pairs: Path, config: str) -> None:
    home = tmp_path / "refused"
    home.mkdir(mode=0o700)
    before: list[str] = []
    if ROOT_USER:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv")
        os.chown(home, NOBODY, NOBODY)
        before = WITHOUT_OVERRIDE
    else:
        home.chmod(0)
    for command in (("runs",), ("demo", "--no-tui"), ("train", config, "--detach"), ("inspect", str(tiny_pairs))):
        result = call(str(home / "dpo-tui"), *command, before=before)
        assert_refused(result, "Permission denied")
        assert ("root_squash" in result.stderr) == ROOT_USER


@pytest.mark.parametrize(("options", "reason"), [("ro", "Read-only"), ("size=64k", "No space left")])
def test_a_disk_that_takes_nothing_is_named(
    tmp_path: Path, tiny_pairs: Path, config: str, options: str, reason: str
) -> None:
    if not ROOT_USER or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    home = tmp_path / "disk"
    home.mkdir()
    mounted = f"mount -t tmpfs -o {options} tmpfs {home} && "
    fill = "" if options == "ro" else f"dd if=/dev/zero of={home}/full bs=1k 2>/dev/null; "
    before = ["unshare", "-m", "sh", "-c", f'{mounted}{{ {fill}exec "$@"; }}', "sh"]
    for command in (("demo", "--no-tui"), ("train", config, "--detach"), ("inspect", str(tiny_pairs))):
        assert_refused(call(str(home / "dpo-tui"), *command, before=before), reason)
    # What only reads has nothing to read, and says that.
    assert "No runs yet" in call(str(home / "dpo-tui"), "runs", before=before).stderr


def test_an_error_of_the_file_system_below_the_home_names_what_to_set(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _print_file_system_error(PermissionError(errno.EACCES, "Permission denied", str(home / "themes")))
    assert SETTING in capsys.readouterr().err
    _print_file_system_error(PermissionError(errno.EACCES, "Permission denied", "/elsewhere"))
    assert capsys.readouterr().err == "error: /elsewhere: Permission denied\n"


def test_the_doctor_finds_a_folder_that_it_may_not_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> bool:
        if self.is_relative_to(tmp_path / "closed" / "x"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return os.path.exists(self)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "closed" / "x" / "dpo-tui"))
    assert findings()["disk-runs"].check == "disk-runs"
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied"))
    )
    found = findings()["disk-runs"]
    assert found.status == "fail" and "Permission denied" in found.message and SETTING in found.fix


def test_runs_on_the_disk_of_a_container_beside_a_volume_are_remarked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "dpo_tui.hardware.doctor.machine"
    monkeypatch.setattr(f"{module}._VOLUME", tmp_path)
    assert "volume" not in findings(), "a folder that nothing is mounted on is no volume"
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    monkeypatch.setattr(f"{module}._device_of", lambda path: 2 if path.is_relative_to(tmp_path) else 1)
    monkeypatch.setenv("DPO_TUI_HOME", "/root/dpo-tui")
    assert findings()["volume"].fix == f"export DPO_TUI_HOME={tmp_path}/dpo-tui HF_HOME={tmp_path}/huggingface"
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "dpo-tui"))
    assert "volume" not in findings()


def test_the_reason_decides_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def hint(number: int, user: int) -> str:
        monkeypatch.setattr(os, "geteuid", lambda: user)
        error = paths.home_error("cannot", OSError(number, os.strerror(number)))
        assert isinstance(error, HomeError) and SETTING in str(error.hint)
        return str(error.hint)

    assert "root_squash" in hint(errno.EACCES, 0) and "root_squash" not in hint(errno.EACCES, 1000)
    assert "Free some space" in hint(errno.ENOSPC, 0) and "Free some space" not in hint(errno.EROFS, 0)
