"""Prompts shared by attention for variable lengths: families, windows, and whatever keeps activations otherwise."""

import random
from typing import Any

import pytest
import torch

from dpo_tui.train.model import varlen_attention
from dpo_tui.train.shortcuts import prefix_sharing
from dpo_tui.train.shortcuts.pair_layout import LayoutCost, PairLengths, plan_layout
from dpo_tui.train.shortcuts.prefix_sharing import PrefixSharing, answer_sequences, backbone_of
from dpo_tui.train.shortcuts.sharing_obstacles import sharing_obstacle
from tests.support.varlen_on_cpu import referenced

WINDOW, LONGEST = 12, 64
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "vocab_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral, window": {"model_type": "mistral", "sliding_window": WINDOW},
    "qwen2, window in one layer": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
    },
    "gemma3_text, windows in two layers": {
        "model_type": "gemma3_text",
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
    "phi3, window": {"model_type": "phi3", "sliding_window": WINDOW},
    "qwen3": {},
    "olmo2": {},
    "granite": {"attention_multiplier": 0.3},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    referenced(monkeypatch)


def made(name: str, attention: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {"model_type": name.partition(",")[0]} | SMALL | FAMILIES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)  # fresh weights barely attend, and would forgive a token that sees too much
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    """Two pairs, of which the first's prompt is longer than the window, and its answers reach back into it."""
    shuffle = random.Random(0)
    ids, mask = torch.zeros(4, 40, dtype=torch.long), torch.zeros(4, 40, dtype=torch.long)
    for pair, (prompt, chosen, rejected) in enumerate([(25, 10, 15), (6, 4, 3)]):
        start = [shuffle.randrange(1, 64) for _ in range(prompt)]
        for row, answer in ((pair, chosen), (pair + 2, rejected)):
            tokens = [*start, *(shuffle.randrange(1, 64) for _ in range(answer))]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def states_and_gradients(model: Any, rows: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    states = backbone_of(model)(**rows, use_cache=False).last_hidden_state
    weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    real = rows["attention_mask"].bool()
    (states[real] * weight[real]).sum().backward()
    gradients = [one.grad.flatten() for one in model.parameters() if one.grad is not None]
    return states[real].detach(), torch.cat(gradients)


def assert_same(plain: tuple[torch.Tensor, torch.Tensor], shared: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert (plain[0] - shared[0]).abs().max() < 1e-4 * plain[0].abs().max()
    assert (plain[1] - shared[1]).norm() < 1e-4 * plain[1].norm()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_what_sdpa_computes(name: str) -> None:
    """Windows too, by which sharing under a mask is refused; plain passes are SDPA's under both names."""
    rows, plain_model, model = batch(), made(name, "sdpa"), made(name, "varlen")
    assert sharing_obstacle(model, LONGEST) is None
    if "window" in name:
        assert "slides over 12 tokens" in (sharing_obstacle(plain_model, LONGEST) or "")
    plain = states_and_gradients(plain_model, rows)
    for one, other in zip(plain, states_and_gradients(model, rows), strict=True):
        assert torch.equal(one, other)
    sharing = PrefixSharing()
    sharing.install(model)
    with sharing:
        assert_same(plain, states_and_gradients(model, rows))
    assert sharing.count.computed == 25 + 10 + 15 + 6 + 4 + 3, "nothing was packed, so nothing was tested"


def test_a_window_that_is_not_passed_on_ends_sharing_in_words() -> None:
    """In a family whose window only a mask expresses, a packed row would see further than TRL's."""
    from transformers import AttentionInterface

    def without_window(*given: Any, sliding_window: Any = None, **options: Any) -> Any:
        return varlen_attention.varlen_attention_forward(*given, **options)

    model, sharing = made("mistral, window", "varlen"), PrefixSharing()
    sharing.install(model)
    AttentionInterface.register("varlen", without_window)
    with sharing:
        states_and_gradients(model, batch())
    assert "slides over 12 tokens by its config, and None by its call" in sharing.ended


def test_a_layer_that_attends_without_the_registry_ends_sharing_in_words() -> None:
    """It may have attended to anything: the layout would have been ignored there."""
    model, sharing = made("llama", "varlen"), PrefixSharing()
    sharing.install(model)
    model.model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states.cumsum(1), None)
    with sharing:
        states_and_gradients(model, batch())
    assert "2 of 3 layers take their attention from transformers' registry" in sharing.ended


def test_queries_that_norms_left_in_fp32_are_computed_in_autocasts_type() -> None:
    """As SDPA does: its output has the type of the products around it."""
    model, sharing = made("qwen3", "varlen"), PrefixSharing()
    sharing.install(model)
    kinds = []
    layer = model.model.layers[0].self_attn
    layer.o_proj.register_forward_pre_hook(lambda module, given: kinds.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        backbone_of(model)(**batch(), use_cache=False)
        with sharing:
            backbone_of(model)(**batch(), use_cache=False)
    assert kinds == [torch.bfloat16, torch.bfloat16]
    assert sharing.count.saved > 0


@pytest.mark.parametrize("reentrant", [False, True], ids=["hooks", "reentrant"])
def test_checkpointing_and_offloaded_activations_change_nothing(reentrant: bool) -> None:
    """Saved tensors come back as copies, as from main memory, and layers are computed again in the backward pass."""
    rows, model, sharing = batch(), made("qwen2, window in one layer", "varlen"), PrefixSharing()
    plain = states_and_gradients(model, rows)
    sharing.install(model)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone()

    with sharing, torch.autograd.graph.saved_tensors_hooks(copied, copied):
        assert_same(plain, states_and_gradients(model, rows))
    assert sharing.count.saved > 0


def test_a_switch_of_attention_in_mid_run_lays_the_same_batch_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a mask attention costs something, which counts against pairs in one row."""
    rows, model, sharing = batch(), made("llama", "sdpa"), PrefixSharing()
    plain, costs = states_and_gradients(model, rows), []
    plan = prefix_sharing.plan_layout

    def planned(pairs: Any, length: int, cost: LayoutCost, max_length: int | None = None) -> Any:
        costs.append(cost.attention > 0)
        return plan(pairs, length, cost, max_length)

    monkeypatch.setattr(prefix_sharing, "plan_layout", planned)
    sharing.install(model)
    with sharing:
        for attention in ("sdpa", "sdpa", "varlen", "sdpa"):
            model.set_attn_implementation(attention)
            assert_same(plain, states_and_gradients(model, rows))
    assert costs == [True, False, True]


def test_two_sequences_of_each_pair_are_laid_over_its_tokens() -> None:
    pairs = [PairLengths(2, 1, 2), PairLengths(0, 2, 1), PairLengths(1, 1, 0)]
    layout = plan_layout(pairs, 4, LayoutCost(token=1.0, attention=0.0))
    assert layout is not None
    found = answer_sequences(layout)
    by_pair = {pair: start for start, pair in layout.placed}
    expected, starts = [], [0]
    for pair, start in sorted(by_pair.items(), key=lambda item: item[1]):
        first = pair.prompt + pair.chosen
        keys = [list(range(first))]
        if pair.rejected:
            keys.append([*range(pair.prompt), *range(first, pair.packed)])
        for one in keys:
            expected += [start + place for place in one]
            starts.append(len(expected))
    assert found.key_index_K.tolist() == expected
    assert found.key_starts.tolist() == starts
    assert int(found.query_starts[-1]) == sum(pair.packed for pair in pairs)
    assert (found.longest_query, found.longest_key) == (3, 4)
