"""Export: an adapter merged shard by shard says what base and adapter say, and the folder is complete."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import from_values
from dpo_tui.errors import RunError, TrainingError, UsageError
from dpo_tui.processes.json_child import ChildError
from dpo_tui.runs import store
from dpo_tui.runs.naming import rename
from dpo_tui.train.export.serving_commands import ServedModel, commands, vllm_rank
from tests.support.tiny import save_sharded
from tests.support.training import finished_run


def logits(model: Any, text: str, tokenizer: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(**tokenizer(text, return_tensors="pt")).logits


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"use_dora": True},
        {"modules_to_save": ["embed_tokens"], "lora_target_modules": ["q_proj", "up_proj"]},
        {"use_4bit": True},
    ],
    ids=["lora", "rank-stabilised", "dora", "modules-to-save", "nf4"],
)
def test_the_merged_model_gives_the_logits_of_base_and_adapter(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Loads in plain transformers; ≤ 1e-3 in fp32 against PEFT's own forward; a base of several files."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from dpo_tui.train.model.load import disable_4bit_repacking
    from dpo_tui.train.tools.export_run import export

    base = save_sharded(tiny_model, tmp_path / "base")
    folder = finished_run(base, tiny_pairs, **changes)
    target = tmp_path / "merged"
    request = {"run": str(folder.path), "target": str(target), "merge": True, "precision": "fp32"}
    result = export(request, lambda kind, message: None)

    options: dict[str, Any] = {"dtype": torch.float32}
    if changes.get("use_4bit"):
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    tokenizer = AutoTokenizer.from_pretrained(target)
    bare = AutoModelForCausalLM.from_pretrained(base, **options)
    disable_4bit_repacking(bare)  # the inference kernel of processors with AVX512-BF16 computes in bf16
    unchanged = logits(bare, "please reset my password", tokenizer)
    apart = logits(PeftModel.from_pretrained(bare, str(folder.adapter)), "please reset my password", tokenizer)
    merged = AutoModelForCausalLM.from_pretrained(target)
    assert merged.dtype == torch.float32
    together = logits(merged, "please reset my password", tokenizer)
    assert (together - apart).abs().max() <= 1e-3
    assert (apart - unchanged).abs().max() > 1e-2, "the adapter must matter, or agreeing proves nothing"
    assert "logits differ by at most" in result["check"]
    assert len(list(target.glob("*.safetensors"))) > 1
    assert not list(target.glob("*.bin"))


def test_the_folder_is_complete_and_its_card_tells_all(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """Data hash, settings, metrics, curves, the base's licence, commands to serve; no path of this machine."""
    from transformers import AutoTokenizer

    from dpo_tui.train.tools.export_run import export

    base = save_sharded(tiny_model, tmp_path / "base")
    folder = finished_run(base, tiny_pairs)
    rename(folder, "the good one")
    target = tmp_path / "out"
    export({"run": str(folder.path), "target": str(target), "merge": True, "precision": "bf16"}, lambda *_: None)

    present = {path.name for path in target.iterdir()}
    template = (target / "chat_template.jinja").read_text()
    assert json.loads((target / "tokenizer_config.json").read_text())["chat_template"] == template, "for Ollama"
    assert AutoTokenizer.from_pretrained(target).chat_template == template
    assert present >= {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "curves.svg"}
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"
    card = (target / "README.md").read_text()
    receipt = json.loads(folder.receipt.read_text())
    assert "\n# the good one\n" in card
    assert receipt["data"]["sha256"] in card
    assert "license: llama3.1" in card
    assert "Toy Licence" in card
    assert "| eval_rewards/accuracies |" in card
    assert "β 0.1 · loss sigmoid" in card
    assert "logits differ by at most" in card
    assert all(program in card for program in ("vLLM", "llama.cpp", "Ollama"))
    assert str(tmp_path) not in card
    picture = ElementTree.parse(target / "curves.svg")  # noqa: S314 - our own file
    lines = picture.iter("{http://www.w3.org/2000/svg}polyline")
    assert sum(1 for _ in lines) >= 5


