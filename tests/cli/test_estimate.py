"""The command `estimate`: its JSON, its text, its refusals, and what it needs not import."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.cli import main
from dpo_tui.config.toml_text import to_toml
from dpo_tui.runs import store
from tests.support.basic_config import BASIC, config
from tests.support.repository import ROOT

ADVANCED = {
    **BASIC,
    "provider": "unsloth",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lora_r": 64,
    "lora_alpha": 128,
    "max_seq_length": 2048,
    "warmup_ratio": 0.1,
    "eval_split": 0.1,
}
LLAMA = str(BASIC["model_name"])


def dpo_tui(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in this process, in a folder and with a home and a hub cache of its own."""
    own = {"DPO_TUI_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf"), "COLUMNS": "80", **environ}
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["dpo-tui", *arguments])
        for name, value in own.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *texts)


def written(folder: Path, values: dict[str, Any], name: str = "config.json") -> str:
    (folder / name).write_text(json.dumps(values))
    return name


def answered(folder: Path, *arguments: str) -> dict[str, Any]:
    finished = dpo_tui(folder, "estimate", *arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout)
    return document


def test_a_stage_that_goes_on_from_a_run_is_estimated_by_that_runs_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merged model has the shape of the one it was made from."""
    monkeypatch.setenv("DPO_TUI_HOME", str(tmp_path / "home"))
    first = store.create(to_toml(config()), name="first", devices=[])
    plain = answered(tmp_path, written(tmp_path, BASIC), "--vram", "12")
    found = answered(tmp_path, written(tmp_path, {**BASIC, "model_name": f"run:{first.id}"}), "--vram", "12")
    assert found["parts"] == plain["parts"]
    alone = dpo_tui(tmp_path, "estimate", written(tmp_path, {**BASIC, "model_name": "previous"}))
    assert alone.returncode == 2 and "one config alone" in alone.stderr
    missing = dpo_tui(tmp_path, "estimate", written(tmp_path, {**BASIC, "model_name": "run:nope"}))
    assert missing.returncode == 3


def test_the_basic_config_on_a_12_gb_card_is_in_its_band(tmp_path: Path) -> None:
    """8–10 GB."""
    found = answered(tmp_path, written(tmp_path, BASIC), "--vram", "12")
    assert {"total_gb", "parts", "free_gb", "verdict", "changes", "steps", "seconds"} <= set(found)
    assert 8 <= found["total_gb"] <= 10
    assert sum(found["parts"].values()) == pytest.approx(found["total_gb"], abs=0.01)
    assert found["free_gb"] == 12
    assert found["verdict"] == "fits"
    assert found["changes"] == []


def test_the_advanced_config_is_explained_and_gets_changes_that_are_config_changes(tmp_path: Path) -> None:
    """Outside the band, part by part; each change applies as it stands."""
    found = answered(tmp_path, written(tmp_path, ADVANCED), "--vram", "16")
    assert found["verdict"] == "does-not-fit"
    assert "the band is for micro-batch 2" in found["band"]
    assert found["changes"][0]["set"] == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    for change in found["changes"]:
        assert {"set", "saves_gb", "words"} <= set(change)
        assert change["saves_gb"] > 0
        again = answered(tmp_path, written(tmp_path, {**ADVANCED, **change["set"]}, "again.json"), "--vram", "16")
        assert again["verdict"] in ("fits", "tight")


def test_without_a_gpu_main_memory_is_meant(tmp_path: Path) -> None:
    found = answered(tmp_path, written(tmp_path, {**BASIC, "gpus": "none", "use_4bit": False}))
    assert found["device"] == "cpu"
    assert found["parts"]["weights"] == pytest.approx(8.03 * 4, abs=0.1)
    assert found["free_gb"] > 0


@pytest.mark.parametrize(
    ("values", "arguments", "message"),
    [
        ({}, ["missing.json"], "no such file"),
        ({}, ["config.json", "--vram", "-3"], "above 0"),
        ({}, ["config.json", "--vram", "nan"], "above 0"),
        ({}, ["config.json", "--vram", "lots"], "not a valid float"),
        ({"model_name": "nobody/knows-this"}, ["config.json", "--vram", "12"], "dimensions are not known"),
        ({"model_name": "./no/such/folder"}, ["config.json", "--vram", "12"], "no such folder"),
        ({"lora_rank": 3}, ["config.json", "--vram", "12"], "lora_rank"),
    ],
)
def test_wrong_input_gets_one_clear_line(
    values: dict[str, Any], arguments: list[str], message: str, tmp_path: Path
) -> None:
    written(tmp_path, {**BASIC, **values})
    finished = dpo_tui(tmp_path, "estimate", *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "mixtral", "num_local_experts": 8, "hidden_size": 64}', "num_hidden_layers"),
        ('{"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2}', "vocab_size"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "hidden_size"),
        ("[1, 2]", "not an object"),
        ("{", "cannot be read"),
    ],
)
def test_a_model_without_dimensions_is_refused_by_name(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(content)
    finished = dpo_tui(tmp_path, "estimate", written(tmp_path, {**BASIC, "model_name": "model"}), "--vram", "12")
    assert finished.returncode == 2
    assert message in finished.stderr


def test_a_model_in_the_hub_cache_is_found_without_the_network(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--our--own" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    dimensions = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vocab_size": 32000,
        "tie_word_embeddings": True,
    }
    (snapshot / "config.json").write_text(json.dumps(dimensions))
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc123")
    found = answered(tmp_path, written(tmp_path, {**BASIC, "model_name": "our/own", "use_4bit": False}), "--vram", "12")
    weights = 8 * (4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024) + 32000 * 1024 + 1024
    assert found["parts"]["weights"] == pytest.approx(2 * weights / 1e9, abs=1e-4)


def test_the_data_is_counted_and_steps_follow(tmp_path: Path) -> None:
    """A tenth is held out; whole batches and accumulations are rounded up."""
    rows = [{"prompt": f"Question {n}", "chosen": "yes " * 20, "rejected": "no"} for n in range(101)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = answered(tmp_path, written(tmp_path, {**BASIC, "dataset": "pairs.jsonl"}), "--vram", "12")
    assert found["steps"] == 3 * 12  # 101 − 11 held out = 90 pairs, 45 batches of 2, 12 steps of 4
    assert found["tokens"] > 0
    low, high = found["seconds_range"]
    assert low < found["seconds"] < high
    assert "guess" in found["seconds_basis"]


def test_the_text_fits_eighty_columns(tmp_path: Path) -> None:
    for values in (BASIC, ADVANCED, {**BASIC, "use_lora": False, "use_4bit": False}):
        finished = dpo_tui(tmp_path, "estimate", written(tmp_path, values), "--vram", "8")
        assert finished.returncode == 0, finished.stderr
        assert max(len(line) for line in finished.stdout.splitlines()) <= 80
        assert "does not fit" in finished.stdout


def test_auto_profile_is_worked_in(tmp_path: Path) -> None:
    """--vram 16 is high-end, adapted until it fits."""
    values = {"model_name": LLAMA, "dataset": "-", "profile": "auto"}
    found = answered(tmp_path, written(tmp_path, values), "--vram", "16")
    assert found["verdict"] == "fits"
    assert any("high-end" in note for note in found["notes"])


def test_a_setting_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    name = written(tmp_path, BASIC)
    plain, long = (answered(tmp_path, name, "--vram", "12", *more) for more in ([], ["--set", "max_seq_length=2048"]))
    assert long["total_gb"] > plain["total_gb"]


def test_the_probe_without_a_gpu_is_one_clear_line(tmp_path: Path) -> None:
    finished = dpo_tui(tmp_path, "estimate", written(tmp_path, {**BASIC, "gpus": "none"}), "--probe")
    assert finished.returncode == 1
    assert "the probe needs a GPU" in finished.stderr


@pytest.mark.parametrize("command", [["hardware", "--json"], ["estimate", "config.json", "--vram", "12", "--json"]])
def test_the_commands_import_no_training_stack(command: list[str], tmp_path: Path) -> None:
    """Answers within a second need this."""
    written(tmp_path, BASIC)
    script = (
        "import sys\nfrom dpo_tui.cli import cli\n"
        f"cli.main({command!r}, standalone_mode=False)\n"
        "heavy = {*'torch transformers trl peft datasets numpy pyarrow textual'.split()} & set(sys.modules)\n"
        "sys.stderr.write('heavy: ' + ' '.join(sorted(heavy)))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "DPO_TUI_HOME": str(tmp_path / "home")}
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stderr.endswith("heavy: "), finished.stderr


def _estimated(tmp_path: Path, config: dict[str, object], *more: str) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    finished = dpo_tui(tmp_path, "estimate", written(tmp_path, {**BASIC, "model_name": "model"}), "--vram", "80", *more)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


_MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def test_a_mixture_of_experts_is_counted_with_all_and_with_active_weights(tmp_path: Path) -> None:
    """Mixtral 8x7B, as published: 46.7 billion, of which 12.9 are active."""
    shown = _estimated(tmp_path, _MIXTRAL)
    assert "46.70 B (12.88 B active)" in shown
    assert "they stay in 16 bit" in " ".join(shown.split())


def test_a_family_that_is_not_known_is_called_a_guess(tmp_path: Path) -> None:
    shown = " ".join(_estimated(tmp_path, {**_MIXTRAL, "model_type": "brandnew"}).split())
    assert "about 46.70 B" in shown
    assert "'brandnew' is unknown here and was counted like a Llama with experts: a guess" in shown


def test_weights_that_are_stored_in_4_bits_are_not_counted_in_16(tmp_path: Path) -> None:
    config = {**_MIXTRAL, "model_type": "llama", "num_local_experts": None, "quantization_config": {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True,
    }}  # fmt: skip
    found = json.loads(_estimated(tmp_path, config, "--json", "--set", "use_4bit=false"))
    assert found["parameters"] == pytest.approx(7.24e9, rel=0.001)
    assert found["parts"]["weights"] == pytest.approx(4.1, abs=0.1)
