"""Attention for variable lengths: what it computes by torch's arguments, and what it refuses in words."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu_parts import varlen_reference
from dpo_tui.config.files import from_values
from dpo_tui.errors import ConfigError, TrainingError
from dpo_tui.train.model import device as devices
from dpo_tui.train.model import varlen_attention
from dpo_tui.train.model.device import varlen_obstacle
from dpo_tui.train.model.varlen_attention import Sequences, model_obstacle, varlen_attention_forward
from tests.support.varlen_on_cpu import referenced

PROMPT, CHOSEN, REJECTED = 5, 3, 4
TOKENS = PROMPT + CHOSEN + REJECTED


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    referenced(monkeypatch)


@pytest.fixture
def pair() -> Sequences:
    """A prompt with a chosen answer, and the rejected one that follows it in the row."""
    keys = [*range(PROMPT + CHOSEN), *range(PROMPT), *range(PROMPT + CHOSEN, TOKENS)]
    return Sequences.of(
        [PROMPT + CHOSEN, REJECTED], [PROMPT + CHOSEN, PROMPT + REJECTED], torch.tensor(keys), torch.device("cpu")
    )


def layer(**config: Any) -> Any:
    return SimpleNamespace(is_causal=True, layer_idx=0, num_key_value_groups=2, config=SimpleNamespace(**config))


def tensors(size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    heads = (4, 2, 2)
    query, key, value = (torch.randn(1, count, TOKENS, size, generator=draw) for count in heads)
    return query, key, value


def attended(sequences: Sequences, module: Any = None, **options: Any) -> torch.Tensor:
    return varlen_attention_forward(module or layer(), *tensors(), sequences.as_mask(), **options)[0]


def by_rows(window: int | None = None, scale: float | None = None) -> torch.Tensor:
    """The same by SDPA, each answer in a row of its own with the prompt."""
    outputs = []
    for rows, kept in (
        (range(PROMPT + CHOSEN), PROMPT + CHOSEN),
        ([*range(PROMPT), *range(PROMPT + CHOSEN, TOKENS)], REJECTED),
    ):
        query, key, value = (tensor[:, :, list(rows)] for tensor in tensors())
        places = torch.arange(len(rows))
        seen = places[:, None] >= places
        if window is not None:
            seen &= places[:, None] - places < window
        found = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scale, enable_gqa=True
        )
        outputs.append(found[:, :, -kept:])
    return torch.cat(outputs, dim=2).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 3, 6, 100])
def test_every_answer_attends_to_the_prompt_and_itself_within_the_window(pair: Sequences, window: int | None) -> None:
    """A window of transformers counts the query itself; it slides over the prompt into the answer."""
    found = attended(pair, layer(sliding_window=window), sliding_window=window, scaling=0.3)
    assert torch.allclose(found, by_rows(window, 0.3), atol=1e-6)


@pytest.mark.parametrize("lacking", [{"enable_gqa"}, {"enable_gqa", "scale"}, {"enable_gqa", "scale", "window_size"}])
def test_a_torch_with_fewer_arguments_computes_the_same(
    pair: Sequences, monkeypatch: pytest.MonkeyPatch, lacking: set[str]
) -> None:
    """2.10 has is_causal and no window_size; enable_gqa came after that."""
    monkeypatch.setattr(varlen_attention, "_varlen_attn", lambda: older(lacking))
    assert torch.allclose(attended(pair, scaling=16**-0.5), by_rows(), atol=1e-6)
    if "scale" in lacking:
        with pytest.raises(ValueError, match=r"takes no scale; 2\.11 and newer do"):
            attended(pair, scaling=0.3)
    if "window_size" in lacking:
        with pytest.raises(ValueError, match=r"takes no window_size; 2\.11 and newer do"):
            attended(pair, layer(sliding_window=3), sliding_window=3)


def older(lacking: set[str]) -> Any:
    def varlen_attn(*given: Any, **options: Any) -> Any:
        assert not lacking & set(options)
        if "window_size" in lacking:
            assert options.pop("is_causal")
            options["window_size"] = (-1, 0)
        return varlen_reference.varlen_attn(*given, **options)

    known = inspect.signature(varlen_reference.varlen_attn).parameters
    kept = [one for name, one in known.items() if name not in lacking]
    if "window_size" in lacking:
        kept.append(inspect.Parameter("is_causal", inspect.Parameter.KEYWORD_ONLY, default=False))
    varlen_attn.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    return varlen_attn


def test_a_torch_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError("no module named torch.nn.attention.varlen")

    assert varlen_attention.kernel_obstacle() is None
    monkeypatch.setattr(varlen_attention, "_varlen_attn", lambda: older({"window_size"}))
    assert varlen_attention.kernel_obstacle() is None
    monkeypatch.setattr(varlen_attention, "_varlen_attn", lambda: lambda query, key, value: query)
    assert "neither window_size nor is_causal" in (varlen_attention.kernel_obstacle() or "")
    monkeypatch.setattr(varlen_attention, "_varlen_attn", missing)
    assert "has no attention for variable lengths; 2.10 and newer have" in (varlen_attention.kernel_obstacle() or "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"softcap": 50.0}, "its attention takes softcap, which varlen_attn does not"),
        ({"s_aux": torch.zeros(4)}, "its attention takes s_aux"),
        ({"position_bias": torch.zeros(1, 4, TOKENS, TOKENS)}, "its attention takes position_bias"),
        ({"head_mask": torch.ones(4)}, "its attention takes head_mask"),
        ({"dropout": 0.1}, r"drops weights \(rate 0.1\)"),
        ({"is_causal": False}, "its attention is not causal"),
        ({"sliding_window": 4}, "slides over None tokens by its config, and 4 by its call"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_kernel_cannot_compute_is_refused(pair: Sequences, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        attended(pair, **options)


def test_arguments_without_effect_are_none_to_it(pair: Sequences) -> None:
    found = attended(pair, softcap=None, output_attentions=False, position_ids=torch.arange(TOKENS), use_cache=True)
    assert torch.allclose(found, by_rows(), atol=1e-6)


def test_a_window_that_only_a_mask_would_have_expressed_is_refused(pair: Sequences) -> None:
    """A family that does not pass its window on to attention would see further than TRL's."""
    kinds = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3}
    with pytest.raises(ValueError, match="slides over 3 tokens by its config, and None by its call"):
        attended(pair, layer(**kinds))
    second = layer(**kinds)
    second.layer_idx = 1
    assert torch.allclose(attended(pair, second), by_rows(), atol=1e-6)
    assert torch.allclose(attended(pair, layer(**kinds | {"sliding_window": 9})), by_rows(), atol=1e-6)


