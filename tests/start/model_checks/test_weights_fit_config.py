"""A config.json that contradicts its weights is refused before a run; every model that transformers loads is not."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import from_values
from dpo_tui.demo.assets import model_dir
from dpo_tui.errors import ConfigError
from dpo_tui.processes.json_child import ChildError
from dpo_tui.start.model_check import check_model
from dpo_tui.start.model_checks import weights_fit_config
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_files import check_quantised_files
from dpo_tui.start.model_checks.weights_fit_config import check_weights_fit_config
from dpo_tui.start.model_checks.worker_packages import WorkerPackages
from tests.support.families import FAMILIES, build

Values = dict[str, Any]
Weights = dict[str, Any]

# By kind: the family, what its config.json is changed to (None takes a value out), and what the refusal says.
CONTRADICTIONS: dict[str, tuple[str, Values, str]] = {
    "more token ids than rows": ("llama", {"vocab_size": 1600}, "shape 1600 × 64, and in the files it is 1536 × 64"),
    "fewer token ids than rows": ("gemma", {"vocab_size": 1000}, "shape 1000 × 64"),
    "more layers": ("mistral", {"num_hidden_layers": 5}, "num_hidden_layers = 5, and the files hold 2 decoder layers"),
    "fewer layers": ("llama", {"num_hidden_layers": 1}, "num_hidden_layers = 1, and the files hold 2 decoder layers"),
    "fewer layers, not all alike": ("jamba", {"num_hidden_layers": 2}, "the files hold 4 decoder layers"),
    "another hidden size": ("llama", {"hidden_size": 128}, "shape 1536 × 128"),
    "another intermediate size": ("gemma2", {"intermediate_size": 256}, "intermediate_size, hidden_size do not fit"),
    "another inner size": ("gpt2", {"n_inner": 96}, "shape 96"),
    "more key heads": ("mistral", {"num_key_value_heads": 4}, "num_key_value_heads, head_dim, hidden_size do not fit"),
    "more heads": ("llama", {"num_attention_heads": 8}, "num_attention_heads, head_dim, hidden_size do not fit"),
    "heads that divide nothing": (
        "llama",
        {"num_attention_heads": 5, "head_dim": None},
        "not a multiple of the number",
    ),
    "kinds of too many layers": ("qwen3", {"layer_types": ["full_attention"] * 7}, "number of `layer_types`"),
    "a size that is no whole number": ("llama", {"vocab_size": 1536.0}, "expected int, got float"),
    "another rank": ("deepseek-v3", {"kv_lora_rank": 8}, "do not fit these weights"),
    "another state": ("mamba", {"state_size": 16}, "do not fit these weights"),
    "more experts": ("mixtral", {"num_local_experts": 8}, "shape 8 × 64 × 128"),
    "an output layer that is in no file": ("llama-tied", {"tie_word_embeddings": False}, "lm_head.weight of the model"),
    "an encoder's config": (
        "llama",
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        "of the type 'bert'",
    ),
    "GPT-2's config": ("llama", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "(model_type 'gpt2')"),
    "a type without biases": ("qwen2", {"model_type": "llama", "architectures": None}, "k_proj.bias and 2 more"),
    "a type without norms of keys": ("qwen3", {"model_type": "llama", "architectures": None}, "k_norm.weight and 1"),
    "a type with fewer norms": ("gemma2", {"model_type": "gemma", "architectures": None}, "feedforward_layernorm"),
    "layers of other parts": ("phi3", {"model_type": "llama", "architectures": None}, "they hold model.layers.*.mlp."),
    "vocabulary of a wrapper": ("gemma3-wrapper", {"text_config.vocab_size": 1600}, "shape 1600 × 64"),
    "layers of a wrapper": ("mistral3-wrapper", {"text_config.num_hidden_layers": 3}, "num_hidden_layers = 3"),
}
OTHER_WEIGHTS: dict[str, tuple[str, Callable[[Weights], Weights], str]] = {
    "a matrix is gone": ("llama", lambda found: without(found, "layers.1.mlp.up_proj"), "up_proj.weight of the model"),
    "biases are gone": ("qwen2", lambda found: without(found, ".bias"), "k_proj.bias and 2 more"),
    "an expert's matrices are gone": ("mixtral", lambda found: without(found, ".w2."), "down_proj of the model"),
    "names have a prefix": ("llama", lambda found: {f"w.{name}": one for name, one in found.items()}, "none of its"),
    "a norm has another name": (
        "llama",
        lambda found: {name.replace("input_layernorm", "ln_1"): one for name, one in found.items()},
        "input_layernorm.weight",
    ),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the model of a family, each once."""
    root = tmp_path_factory.mktemp("families")
    return lambda name: root / name if (root / name).is_dir() else build(name, root / name)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Asks transformers in this process, where it is loaded already; returns what was asked."""
    from dpo_tui.train.tools.loading_plan import plan

    asked: list[Mapping[str, Any]] = []

    def run(name: str, request: dict[str, Any], *, environment: Mapping[str, str]) -> dict[str, Any]:
        assert name == "loading_plan" and environment == {"CUDA_VISIBLE_DEVICES": ""}
        asked.append(request)
        try:
            return plan(request, lambda *_: None)
        except ConfigError as error:
            raise ChildError(error.message, hint=error.hint, exit_code=error.exit_code) from error

    monkeypatch.setattr(weights_fit_config, "run_tool", run)
    return asked


def checked(folder: Path, **changes: Any) -> list[str]:
    config = from_values({"model_name": str(folder), "dataset": "-", **changes})
    return check_weights_fit_config(ModelFolder(folder, str(folder)), config)


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(folder, **changes)
    assert caught.value.hint
    return caught.value.message


def change(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    for name, value in values.items():
        part, _, inner = name.rpartition(".")
        place = document[part] if part else document
        place.pop(inner, None)
        place |= {} if value is None else {inner: value}
    path.write_text(json.dumps(document))
    return folder


def rewrite(folder: Path, edit: Callable[[Weights], Weights]) -> Path:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})
    return folder


def without(found: Weights, part: str) -> Weights:
    return {name: one for name, one in found.items() if part not in name}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_accepted_by_counting_and_by_transformers(
    name: str, families: Callable[[str], Path], here: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = families(name)
    assert checked(folder) == []
    if not here:
        monkeypatch.setattr(weights_fit_config, "_fits", lambda *_: False)
        assert checked(folder) == []
    assert len(here) == 1


def test_few_families_need_transformers(families: Callable[[str], Path], here: list[Mapping[str, Any]]) -> None:
    for name in FAMILIES:
        checked(families(name))
    assert {Path(one["model"]).name for one in here} <= {"granite-moe", "phi-moe"}


def test_the_demo_model_is_accepted_without_a_child(here: list[Mapping[str, Any]]) -> None:
    assert checked(model_dir()) == [] and here == []


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_config_that_contradicts_the_weights_is_refused(
    kind: str, families: Callable[[str], Path], tmp_path: Path, here: list[Mapping[str, Any]]
) -> None:
    name, values, said = CONTRADICTIONS[kind]
    folder = change(Path(shutil.copytree(families(name), tmp_path / "model")), **values)
    assert said in refusal(folder)


@pytest.mark.parametrize("kind", OTHER_WEIGHTS)
def test_weights_of_another_model_are_refused(
    kind: str, families: Callable[[str], Path], tmp_path: Path, here: list[Mapping[str, Any]]
) -> None:
    name, edit, said = OTHER_WEIGHTS[kind]
    folder = rewrite(Path(shutil.copytree(families(name), tmp_path / "model")), edit)
    assert said in refusal(folder)


def test_what_files_hold_beside_a_model_is_no_contradiction(
    families: Callable[[str], Path], tmp_path: Path, here: list[Mapping[str, Any]]
) -> None:
    import torch

    def with_more(found: Weights) -> Weights:
        layer = {name: one.clone() for name, one in found.items() if ".layers.1." in name}
        ahead = {name.replace(".layers.1.", ".layers.2."): one for name, one in layer.items()}
        return (
            found
            | ahead
            | {
                "model.layers.2.eh_proj.weight": torch.zeros(64, 128),  # multi-token prediction
                "mtp.layers.0.enorm.weight": torch.zeros(64),
                "v_head.summary.weight": torch.zeros(1, 64),  # the value head of TRL's PPO
                "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8),  # in old files
                "model.layers.0.self_attn.k_scale": torch.zeros(()),  # of a quantised cache
            }
        )

    llama = Path(shutil.copytree(families("llama"), tmp_path / "more"))
    assert checked(rewrite(llama, with_more)) == []
    # A config without what its class has as a default, with other values for text alone, and for another precision.
    short = Path(shutil.copytree(families("gemma3-text"), tmp_path / "short"))
    assert checked(change(short, tie_word_embeddings=None, architectures=None, dtype="float64")) == []
    # Mistral's layers are Llama's.
    other = Path(shutil.copytree(families("mistral"), tmp_path / "other"))
    assert checked(change(other, model_type="llama", architectures=["LlamaForCausalLM"])) == []
    # A language model that was saved without its output layer, which is its embedding.
    bare = Path(shutil.copytree(families("gpt2"), tmp_path / "bare"))
    assert (
        checked(rewrite(bare, lambda found: {name.removeprefix("transformer."): found[name] for name in found})) == []
    )


UNUSUAL: dict[str, tuple[str, Callable[[Weights], Weights]]] = {
    "halved": ("llama", lambda found: {name: one.half() for name, one in found.items()}),
    "an output layer beside the embedding that it is": (
        "llama-tied",
        lambda found: found | {"lm_head.weight": found["model.embed_tokens.weight"].clone()},
    ),
    "masks of GPT-2": (
        "gpt2",
        lambda found: (
            found | {"transformer.h.0.attn.bias": ones(1, 1, 8, 8).byte(), "transformer.h.0.attn.masked_bias": ones()}
        ),
    ),
    "masks and angles of GPT-NeoX": (
        "gpt-neox",
        lambda found: (
            found
            | {
                "gpt_neox.layers.0.attention.bias": ones(1, 1, 8, 8).bool(),
                "gpt_neox.layers.0.attention.rotary_emb.inv_freq": ones(4),
            }
        ),
    ),
    "numbers of positions": ("bloom", lambda found: found | {"transformer.position_ids": ones(1, 8).long()}),
    "multi-token prediction beside the model": (
        "qwen3.5-text",
        lambda found: found | {"mtp.fc.weight": ones(64, 128), "mtp.layers.0.mlp.up_proj.weight": ones(128, 64)},
    ),
    "a wrapper's newer names": (
        "gemma3-wrapper",
        lambda found: {
            f"model.{name}"
            if not name.startswith("language_model")
            else name.replace("language_model.model.", "model.language_model."): one
            for name, one in found.items()
        },
    ),
}


def ones(*sizes: int) -> Any:
    import torch

    return torch.ones(*sizes) if sizes else torch.tensor(1.0)


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_files_that_transformers_loads_are_accepted(
    kind: str, families: Callable[[str], Path], tmp_path: Path, here: list[Mapping[str, Any]]
) -> None:
    name, edit = UNUSUAL[kind]
    folder = rewrite(Path(shutil.copytree(families(name), tmp_path / "model")), edit)
    assert checked(folder) == []
    assert check_quantised_files(ModelFolder(folder, "model"), WorkerPackages(), has_gpu=True) == []


@pytest.mark.parametrize("kind", ["olmo", "biogpt", "codegen", "dots1"])
def test_families_whose_weights_are_not_counted_are_left_to_transformers(
    kind: str, tmp_path: Path, here: list[Mapping[str, Any]]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "codegen":
        sizes = {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}
    if kind == "dots1":
        sizes |= {
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "moe_intermediate_size": 16,
            "n_group": 1,
            "topk_group": 1,
        }
        sizes |= {"first_k_dense_replace": 1, "num_key_value_heads": 2}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path)
    assert checked(tmp_path) == [] and len(here) == 1
    assert "shape 256" in refusal(change(tmp_path, vocab_size=256))


def test_weights_in_4_bits_are_accepted_as_they_are_saved(families: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(families("qwen2"), quantization_config=settings)
    model.save_pretrained(tmp_path)
    assert checked(tmp_path) == []
    assert check_quantised_files(ModelFolder(tmp_path, "model"), WorkerPackages(), has_gpu=False) == []


def test_values_of_model_init_count_as_those_of_the_config(
    families: Callable[[str], Path], here: list[Mapping[str, Any]]
) -> None:
    llama = families("llama")
    assert "with [model_init] hidden_size gives" in refusal(llama, model_init={"hidden_size": 32})
    assert "[model_init] num_hidden_layers says num_hidden_layers = 9" in refusal(
        llama, model_init={"num_hidden_layers": 9}
    )
    assert "silly" in refusal(llama, model_init={"hidden_act": "silly"})
    (note,) = checked(llama, model_init={"num_hidden_layers": 1})
    assert "only the first 1 are trained" in note
    assert checked(llama, model_init={"rope_theta": 5e5, "attention_dropout": 0.1}) == []


def test_a_child_asks_transformers_and_reads_no_weight(families: Callable[[str], Path], tmp_path: Path) -> None:
    """Through check_model, as `train`, `estimate` and the app call it."""
    folder = change(Path(shutil.copytree(families("mistral"), tmp_path / "model")), num_hidden_layers=3)
    with pytest.raises(ConfigError, match="num_hidden_layers = 3, and the files hold 2 decoder layers") as caught:
        check_model(from_values({"model_name": str(folder), "dataset": "-"}))
    assert "config.json that belongs to these weights" in str(caught.value.hint)
