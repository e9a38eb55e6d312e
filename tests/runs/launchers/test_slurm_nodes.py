"""Runs on several nodes: on a real Slurm of two nodes on one machine, and what is refused before anything trains."""

import json
import socket
import sys
from pathlib import Path

import pytest

from dpo_tui.config.files import from_values, load
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import RunError
from dpo_tui.runs import control_requests, start_run, store
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.launchers.node_probe import PROBE
from dpo_tui.runs.launchers.node_probe import main as probe
from dpo_tui.runs.launchers.slurm_nodes import (
    PORT_VARIABLE,
    NodeAnswer,
    NodesLauncher,
    parse_answers,
    rendezvous_port,
    require_alike,
)
from dpo_tui.runs.launchers.slurm_script import job_script
from dpo_tui.runs.ranks import read_reports
from dpo_tui.start.prepare import create_run, prepare
from tests.support import supervised_runs
from tests.support.repository import ROOT
from tests.support.several_processes import largest_difference, one_process, run_of
from tests.support.slurm_cluster import SlurmCluster, cluster_of_session, idle_cluster  # noqa: F401 - fixtures
from tests.support.supervised_runs import ended, fresh_home, state_of, until  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def names_of_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in ranks import this package; several minutes, since every node starts Python twice."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(supervised_runs, "PATIENCE", 300.0)


def submit(*options: str) -> RunFolder:
    """Submit a run of one stand-in rank on each of two nodes."""
    folder = store.create('[slurm]\nnodes = 2\nmem = "1500M"\n', name="two", devices=[], launcher="slurm", ranks=2)
    ranks = ROOT / "tests" / "support" / "standin_ranks.py"
    start_run.start(folder, [sys.executable, str(ranks), "rank", str(folder.path), *options])
    return folder


@pytest.mark.slow
def test_one_process_on_each_of_two_nodes_makes_one_run(slurm: SlurmCluster) -> None:
    folder = submit()
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    found = [(report.rank, report.local_rank, report.node, report.code) for report in read_reports(folder)]
    assert found == [(0, 0, "n1", 0), (1, 0, "n2", 0)]
    assert not (folder.path / PROBE).exists()


@pytest.mark.slow
def test_a_run_on_two_nodes_stops_when_the_login_node_asks(slurm: SlurmCluster) -> None:
    folder = submit("--hold")
    until(lambda: len(read_reports(folder)) == 2, "both ranks")
    control_requests.request_stop(folder)
    assert ended(folder).status == "stopped"
    assert [(report.node, report.code) for report in read_reports(folder)] == [("n1", 130), ("n2", 130)]


@pytest.mark.slow
def test_a_process_that_is_killed_on_the_other_node_is_named_with_it(slurm: SlurmCluster) -> None:
    folder = submit("--failing", "1", "--code", "-9")
    state = ended(folder)
    assert state.status == "failed"
    assert state.reason.startswith("rank 1 on n2 was killed or crashed (phase train, step 1)")
    assert "ranks/1.log may say why" in state.reason
    until(lambda: slurm.state_of(json.loads(folder.job.read_text())["id"]) != "RUNNING", "the job's end")


@pytest.mark.slow
@pytest.mark.parametrize("distributed", ["ddp", "fsdp2"])
def test_two_nodes_train_the_tiny_model_as_one_process_does(
    slurm: SlurmCluster,
    tiny_model: Path,
    tiny_pairs: Path,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    distributed: str,
) -> None:
    # Both nodes are this machine, whose name may resolve to no interface.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_TUI_HOME", str(tmp_path / "shape"))
        values = load(run_of(tiny_model, tiny_pairs, tmp_path, 2).config).config
    path = tmp_path / "nodes.toml"
    several = {"ranks": 1, "nodes": 2, "launcher": "slurm", "mem": "3000M", "distributed": distributed}
    path.write_text(to_toml(values.model_copy(update=several)))
    folder = create_run(prepare(load(path)))
    assert (state_of(folder).ranks, state_of(folder).launcher) == (2, "slurm")
    start_run.start(folder)
    state = ended(folder)
    assert (state.status, state.reason) == ("done", "")
    assert [report.node for report in read_reports(folder)] == ["n1", "n2"]
    receipt = json.loads(folder.receipt.read_text())
    assert (receipt["ranks"], receipt["effective_batch"]) == (2, 8)
    assert "on node n2" in folder.rank_log(1).read_text()
    assert largest_difference(one_process(tiny_model, tiny_pairs, tmp_path), folder) <= 1e-4


