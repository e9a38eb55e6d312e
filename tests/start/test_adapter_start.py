"""A run whose ``model_name`` is an adapter starts from base + adapter, merged, and has that as its reference."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dpo_tui.cli import cli
from dpo_tui.config.files import load
from dpo_tui.errors import ConfigError, DpoTuiError
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.start.model_check import model_refusal
from dpo_tui.start.prepare import Prepared, create_run, prepare

pytestmark = pytest.mark.usefixtures("tools_in_process")


def make_adapter(folder: Path, base: Path, **settings: Any) -> Path:
    """Save an adapter as PEFT does: without a tokenizer, its B not zero, so that it changes the model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    values = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM"} | settings
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**values))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"not for the merged model")
    return folder


@pytest.fixture
def adapter(home: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return make_adapter(tmp_path / "my-adapter", tiny_model)


def config_file(folder: Path, model: Path, pairs: Path, **settings: Any) -> Path:
    values: dict[str, Any] = {
        "model_name": str(model), "dataset": str(pairs), "gpus": "none", "max_seq_length": 128, "max_steps": 1,
        "lora_r": 4, "bf16": False, "eval_split": 0.2, "kl_prompts": 0, "sample_prompts": 0,
        "gradient_accumulation_steps": 1, "per_device_train_batch_size": 4,
    }  # fmt: skip
    path = folder / "run.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in (values | settings).items()))
    return path


def prepared(folder: Path, model: Path, pairs: Path, messages: list[str] | None = None, **settings: Any) -> Prepared:
    said = [] if messages is None else messages
    file = config_file(folder, model, pairs, **settings)
    return prepare(load(file), report=lambda message: said.append(str(message["message"])))


@pytest.mark.parametrize("use_lora", [True, False], ids=["LoRA", "full"])
def test_the_loss_starts_at_ln_2_and_the_run_says_what_it_starts_from(
    tmp_path: Path, adapter: Path, tiny_model: Path, tiny_pairs: Path, use_lora: bool
) -> None:
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    run = prepared(tmp_path, adapter, tiny_pairs, use_lora=use_lora)
    said = f"Starts from {tiny_model} with the adapter {adapter} merged into it. Compared with base + adapter"
    assert run.model_notes[0].startswith(said)
    assert run.config.name == "my-adapter"
    folder = create_run(run)
    run_training(load(folder.config).config, folder, Journal(folder), StopRequests(folder))

    metrics = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    first = next(line["eval_loss"] for line in metrics if "eval_loss" in line)
    assert first == pytest.approx(math.log(2), abs=1e-6)
    assert said in folder.events.read_text()
    start = (read_json(folder.receipt) or {})["start"]
    assert (start["adapter"], start["base"]) == (str(adapter), str(tiny_model))
    assert "after a first stage (the adapter my-adapter, merged)" in folder.model_card.read_text()


def make_quantised(base: Path, folder: Path) -> Path:
    """Save a model whose files are in 4 bits, as bitsandbytes writes them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    options = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=BitsAndBytesConfig(**options))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("settings", "quantised"),
    [({"bf16": True}, False), ({"use_4bit": True}, False), ({}, True)],
    ids=["bf16", "NF4", "pre-quantised base"],
)
def test_the_loss_starts_at_ln_2_in_bf16_and_over_4_bits_too(
    tmp_path: Path, tiny_model: Path, tiny_pairs: Path, settings: dict[str, Any], quantised: bool
) -> None:
    from dpo_tui.train.run_training import run_training
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    base = make_quantised(tiny_model, tmp_path / "quantised") if quantised else tiny_model
    start = make_adapter(tmp_path / "my-adapter", base)
    folder = create_run(prepared(tmp_path, start, tiny_pairs, **settings))
    run_training(load(folder.config).config, folder, Journal(folder), StopRequests(folder))
    metrics = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    first = next(line["eval_loss"] for line in metrics if "eval_loss" in line)
    assert first == pytest.approx(math.log(2), abs=1e-5)


def test_the_start_computes_what_base_and_adapter_compute(
    tmp_path: Path, adapter: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = Path(prepared(tmp_path, adapter, tiny_pairs).config.model_name)
    assert not (start / "optimizer.pt").exists()
    ids = AutoTokenizer.from_pretrained(start)("how do i reset my password", return_tensors="pt").input_ids
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        alone = base(ids).logits.clone()
        both = PeftModel.from_pretrained(base, str(adapter))(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)(ids).logits
    assert (both - alone).abs().max() > 1e-2, "an adapter that changes nothing proves nothing"
    torch.testing.assert_close(merged, both, atol=1e-5, rtol=1e-4)


def test_it_is_merged_once_and_again_only_for_another_content(
    tmp_path: Path, adapter: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    first, again, changed = [], [], []
    start = prepared(tmp_path, adapter, tiny_pairs, first).config.model_name
    copy = shutil.copytree(adapter, tmp_path / "copy")
    assert prepared(tmp_path, copy, tiny_pairs, again).config.model_name == start
    assert any("merging" in message for message in first) and again == []
    make_adapter(copy, tiny_model, lora_alpha=16)
    assert prepared(tmp_path, copy, tiny_pairs, changed).config.model_name != start
    assert any("merging" in message for message in changed)


def test_the_template_of_an_adapter_without_a_tokenizer_is_its_own(
    home: Path, tmp_path: Path, adapter: Path, tiny_pairs: Path
) -> None:
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    start = Path(prepared(tmp_path, adapter, tiny_pairs).config.model_name)
    assert (start / "chat_template.jinja").read_text().startswith("{% for m in messages %}[")
    assert (start / "tokenizer.json").is_file()


def test_the_adapter_of_a_run_is_merged_as_run_id_merges_it(
    tmp_path: Path, adapter: Path, tiny_model: Path, tiny_pairs: Path
) -> None:
    earlier = create_run(prepared(tmp_path, tiny_model, tiny_pairs))
    shutil.copytree(adapter, earlier.adapter)
    for file in tiny_model.glob("tokenizer*"):
        shutil.copy2(file, earlier.adapter)
    assert prepared(tmp_path, earlier.adapter, tiny_pairs).config.model_name == str(earlier.merged)


def changed_config(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def narrow_base(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = AutoModelForCausalLM.from_pretrained(tiny_model).config.to_dict()
    torch.manual_seed(0)
    other = shutil.copytree(tiny_model, tmp_path / "other")
    LlamaForCausalLM(LlamaConfig(**config | {"hidden_size": 32, "head_dim": 8})).save_pretrained(other)
    changed_config(folder, base_model_name_or_path=str(other))


def pickle_only(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def quantised_base(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "gptq")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    changed_config(folder, base_model_name_or_path=str(other))


REFUSED: dict[str, tuple[Any, str, str]] = {
    "base-folder-gone": (
        lambda folder, *_: changed_config(folder, base_model_name_or_path="/no/such/base"),
        "is an adapter of /no/such/base (base_model_name_or_path in adapter_config.json), and there is no such folder",
        "a folder or a hub id",
    ),
    "hub-id-not-here": (
        lambda folder, *_: changed_config(folder, base_model_name_or_path="nobody/base"),
        "is an adapter of nobody/base (base_model_name_or_path in adapter_config.json), which is not on this machine",
        "hf download nobody/base",
    ),
    "no-base": (
        lambda folder, *_: changed_config(folder, base_model_name_or_path=None),
        "names no base model (base_model_name_or_path)",
        "base_model_name_or_path",
    ),
    "base-is-adapter": (
        lambda folder, *_: changed_config(folder, base_model_name_or_path=str(folder)),
        "and that is an adapter too",
        "merge_and_unload",
    ),
    "prompt-tuning": (
        lambda folder, *_: changed_config(folder, peft_type="PROMPT_TUNING"),
        "is an adapter of type PROMPT_TUNING",
        "name the base model",
    ),
    "ia3": (lambda folder, *_: changed_config(folder, peft_type="IA3"), "is an adapter of type IA3", "base model"),
    "bias": (lambda folder, *_: changed_config(folder, bias="all"), "an adapter with bias", "merge_and_unload"),
    "shapes": (narrow_base, "is an adapter of another model than", "the model that it was trained on"),
    "pickle": (lambda folder, *_: pickle_only(folder), "adapter_model.bin, a pickle", "save it again"),
    "no-weights": (
        lambda folder, *_: (folder / "adapter_model.safetensors").unlink(),
        "is an adapter without adapter_model.safetensors",
        "copy the whole folder",
    ),
    "damaged": (
        lambda folder, *_: (folder / "adapter_model.safetensors").write_bytes(b"\0" * 4),
        "adapter_model.safetensors is cut",
        "again",
    ),
    "gptq-base": (quantised_base, "whose weights are quantised", "before it was quantised"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_merged_is_refused_before_a_run_is_made(
    tmp_path: Path, adapter: Path, tiny_model: Path, tiny_pairs: Path, kind: str
) -> None:
    """The start, the app's Model step, ``estimate`` and ``config check`` say the same."""
    change, said, hint = REFUSED[kind]
    change(adapter, tmp_path, tiny_model)
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path, adapter, tiny_pairs)
    assert said in caught.value.message and hint in str(caught.value.hint)
    assert caught.value.exit_code == 2 and store.all_runs() == []
    in_the_app = model_refusal(load(tmp_path / "run.toml"))
    assert in_the_app is not None and in_the_app.message == caught.value.message
    for command in (["estimate"], ["config", "check"]):
        done = CliRunner().invoke(cli, [*command, str(tmp_path / "run.toml")])
        assert isinstance(done.exception, ConfigError), done.output
        assert done.exception.message == caught.value.message


def test_an_adapter_that_the_merge_finds_to_be_of_another_model_makes_no_run(
    home: Path, tmp_path: Path, adapter: Path, tiny_pairs: Path
) -> None:
    """Its shapes fit, but its layers are others: PEFT says so, in the merge."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.1.", "layers.7."): weight for name, weight in load_file(file).items()}, file)
    with pytest.raises(DpoTuiError, match="trained on another model"):
        prepared(tmp_path, adapter, tiny_pairs)
    assert store.all_runs() == []
    assert not list((home / "starts").glob("*/merged"))


def test_an_adapter_that_is_good_is_estimated_as_its_base(
    home: Path, tmp_path: Path, adapter: Path, tiny_pairs: Path
) -> None:
    file = config_file(tmp_path, adapter, tiny_pairs)
    done = CliRunner().invoke(cli, ["estimate", str(file)])
    assert done.exit_code == 0 and "merged into it first" in " ".join(done.output.split())
    assert model_refusal(load(file)) is None
