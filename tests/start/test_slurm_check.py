"""What Slurm will not take is refused before a run is made, in the same words by every command."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import load
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.job_gpu import gpu_type, gres_gpus, job_inventory
from dpo_tui.runs import store
from dpo_tui.start import slurm_check
from dpo_tui.start.prepare import prepare
from dpo_tui.start.slurm_check import check_launcher, file_system_type
from tests.support.basic_config import config
from tests.support.command_line import CommandLine, command_line
from tests.support.training import make_config

HERE = os.uname().nodename
FakeSlurm = Callable[..., None]


@pytest.fixture(name="dpo_tui")
def call_in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(monkeypatch, capsys)


@pytest.fixture(name="fake_slurm")
def slurm_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Put an sinfo and an sbatch before all others that answer what the test wants."""
    folder = tmp_path / "fake-slurm"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def install(
        partitions: str = f"gpu|{HERE}\ngpu|{HERE}\ncpu|{HERE}", refusal: str = "", sinfo_fails: bool = False
    ) -> None:
        answers = {
            "sinfo": "echo 'sinfo: error: Unable to contact slurm controller' >&2; exit 1"
            if sinfo_fails
            else f"cat <<'EOF'\n{partitions}\nEOF",
            "sbatch": f"echo 'sbatch: error: {refusal}' >&2; exit 1" if refusal else "cat > /dev/null",
        }
        for name, body in answers.items():
            (folder / name).write_text(f"#!/bin/bash\n{body}\n")
            (folder / name).chmod(0o755)

    return install


def config_file(folder: Path, model: Path, pairs: Path, **changes: Any) -> Path:
    path = folder / "run.toml"
    path.write_text(to_toml(make_config(model, pairs, **changes)), encoding="utf-8")
    return path


def test_a_run_of_this_machine_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert check_launcher(config()) == ()


def test_a_machine_without_slurm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="this machine has no sbatch") as caught:
        check_launcher(config(launcher="slurm"))
    assert caught.value.exit_code == 2
    assert "login node" in str(caught.value.hint)


@pytest.mark.usefixtures("home")
def test_an_unknown_partition_is_refused_with_those_there_are(fake_slurm: FakeSlurm) -> None:
    fake_slurm()
    assert check_launcher(config(launcher="slurm", partition="cpu,gpu", gpus="none")) == ()
    with pytest.raises(ConfigError, match="no partition 'gpus'") as caught:
        check_launcher(config(launcher="slurm", partition="gpu,gpus"))
    assert caught.value.hint == "It has cpu, gpu."


@pytest.mark.usefixtures("home")
def test_a_controller_that_does_not_answer_is_refused_in_its_own_words(fake_slurm: FakeSlurm) -> None:
    fake_slurm(sinfo_fails=True)
    with pytest.raises(ConfigError, match="Slurm does not answer: sinfo: error: Unable to contact slurm controller"):
        check_launcher(config(launcher="slurm"))


@pytest.mark.usefixtures("home")
def test_what_slurm_will_never_take_is_refused_and_what_may_change_is_a_note(fake_slurm: FakeSlurm) -> None:
    wanted = config(launcher="slurm", gres="gpu:1")
    fake_slurm(refusal="Invalid generic resource (gres) specification")
    with pytest.raises(ConfigError, match=r"Slurm does not take this job: .*Invalid generic resource \(gres\)"):
        check_launcher(wanted)
    fake_slurm(refusal="Nodes required for job are DOWN")
    assert check_launcher(wanted) == (
        "Slurm could not start this job now: sbatch: error: Nodes required for job are DOWN",
    )


@pytest.mark.usefixtures("home")
def test_a_job_without_a_gpu_is_noted_and_one_with_others_than_the_run_trains_on_refused(fake_slurm: FakeSlurm) -> None:
    fake_slurm()
    assert "The job asks for no GPU" in check_launcher(config(launcher="slurm"))[0]
    assert check_launcher(config(launcher="slurm", gres="gpu:a100:1")) == ()
    assert check_launcher(config(launcher="slurm", gres="gpu:a100:4", gpu_count=4)) == ()
    assert check_launcher(config(launcher="slurm", gres="gpu:a100:4", gpus="all")) == ()
    with pytest.raises(ConfigError, match="asks Slurm for 4 GPUs, and the run trains on 1"):
        check_launcher(config(launcher="slurm", gres="gpu:a100:4"))
    with pytest.raises(ConfigError, match="asks Slurm for 1 GPU, and the run trains on 0"):
        check_launcher(config(launcher="slurm", gres="gpu", gpus="none"))
    with pytest.raises(ConfigError, match="asks Slurm for 0 GPUs, and the run trains on 2"):
        check_launcher(config(launcher="slurm", gpu_count=2))


