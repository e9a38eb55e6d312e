"""Machines with GPUs of every kind: the real NVML binding on a stand-in for the driver library."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.demo.assets import model_dir, pairs_file
from dpo_tui.hardware import gpu_sampler, nvml
from dpo_tui.hardware.nvml import NO_ANSWER
from dpo_tui.processes.timed_call import TimedCall
from tests.support.nvml_standin import SCENARIOS, compiler, machine
from tests.support.supervised_runs import until

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here to build the stand-in driver library")
MIB = 1024**2


def dpo_tui(scenario: str, folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from dpo_tui.cli import main; main()", *arguments]
    return subprocess.run(
        command, env=machine(scenario, folder, **environ), capture_output=True, text=True, timeout=60, check=False
    )


def hardware(scenario: str, folder: Path, **environ: str) -> dict[str, Any]:
    finished = dpo_tui(scenario, folder, "hardware", "--json", **environ)
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    assert set(document) == {"gpus", "ram_gb", "profile"}
    assert set(document["profile"]) == {"name", "gpu", "reason", "settings"}
    return document


@pytest.mark.parametrize(
    ("scenario", "name", "gpu", "reason"),
    [
        ("rtx3060", "mid-range", 0, "RTX 3060, 12.9 GB"),
        ("rtx4070", "mid-range", 0, "RTX 4070, 12.9 GB, 11.8 free → mid-range"),
        ("rtx4080", "high-end", 0, "RTX 4080, 17.2 GB, 16.7 free → high-end"),
        ("t4", "high-end", 0, "16.1 GB"),
        ("rtx4090", "high-end", 0, "25.8 GB"),
        ("rtx2060", "reduced", 0, "DPO is not advised here"),
        ("a100x2", "high-end", 1, "GPU 1 of 2: GPU 0 has 21.0 GB free"),
        ("h100-mig", "reduced", 0, "no permission"),
        ("h100-mig-slices", "high-end", 0, "largest MIG slice"),
        ("busy", "mid-range", 0, "holds 12.4 GB"),
        ("full", "reduced", 0, "holds 10.8 GB"),
        ("driver-missing", "cpu", None, "driver is not loaded"),
        ("driver-mismatch", "cpu", None, "differ in version"),
        ("no-gpu", "cpu", None, "lists none"),
        ("lost", "cpu", None, "lost"),
        ("lost-later", "high-end", 0, "25.8 GB"),
        ("name-bytes", "high-end", 0, "RTX"),
        ("old-library", "high-end", 0, "25.8 GB"),
    ],
)
def test_every_box_gets_its_profile_and_the_reason(
    scenario: str, name: str, gpu: int | None, reason: str, tmp_path: Path
) -> None:
    """By decimal gigabytes, from free memory, with a sentence on the reason."""
    profile = hardware(scenario, tmp_path)["profile"]
    assert (profile["name"], profile["gpu"]) == (name, gpu)
    assert reason in profile["reason"]


def test_every_scenario_is_in_the_matrix_or_tested_by_itself() -> None:
    assert len(SCENARIOS) >= 13


def test_memory_and_names_come_through_the_binding(tmp_path: Path) -> None:
    """12,282 MiB are 12.88 decimal gigabytes."""
    (gpu,) = hardware("rtx4070", tmp_path)["gpus"]
    assert gpu["name"] == "NVIDIA GeForce RTX 4070"
    assert gpu["memory_total_gb"] == round(12282 * MIB / 1e9, 2) == 12.88
    assert gpu["memory_free_gb"] == round(11250 * MIB / 1e9, 2)
    assert gpu["compute_capability"] == "8.9"
    assert (gpu["driver"], gpu["cuda"]) == ("550.54.14", "12.4")
    assert (gpu["power_w"], gpu["power_limit_w"], gpu["temperature_c"]) == (21.0, 200.0, 41)
    assert gpu["faults"]["ecc"] == "not supported by this GPU"


def test_a_t4_is_told_that_it_falls_back_to_fp16(tmp_path: Path) -> None:
    """Compute capability 7.5 has no bfloat16."""
    document = hardware("t4", tmp_path)
    assert "falls back to fp16" in document["profile"]["reason"]
    assert document["gpus"][0]["fan_percent"] is None
    assert document["gpus"][0]["ecc"] is True


def test_who_holds_memory_is_named(tmp_path: Path) -> None:
    """Pid, user, command; a process of another container is said to be invisible."""
    ours, foreign = hardware("busy", tmp_path)["gpus"][0]["processes"]
    assert ours["memory_gb"] == round(11800 * MIB / 1e9, 2)
    own = " ".join(Path("/proc/self/cmdline").read_text().split("\0")).strip()
    assert ours["user"] and own.startswith(ours["command"][:60].rstrip("…"))
    assert foreign["memory_gb"] is None
    assert "another container" in foreign["reason"]


def test_mig_without_permission_is_a_value_with_a_reason(tmp_path: Path) -> None:
    (gpu,) = hardware("h100-mig", tmp_path)["gpus"]
    assert gpu["mig"] is True
    assert gpu["memory_total_gb"] is None
    assert "no permission" in gpu["faults"]["memory"]
    assert "no permission" in gpu["faults"]["mig_instances"]


def test_mig_slices_are_listed_and_the_largest_counts(tmp_path: Path) -> None:
    document = hardware("h100-mig-slices", tmp_path)
    assert [one["uuid"] for one in document["gpus"][0]["mig_instances"]] == ["MIG-small", "MIG-half"]
    assert "42.1 GB" in document["profile"]["reason"]


def test_unified_memory_is_the_machines_own(tmp_path: Path) -> None:
    """A GB10 has no memory counter; it shares the machine's memory."""
    document = hardware("gb10", tmp_path)
    assert document["gpus"][0]["memory_total_gb"] is None
    assert "memory shared with the CPU" in document["profile"]["reason"]
    expected = "high-end" if document["ram_gb"] > 16 else ("mid-range", "reduced")
    assert document["profile"]["name"] in expected