def test_a_merge_that_does_not_agree_leaves_nothing_behind(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is real: with the adapter's strength read wrong, it refuses."""
    from dpo_tui.train.export import adapted_layers
    from dpo_tui.train.tools.export_run import export

    folder = finished_run(tiny_model, tiny_pairs)
    merge_layer = adapted_layers.merge_layer

    def merge_at_half_the_strength(layer: Any, tensors: Any) -> Any:
        layer.scaling["default"] = 0.5
        return merge_layer(layer, tensors)

    monkeypatch.setattr(adapted_layers, "merge_layer", merge_at_half_the_strength)
    request = {"run": str(folder.path), "target": str(tmp_path / "out"), "merge": True, "precision": "fp32"}
    with pytest.raises(TrainingError, match="does not agree"):
        export(request, lambda *_: None)
    assert not list(tmp_path.glob("*out*"))


def test_an_adapter_of_another_model_is_refused(home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from dpo_tui.train.tools.export_run import export

    folder = finished_run(tiny_model, tiny_pairs)
    weights = load_file(folder.adapter / "adapter_model.safetensors")
    wrong = {name.replace("layers.1", "layers.9"): weight for name, weight in weights.items()}
    save_file(wrong, folder.adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    request = {"run": str(folder.path), "target": str(tmp_path / "out"), "merge": True, "precision": "fp32"}
    with pytest.raises(TrainingError, match=r"layers\.9"):
        export(request, lambda *_: None)
    assert not list(tmp_path.glob("*out*"))


def test_the_command_exports_an_adapter_in_a_child_and_says_how_to_serve_it(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    folder = finished_run(tiny_model, tiny_pairs, eval_split=0.0)
    target = tmp_path / "adapter"
    done = CliRunner().invoke(cli, ["export", folder.id, "--to", str(target)], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.strip() == str(target)
    assert re.search(r"vllm serve .* --lora-modules tiny=", done.stderr)
    assert (target / "adapter_model.safetensors").is_file()
    assert "library_name: peft" in (target / "README.md").read_text()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["adapter"], "works with its base me/base, or merged into it"),
        (["adapter", "merged"], "merged/ is the whole model, base and adapter in one"),
        (["merged"], "there is nothing to merge"),
        ([], ""),
    ],
)
def test_a_run_that_is_done_says_what_there_is_to_merge(
    home: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str], message: str
) -> None:
    """What there is to merge is said at the end of every run, and by `status` as long as it is there."""
    monkeypatch.setenv("COLUMNS", "200")
    folder = store.create('[model]\nmodel_name = "m"\n', name="over", devices=[])
    folder.state.write_text(json.dumps({**json.loads(folder.state.read_text()), "status": "done"}))
    for name in folders:
        (folder.path / name).mkdir()
    if "adapter" in folders:
        (folder.adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "me/base"}')
    stdout = CliRunner().invoke(cli, ["status", folder.id], catch_exceptions=False).stdout
    assert message in stdout
    assert ("Result:" in stdout) == bool(message)


def whole(**changes: Any) -> dict[str, list[str]]:
    return dict(commands(ServedModel(**{"folder": "/a b/out", "name": "my model", **changes})))


def test_a_whole_model_is_served_by_commands_that_a_shell_takes() -> None:
    """A folder with a space, and a name that no server takes as it is."""
    shown = whole()
    assert shown["vLLM"] == ["vllm serve '/a b/out' --served-model-name my-model"]
    assert shown["llama.cpp"][0] == "python convert_hf_to_gguf.py '/a b/out' --outfile my-model.gguf"
    assert shown["Ollama"][:2] == [
        "echo 'FROM /a b/out' > Modelfile", "ollama create my-model -f Modelfile && ollama run my-model",
    ]  # fmt: skip


def test_an_adapter_is_served_beside_its_base() -> None:
    shown = whole(base="me/base", rank=24)
    assert shown["vLLM"] == [
        "vllm serve me/base --enable-lora --max-lora-rank 32 --lora-modules my-model='/a b/out'"
    ], "vLLM takes 8, 16, 32, 64 … as the highest rank"
    assert shown["llama.cpp"][0] == "hf download me/base --local-dir base"
    assert "--base base " in shown["llama.cpp"][2]
    assert "merge first" in shown["Ollama"][0]
    local = whole(base="/models/base", local=True)["llama.cpp"]
    assert "--base /models/base " in local[1]
    assert [vllm_rank(rank) for rank in (1, 8, 16, 65, 512, 513)] == [8, 8, 16, 128, 512, None]


@pytest.mark.parametrize("setting", [{"use_dora": True}, {"modules_to_save": ["embed_tokens"]}])
def test_an_adapter_that_no_server_takes_is_to_be_merged(setting: dict[str, Any]) -> None:
    config = from_values({"model_name": "m", "dataset": "d", **setting})
    shown = commands(ServedModel.of(config, "x", "m"))
    assert all("merge first" in line for _, lines in shown for line in lines)


def test_what_cannot_be_exported_is_refused_at_once(home: Path, tmp_path: Path) -> None:
    folder = store.create('[model]\nmodel_name = "m"\n', name="new", devices=[])
    with pytest.raises(RunError, match="has no result yet"):
        CliRunner().invoke(cli, ["export", folder.id, "--to", str(tmp_path / "new")], catch_exceptions=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="is there already"):
        CliRunner().invoke(cli, ["export", folder.id, "--to", str(tmp_path / "full")], catch_exceptions=False)


@pytest.mark.usefixtures("tools_in_process")
def test_a_folder_that_cannot_be_made_is_named_and_no_log_that_there_is_not(home: Path, tmp_path: Path) -> None:
    folder = store.create('model_name = "m"\ndataset = "d"\n', name="new", devices=[])
    folder.adapter.mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ChildError, match=r"partial: Not a directory$"):
        CliRunner().invoke(cli, ["export", folder.id, "--to", str(tmp_path / "file" / "new")], catch_exceptions=False)