def test_values_of_another_size_are_refused(pair: Sequences) -> None:
    query, key, value = tensors()
    with pytest.raises(ValueError, match="queries of 16 numbers a head and values of 8"):
        varlen_attention_forward(layer(), query, key, value[..., :8], pair.as_mask())


def test_without_sequences_it_is_sdpa() -> None:
    query, key, value = tensors()
    found = varlen_attention_forward(layer(), query, key, value, None, scaling=0.3)[0]
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("change", [lambda mask: mask[:, :, :, :4], lambda mask: mask + 0], ids=["cut", "copied"])
def test_a_mask_that_a_model_has_changed_is_no_mask_of_nothing(pair: Sequences, change: Any) -> None:
    with pytest.raises(ValueError, match="the model changes the mask that it is given"):
        varlen_attention_forward(layer(), *tensors(), change(pair.as_mask()))
    with pytest.raises(RuntimeError):
        torch.nn.functional.scaled_dot_product_attention(*tensors(), attn_mask=pair.as_mask(), enable_gqa=True)


def test_a_layer_that_attends_by_other_code_is_noticed(pair: Sequences) -> None:
    mask = pair.as_mask()
    for number in range(2):
        module = layer()
        module.layer_idx = number
        varlen_attention_forward(module, *tensors(), mask)
    varlen_attention.require_every_layer(mask, 2)
    varlen_attention.require_every_layer(None, 3)
    with pytest.raises(ValueError, match="2 of 3 layers take their attention from transformers' registry"):
        varlen_attention.require_every_layer(mask, 3)


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "vocab_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("settings_of", "reason"),
    [
        ({"model_type": "llama"}, None),
        ({"model_type": "mistral", "sliding_window": 64}, None),
        ({"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 64}, None),
        ({"model_type": "qwen3", "head_dim": 16}, None),
        ({"model_type": "gemma2", "head_dim": 16}, r"caps attention scores softly \(attn_logit_softcapping = 50\)"),
        ({"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 2}, "has attention sinks"),
        ({"model_type": "gpt_neo", "num_layers": 2, "attention_types": [[["global", "local"], 1]]}, "code of its own"),
        ({"model_type": "llama", "head_dim": 12}, "heads have 12 numbers"),
        ({"model_type": "llama", "head_dim": 264}, "multiples of 8 up to 256"),
    ],
    ids=lambda value: f"{value['model_type']}-{value.get('head_dim', '')}" if isinstance(value, dict) else "",
)
def test_which_families_can_take_it_is_known_from_the_model(settings_of: dict[str, Any], reason: str | None) -> None:
    import re

    from transformers import AutoConfig, AutoModelForCausalLM

    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**(SMALL | settings_of)))
    found = model_obstacle(made)
    assert found is None if reason is None else re.search(reason, found or "")


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """A GPU whose compute capability stands in the list."""
    capability = [(8, 0)]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability[0])
    yield capability


def test_only_a_gpu_with_the_kernel_trains_with_it(ampere: list[tuple[int, int]]) -> None:
    assert varlen_obstacle("cuda", torch.bfloat16) is None
    assert varlen_obstacle("cpu", torch.bfloat16) == "torch has a kernel of it for NVIDIA GPUs only"
    assert varlen_obstacle("cuda", torch.float32) == "it computes in bf16 and fp16, and this run in fp32"
    ampere[0] = (7, 5)
    assert varlen_obstacle("cuda", torch.float16) == "it needs compute capability 8.0, and this GPU has 7.5"


def test_a_model_that_cannot_take_it_is_refused_when_it_is_loaded(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """GPT-Neo looks its attention up in a table of its own, where transformers fails on a name that is not there."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from dpo_tui.train.model.load import load_model

    values = {"dataset": str(tiny_pairs), "gpus": "none", "attn_implementation": "varlen"}
    config = from_values({"model_name": str(tiny_model), **values})
    device = devices.choose_device(config)
    assert load_model(config, device).config._attn_implementation == "varlen"
    settings = {"model_type": "gpt_neo", "num_layers": 2, "attention_types": [[["global", "local"], 1]]}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**(SMALL | settings))).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match='attn_implementation = "varlen": the model has attention code of its own'):
        load_model(from_values({"model_name": str(tmp_path), **values}), device)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"share_prefix": "off"}, 'computes shared prompts, and share_prefix = "off"'),
        ({"strategy": "sft"}, "with strategy = sft an example has one"),
    ],
)
def test_a_config_in_which_it_would_do_nothing_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_values({"model_name": "a/b", "dataset": "c.jsonl", "attn_implementation": "varlen", **changes})
    assert reason in str(raised.value.problems if hasattr(raised.value, "problems") else raised.value)