def test_a_library_that_lacks_a_function_still_tells_the_rest(tmp_path: Path) -> None:
    (gpu,) = hardware("old-library", tmp_path)["gpus"]
    assert gpu["clock_sm_mhz"] is None
    assert gpu["faults"]["clock_sm"] == "this driver is too old to tell"
    assert gpu["temperature_c"] == 41


def test_a_name_that_is_not_text_is_made_safe(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and an escape sequence in a name, neither crash nor reach the terminal."""
    (gpu,) = hardware("name-bytes", tmp_path)["gpus"]
    assert gpu["name"] == "NVIDIA Tit\ufffdn RTX"


def test_without_the_library_there_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    """A machine without a driver at all."""
    script = (
        "import sys; sys.modules['pynvml'] = None\n"
        "from dpo_tui.hardware import nvml\n"
        "found = nvml.read(); print(len(found.gpus), found.fault.kind)\n"
    )
    environ = machine("rtx4070", tmp_path)
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.stdout.split() == ["0", "other"], finished.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    without = dpo_tui("rtx4070", tmp_path, "hardware", "--json", LD_LIBRARY_PATH=str(empty))
    if "→ cpu" not in json.loads(without.stdout)["profile"]["reason"]:
        pytest.skip("this machine has a real driver library of its own")
    assert "libnvidia-ml.so.1" in json.loads(without.stdout)["profile"]["reason"]


def test_cuda_visible_devices_limits_the_choice(tmp_path: Path) -> None:
    """By index, by UUID, and hidden altogether."""
    assert hardware("a100x2", tmp_path, CUDA_VISIBLE_DEVICES="0")["profile"]["gpu"] == 0
    uuid = "GPU-00000001-0000"
    assert hardware("a100x2", tmp_path, CUDA_VISIBLE_DEVICES=uuid)["profile"]["gpu"] == 1
    hidden = hardware("a100x2", tmp_path, CUDA_VISIBLE_DEVICES="")["profile"]
    assert hidden["name"] == "cpu"
    assert "CUDA_VISIBLE_DEVICES hides" in hidden["reason"]


_SAMPLING = """
import json, time
from dpo_tui.hardware.gpu_sampler import Sampler
sampler = Sampler(interval=0.02, history=5)
sampler.start(); sampler.start()
assert sampler.wait(10)
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    last = sampler.latest(0)
    if len(sampler.history(0)) == 5 and (last.utilisation is None) == WANTS_LOST:
        break
    time.sleep(0.01)
sampler.stop()
last = sampler.latest(0)
print(json.dumps({"gpus": sampler.gpus, "kept": len(sampler.history(0)), "busy": last.utilisation,
    "memory": last.memory_used, "faults": {k: f.kind for k, f in last.faults.items()}, "reason": None}))
"""


def sampled(scenario: str, folder: Path, *, wants_lost: bool) -> dict[str, Any]:
    script = _SAMPLING.replace("WANTS_LOST", str(wants_lost))
    environ = machine(scenario, folder)
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


def test_the_sampler_keeps_a_ring_of_readings(tmp_path: Path) -> None:
    found = sampled("busy", tmp_path, wants_lost=False)
    assert found["gpus"] == [0]
    assert found["kept"] == 5
    assert found["busy"] == 88
    assert found["memory"] == (24564 - 12400) * MIB


def test_a_gpu_lost_in_mid_sampling_becomes_a_fault_and_the_thread_lives(tmp_path: Path) -> None:
    found = sampled("lost-later", tmp_path, wants_lost=True)
    assert found["kept"] == 5
    assert found["busy"] is None
    assert set(found["faults"].values()) == {"lost"}


def test_a_driver_that_does_not_even_begin_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs were listed, and then the session for their readings hangs."""
    answer = threading.Event()

    @contextlib.contextmanager
    def mute_session() -> Iterator[tuple[None, None]]:
        answer.wait()
        yield None, None

    monkeypatch.setattr(gpu_sampler, "session", mute_session)
    monkeypatch.setattr(gpu_sampler, "ANSWER_DEADLINE", -1.0)
    sampler = gpu_sampler.Sampler()
    assert sampler.latest(0) is None
    sampler.start()
    until(lambda: sampler.latest(0) is not None)
    last = sampler.latest(0)
    assert last is not None and last.faults == {"driver": NO_ANSWER}
    answer.set()
    assert sampler.wait(60)
    until(lambda: sampler.latest(0) is None)
    sampler.stop()


def test_a_driver_that_stops_answering_is_no_reading_and_holds_nobody(tmp_path: Path) -> None:
    """What was read before is not shown as what is now, and the app can be left."""
    script = (
        "import time\n"
        "from dpo_tui.hardware import gpu_sampler\n"
        "gpu_sampler.ANSWER_DEADLINE = 0.5\n"
        "sampler = gpu_sampler.Sampler(interval=0.02)\n"
        "sampler.start()\n"
        "while not (last := sampler.latest(0)) or not last.faults:\n"
        "    time.sleep(0.01)\n"
        "read = sampler.history(0)[:-1]\n"
        "begun = time.monotonic()\n"
        "sampler.stop()\n"
        "print(last.faults['driver'].kind, last.utilisation, last.t > read[-1].t, len(read), read[-1].utilisation)\n"
        "print(time.monotonic() - begun < 3)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env=machine("hangs-later", tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stdout.split() == ["no-answer", "None", "True", "4", "0", "True"], finished.stderr


def test_the_sampler_on_a_machine_without_a_driver_says_why(tmp_path: Path) -> None:
    script = (
        "from dpo_tui.hardware.gpu_sampler import Sampler\n"
        "s = Sampler(); s.start(); assert s.wait(10); s.stop(); print(s.fault.kind, s.gpus, s.latest(0))"
    )
    environ = machine("driver-missing", tmp_path)
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.stdout.split() == ["no-driver", "[]", "None"], finished.stderr


@pytest.mark.parametrize("scenario", ["a100x2", "busy", "h100-mig", "lost", "name-bytes", "driver-missing", "gb10"])
def test_the_text_fits_eighty_columns_and_carries_no_escape(scenario: str, tmp_path: Path) -> None:
    finished = dpo_tui(scenario, tmp_path, "hardware")
    assert finished.returncode == 0, finished.stderr
    assert max(len(line) for line in finished.stdout.splitlines()) <= 80
    assert "\x1b" not in finished.stdout
    assert "Profile" in finished.stdout


def test_hub_tokens_on_a_command_line_are_not_shown() -> None:
    """The command line of a process is shown without its access tokens."""
    secret = "hf_" + "a" * 30
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", f"--token={secret}"])
    try:
        from dpo_tui.hardware.process_description import describe

        holder = describe(sleeper.pid, 10)
        assert holder.command is not None
        assert "time.sleep" in holder.command
        assert secret not in holder.command
    finally:
        sleeper.kill()
        sleeper.wait()


SILENT = """
from dpo_tui.hardware import nvml
nvml._in_time.seconds = 0.3
from dpo_tui.cli import main
main()
"""


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["hardware"], 0, "nvidia-smi"),
        (["hardware", "--json"], 0, "has not answered"),
        (["doctor"], 1, "dmesg"),
        (["train", "c.toml", "--dry-run"], 0, "No GPU is used: the NVIDIA driver has not answered"),
        (["estimate", "c.toml"], 0, "No GPU is used: the NVIDIA driver has not answered"),
    ],
)
def test_a_driver_that_does_not_answer_holds_no_command(
    command: list[str], code: int, said: str, tmp_path: Path
) -> None:
    """Every call into it waits for ever, as one does with a GPU in trouble."""
    environment = machine("rtx4090", tmp_path)
    description = Path(environment["NVML_STANDIN"])
    description.unlink()
    os.mkfifo(description)  # whoever opens a pipe that nobody writes to waits for ever
    config = {"model_name": str(model_dir()), "dataset": str(pairs_file())}
    (tmp_path / "c.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items()))
    finished = subprocess.run(
        [sys.executable, "-c", SILENT, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == code, finished.stderr
    assert said in " ".join((finished.stdout + finished.stderr).split())


def test_a_driver_that_does_not_answer_is_asked_by_one_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that looks again and again would otherwise leave a thread behind each time."""
    answer = threading.Event()
    monkeypatch.setattr(nvml, "_in_time", TimedCall("nvml", 0.01))
    monkeypatch.setattr(nvml, "_read_all", lambda: answer.wait(60) and nvml.Inventory())
    kinds = [fault.kind if (fault := nvml.read().fault) else "" for _ in range(5)]
    asking = [one for one in threading.enumerate() if one.name == "nvml"]
    answer.set()
    for one in asking:
        one.join()
    assert (kinds, len(asking)) == (["no-answer"] * 5, 1)
    nvml._in_time.seconds = 60
    assert nvml.read() == nvml.Inventory(), "once it has answered it is asked again"