def test_nodes_count_only_in_a_job_and_each_has_as_many_processes() -> None:
    values = {"model_name": "m", "dataset": "d", "gpus": "none", "ranks": 2, "nodes": 3}
    with pytest.raises(InvalidConfigError, match=r'nodes.*needs launcher = "slurm"'):
        from_values(values)
    config = from_values({**values, "launcher": "slurm"})
    assert (config.node_processes, config.world_size) == (2, 6)


def test_the_script_asks_for_all_nodes_and_one_agent_on_each(tmp_path: Path) -> None:
    text = job_script(RunFolder(tmp_path), {"nodes": 3}, ["supervise"]).text
    assert "#SBATCH --nodes=3\n#SBATCH --ntasks=3\n#SBATCH --ntasks-per-node=1\n" in text
    assert "#SBATCH --nodes=1\n#SBATCH --ntasks=1\n#SBATCH --output" not in text


def test_a_node_says_whether_it_sees_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_tui.runs.launchers.node_probe._PATIENCE", 0.0)
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / PROBE).write_text("mine")
    for token in ("mine", "another's"):
        assert probe(str(tmp_path), token) == 0
    assert parse_answers("a module's greeting\n" + capsys.readouterr().out) == [
        NodeAnswer("n7", sees_folder=True, gpus=2),
        NodeAnswer("n7", sees_folder=False, gpus=2),
    ]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([NodeAnswer("n1", sees_folder=True, gpus=4)], r"1 of 2 nodes answered \(n1\): the others cannot start Python"),
        (
            [NodeAnswer("n1", sees_folder=True, gpus=4), NodeAnswer("n2", sees_folder=False, gpus=4)],
            "n2 does not see the run's folder",
        ),
        (
            [NodeAnswer("n1", sees_folder=True, gpus=4), NodeAnswer("n2", sees_folder=True, gpus=2)],
            "unlike numbers of GPUs on its nodes: n1 4, n2 2",
        ),
    ],
)
def test_nodes_that_cannot_train_together_are_refused(tmp_path: Path, answers: list[NodeAnswer], said: str) -> None:
    with pytest.raises(RunError, match=said):
        require_alike(RunFolder(tmp_path), answers, 2)


def test_a_port_in_use_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < rendezvous_port() < 65536
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv(PORT_VARIABLE, str(taken.getsockname()[1]))
        with pytest.raises(RunError, match=r"port \d+ of .*, where the nodes are to meet, cannot be used"):
            rendezvous_port()
    monkeypatch.setenv(PORT_VARIABLE, "http")
    with pytest.raises(RunError, match="is no port"):
        rendezvous_port()


def test_each_node_starts_its_share_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT_VARIABLE, "29511")
    folder = store.create("[slurm]\nnodes = 2\n", name="two", devices=[], launcher="slurm", ranks=8)
    argv = NodesLauncher(2).agent(state_of(folder), ["/env/bin/python", "-P", "-m", "dpo_tui.train", "RUN"])
    assert argv[:3] == ["srun", "--nodes=2", "--ntasks=2"]
    script = argv[argv.index("-c") + 1]
    assert "--nnodes=2 --nproc-per-node=4" in script and "--master-port=29511" in script
    assert argv[-5:] == ["/env/bin/python", "-P", "-m", "dpo_tui.train", "RUN"]
