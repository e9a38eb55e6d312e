"""Export of a run as GGUF: merged, written, read again, compared; what cannot work is refused before the merge."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.errors import TrainingError, UsageError
from dpo_tui.runs import store
from dpo_tui.runs.folder import RunFolder
from tests.support import families
from tests.support.training import finished_run

gguf = pytest.importorskip("gguf")

TEXT = "please reset my password 333"


@pytest.fixture(autouse=True)
def no_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has installed plays no part."""
    monkeypatch.setenv("DPO_TUI_LLAMA_CPP", "none")


def export(folder: RunFolder, target: Path, chosen: str, **changes: Any) -> dict[str, Any]:
    from dpo_tui.train.tools.export_run import export as run_export

    request = {"run": str(folder.path), "target": str(target), "merge": False, "precision": "bf16", "gguf": chosen}
    return run_export(request | changes, lambda *_: None)


def logits(model: Any, tokenizer: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(**tokenizer(TEXT, return_tensors="pt")).logits


@pytest.mark.parametrize(
    ("family", "chosen", "bound", "changes"),
    [
        ("llama", "f16", 0.02, {}),
        pytest.param("llama", "bf16", 0.15, {"use_4bit": True}, marks=pytest.mark.slow),
        ("llama-tied", "q8_0", 0.3, {"use_dora": True, "eos_token": "<|user|>"}),
        pytest.param("mistral", "f16", 0.02, {}, marks=pytest.mark.slow),
        pytest.param("qwen2", "q8_0", 0.3, {"eos_token": "<|user|>"}, marks=pytest.mark.slow),
        pytest.param("qwen3", "bf16", 0.15, {}, marks=pytest.mark.slow),
        pytest.param("gemma2", "q8_0", 0.3, {}, marks=pytest.mark.slow),
        ("gemma3-text", "f16", 0.02, {"use_lora": False, "learning_rate": 1e-3}),
    ],
)
def test_the_file_says_what_base_and_adapter_say(
    *, home: Path, tiny_pairs: Path, tmp_path: Path, family: str, chosen: str, bound: float, changes: dict[str, Any]
) -> None:
    """Bounds are shares of what the training changes: rounding to 16 bits and to 8 takes its part of it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LlamaConfig

    from dpo_tui.train.model.load import disable_4bit_repacking

    base = families.build(family, tmp_path / "base")
    folder = finished_run(base, tiny_pairs, **changes)
    target = tmp_path / "out"
    result = export(folder, target, chosen)
    options: dict[str, Any] = {"dtype": torch.float32}
    if changes.get("use_4bit"):
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    lora = changes.get("use_lora", True)
    tokenizer = AutoTokenizer.from_pretrained(folder.adapter if lora else folder.merged)
    bare = AutoModelForCausalLM.from_pretrained(base, **options)
    disable_4bit_repacking(bare)
    config: Any = bare.config
    before = logits(bare, tokenizer)
    if lora:
        trained = PeftModel.from_pretrained(bare, str(folder.adapter))
    else:
        trained = AutoModelForCausalLM.from_pretrained(folder.merged, dtype=torch.float32)
    expected = logits(trained, tokenizer)
    if config.model_type == "mistral":
        values = config.to_dict()
        config = LlamaConfig(**{key: values[key] for key in values if key not in ("model_type", "sliding_window")})
    config.quantization_config = None
    del config.quantization_config
    read = AutoModelForCausalLM.from_pretrained(
        target, gguf_file=f"tiny-{chosen}.gguf", config=config, dtype=torch.float32
    )
    moved = float((expected - before).norm())
    assert moved > 1e-2, "the training must matter, or agreeing proves nothing"
    assert float((logits(read, tokenizer) - expected).norm()) < bound * moved
    assert "all" in result["check"]
    assert "logits differ by at most" in result["check"]
    fields = gguf.GGUFReader(target / f"tiny-{chosen}.gguf").fields
    number = fields["tokenizer.ggml.eos_token_id"].contents()
    assert number == tokenizer.convert_tokens_to_ids(changes.get("eos_token", "<|end|>"))


@pytest.mark.usefixtures("tools_in_process")
def test_the_folder_has_one_file_of_weights_a_card_and_a_receipt(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """By the command; `verify` compares its files by the receipt's checksums."""
    folder = finished_run(tiny_model, tiny_pairs)
    target = tmp_path / "out"
    done = CliRunner().invoke(cli, ["export", "last", "--to", str(target), "--gguf", "q8_0"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"llama-server -m {target}/tiny-q8_0.gguf" in done.stderr
    assert "Read again: all 21 tensors hold the model's values." in done.stderr
    assert "beyond the rounding to q8_0" in done.stderr
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "curves.svg", "dpo-tui-export.json", "tiny-q8_0.gguf",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".out*")), "the merged model on the way is gone"
    record = json.loads((target / "dpo-tui-export.json").read_text())
    assert record["what"] == "gguf"
    assert set(record["crc32"]) == {"README.md", "curves.svg", "tiny-q8_0.gguf"}
    card = (target / "README.md").read_text()
    assert "library_name: gguf" in card
    assert "A model as a GGUF file" in card
    assert "llama-server -m THIS_FOLDER/tiny-q8_0.gguf" in card
    assert "vllm" not in card

    verified = CliRunner().invoke(cli, ["verify", str(target)], catch_exceptions=False)
    assert verified.exit_code == 0, verified.output
    assert "checksums (CRC-32)" in verified.output
    assert "21 tensors without NaN" in verified.output
    whole = (target / "tiny-q8_0.gguf").read_bytes()
    (target / "tiny-q8_0.gguf").write_bytes(whole[:-64] + bytes(64))
    verified = CliRunner().invoke(cli, ["verify", str(target)], catch_exceptions=False)
    assert verified.exit_code == 1
    assert "not as exported" in verified.output
    assert folder.adapter.is_dir()


def test_a_model_that_cannot_be_written_is_refused_before_it_is_merged(
    home: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.export.gguf import gguf_export

    folder = finished_run(families.build("phi3", tmp_path / "base"), tiny_pairs)
    monkeypatch.setattr(gguf_export, "write_merged_model", lambda *_: pytest.fail("merged"))
    with pytest.raises(UsageError, match="a model of the type phi3 cannot be written") as refused:
        export(folder, tmp_path / "out", "f16")
    assert "python convert_hf_to_gguf.py DIR --outfile NAME.gguf --outtype f16" in str(refused.value.hint)
    assert not list(tmp_path.glob("*out*"))


def test_a_full_disk_is_known_before(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.export.gguf import gguf_export

    folder = finished_run(tiny_model, tiny_pairs)
    monkeypatch.setattr(gguf_export.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**8))  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"needs 0\.3 GB under .*, and 0\.1 GB are free"):
        export(folder, tmp_path / "not" / "there" / "yet", "f16")
    assert not (tmp_path / "not").exists()


def test_what_is_wrong_leaves_nothing_behind(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.export.gguf.gguf_families import GgufFamily

    folder = finished_run(tiny_model, tiny_pairs)
    monkeypatch.setattr(GgufFamily, "stored", lambda self, name, tensor, config: tensor)
    with pytest.raises(TrainingError, match="does not say what the model says"):
        export(folder, tmp_path / "out", "f16")
    assert not list(tmp_path.glob("*out*"))


CONVERTER = """
import argparse, pathlib, shutil
parser = argparse.ArgumentParser()
parser.add_argument("model")
for name in ("--outfile", "--outtype", "--model-name"):
    parser.add_argument(name)
given = parser.parse_args()
assert (pathlib.Path(given.model) / "model.safetensors").is_file() and given.model_name == "tiny"
shutil.copy(f"WRITTEN/{given.outtype}.gguf", given.outfile)
"""
"""It copies what was written before instead of importing torch to write it."""


def test_the_converter_of_llama_cpp_is_used_where_it_is_and_its_file_is_compared(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the arguments of the real one; then one that fails, and one that writes another model."""
    from dpo_tui.train.export.gguf.gguf_file import GgufModel, write_gguf

    folder = finished_run(tiny_model, tiny_pairs)
    written = tmp_path / "written"
    export(folder, written, "q8_0")
    (written / "tiny-q8_0.gguf").rename(written / "q8_0.gguf")
    write_gguf(GgufModel(tiny_model), written / "f16.gguf", "f16", "tiny")
    converter = CONVERTER.replace("WRITTEN", str(written))
    checkout = tmp_path / "llama cpp; echo"
    checkout.mkdir()
    script = checkout / "convert_hf_to_gguf.py"
    script.write_text(converter)
    monkeypatch.setenv("DPO_TUI_LLAMA_CPP", str(checkout))
    result = export(folder, tmp_path / "out", "q8_0")
    assert result["check"].startswith("Compared with base + adapter")
    assert "Written by llama.cpp's convert_hf_to_gguf.py. Read again: all 21 tensors" in result["check"]

    script.write_text("import sys\nsys.exit('NotImplementedError: no such\\x1b[2J architecture')\n")
    with pytest.raises(TrainingError, match="failed: NotImplementedError: no such") as failed:
        export(folder, tmp_path / "out2", "q8_0")
    assert "\x1b" not in str(failed.value)
    assert "DPO_TUI_LLAMA_CPP=none" in str(failed.value.hint)

    script.write_text(converter)
    with pytest.raises(TrainingError, match="has other values than the model"):
        export(folder, tmp_path / "out3", "f16")
    assert not list(tmp_path.glob("*out[23]*"))

    monkeypatch.setenv("DPO_TUI_LLAMA_CPP", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"there is no convert_hf_to_gguf\.py"):
        export(folder, tmp_path / "out4", "f16")


def test_a_converter_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dpo_tui.train.export.gguf.llama_cpp import find_converter

    monkeypatch.delenv("DPO_TUI_LLAMA_CPP")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_converter() is None
    command = tmp_path / "convert_hf_to_gguf.py"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    assert find_converter() == [str(command)]


def test_two_types_for_the_weights_are_refused(home: Path, tmp_path: Path) -> None:
    store.create('[model]\nmodel_name = "m"\n', name="over", devices=[])
    arguments = ["export", "last", "--to", str(tmp_path / "out"), "--gguf", "f16", "--precision", "fp32"]
    with pytest.raises(UsageError, match="name two types"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