@pytest.mark.parametrize(
    ("home", "kind", "expected"),
    [
        ("/tmp/x", "ext4", "refused"),  # noqa: S108
        ("/dev/shm/x", "tmpfs", "refused"),  # noqa: S108
        ("/home/me/x", "tmpfs", "refused"),
        ("/home/me/x", "nfs4", "quiet"),
        ("/home/me/x", "fuse.sshfs", "quiet"),
        ("/tmp/x", "lustre", "quiet"),  # noqa: S108
        ("/home/me/x", "xfs", "noted"),
    ],
)
def test_a_home_that_other_nodes_cannot_see_is_refused(
    fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, home: str, kind: str, expected: str
) -> None:
    monkeypatch.setenv("DPO_TUI_HOME", home)
    monkeypatch.setattr(slurm_check, "file_system_type", lambda path: kind)
    fake_slurm(partitions="gpu|node1\ngpu|node2")
    wanted = config(launcher="slurm", gres="gpu:1")
    if expected == "refused":
        with pytest.raises(ConfigError, match="a job on another node would not find its run"):
            check_launcher(wanted)
    else:
        assert [note for note in check_launcher(wanted) if home in note] == (
            [f"{home} lies on a xfs file system: that works only if the nodes see the same folder there."]
            if expected == "noted"
            else []
        )
    fake_slurm()
    assert check_launcher(wanted) == (), "a cluster of this one machine shares every folder"


def test_the_file_system_of_a_folder_is_that_of_the_mount_it_lies_in() -> None:
    assert file_system_type(Path("/proc/self")) == "proc"
    assert file_system_type(Path("/proc/not/there/yet")) == "proc"


@pytest.mark.parametrize(
    ("gres", "count", "kind"),
    [(None, 0, ""), ("gpu", 1, ""), ("gpu:2", 2, ""), ("gpu:a100", 1, "a100"), ("shard:1,gpu:h100:2", 2, "h100")],
)
def test_gres_says_how_many_gpus_of_which_type(gres: str | None, count: int, kind: str) -> None:
    wanted = config(gres=gres)
    assert (gres_gpus(wanted), gpu_type(wanted)) == (count, kind)


def test_the_gpu_of_a_job_is_described_and_not_read() -> None:
    known = job_inventory(config(gres="gpu:h100:1")).gpus[0]
    assert (known.memory_total, known.compute_capability) == (80_000_000_000, (9, 0))
    assert job_inventory(config(gres="gpu:a100:1", gpu_memory=40.0)).gpus[0].memory_total == 40_000_000_000
    unknown = job_inventory(config(gres="gpu:a100:1")).gpus[0]
    assert (unknown.memory_total, unknown.faults["memory"].reason) == (None, "set gpu_memory in [slurm]")
    assert job_inventory(config(gpus="none")).gpus == ()
    assert [gpu.index for gpu in job_inventory(config(gres="gpu:l4:2", gpu_count=2)).gpus] == [0, 1]


@pytest.mark.usefixtures("home")
def test_every_command_refuses_the_same_before_a_run_is_made(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, dpo_tui: CommandLine, fake_slurm: FakeSlurm
) -> None:
    fake_slurm()
    path = config_file(tmp_path, tiny_model, tiny_pairs, launcher="slurm", partition="nowhere")
    for command in (["train", str(path)], ["config", "check", str(path)], ["estimate", str(path)]):
        code, _, err = dpo_tui(*command)
        assert (code, "Slurm has no partition 'nowhere'" in " ".join(err.split())) == (2, True), command
    assert store.all_runs() == []


@pytest.mark.usefixtures("home")
def test_a_dry_run_prints_a_script_and_makes_nothing(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, dpo_tui: CommandLine, fake_slurm: FakeSlurm
) -> None:
    fake_slurm()
    path = config_file(tmp_path, tiny_model, tiny_pairs)
    code, out, err = dpo_tui("train", str(path), "--launcher", "slurm", "--dry-run", "--set", "time=1-00:00:00")
    assert code == 0, err
    assert out.startswith("#!/bin/bash\n") and "#SBATCH --time=1-00:00:00\n" in out
    assert "exec " in out and "-m dpo_tui.runs.supervisor" in out and out.rstrip().endswith("/runs/RUN-ID")
    assert err.rstrip().endswith("nothing was started")
    assert store.all_runs() == []


@pytest.mark.usefixtures("home")
def test_a_prepared_job_names_no_gpu_of_the_login_node(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on this machine, which is not the job's
    path = config_file(tmp_path, tiny_model, tiny_pairs, launcher="slurm", gres="gpu:l4:1", gpus="auto", profile="auto")
    prepared = prepare(load(path))
    assert (prepared.devices, prepared.device_request) == ((), None)
    assert prepared.notes[0].startswith("the job's l4, 24.0 GB, 24.0 free → ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time", "4h"),
        ("time", "0"),
        ("gres", "gpu:1:a100"),
        ("mem", "64GB"),
        ("partition", "a b"),
        ("account", "x\n#SBATCH --uid=0"),
        ("qos", '"'),
        ("sbatch_options", ["--output=x"]),
        ("sbatch_options", ["--part=x"]),
        ("sbatch_options", ["--comment=$(id) x"]),
        ("nodes", 0),
        ("gpus", "1"),
    ],
)
def test_a_value_that_a_job_cannot_have_is_no_config(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        config(**{"launcher": "slurm", name: value})
