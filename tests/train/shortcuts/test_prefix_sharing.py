"""Prefix sharing changes where tokens are computed, never what comes out."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_tui.train.shortcuts import prefix_sharing
from dpo_tui.train.shortcuts.check_budget import PairSize
from dpo_tui.train.shortcuts.pair_layout import (
    LayoutCost,
    PairLayout,
    PairLengths,
    measure_pairs,
    pack_segments,
    plan_layout,
)
from dpo_tui.train.shortcuts.prefix_sharing import (
    UNLIMITED,
    PrefixSharing,
    TokenCount,
    backbone_of,
    layout_cost,
    refusal_of,
    unpack_outputs,
)
from dpo_tui.train.shortcuts.sharing_obstacles import sharing_obstacle
from tests.support.flex_on_cpu import unfused
from tests.support.varlen_on_cpu import referenced

# Attention counts for little: what a model of some size says.
WORK = LayoutCost(token=3000.0, attention=1.0)
Pair = tuple[list[int], list[int], list[int]]


def tokens(shuffle: random.Random, count: int) -> list[int]:
    return [shuffle.randrange(10, 300) for _ in range(count)]


def usual(shuffle: random.Random) -> Pair:
    return tokens(shuffle, shuffle.randint(5, 40)), tokens(shuffle, shuffle.randint(1, 20)), tokens(shuffle, 9)


def same_answers(shuffle: random.Random) -> Pair:
    answer = tokens(shuffle, 7)
    return tokens(shuffle, 11), answer, answer


def one_token_answer(shuffle: random.Random) -> Pair:
    return tokens(shuffle, 12), [5], tokens(shuffle, 8)


def answer_begins_like_the_other(shuffle: random.Random) -> Pair:
    answer = tokens(shuffle, 6)
    return tokens(shuffle, 10), answer, answer + tokens(shuffle, 5)


def prompt_of_one_token(shuffle: random.Random) -> Pair:
    return [3], [4, *tokens(shuffle, 6)], [5, *tokens(shuffle, 9)]


def prompt_at_the_edge(shuffle: random.Random) -> Pair:
    return tokens(shuffle, 47), tokens(shuffle, 30), tokens(shuffle, 30)


KINDS: list[Callable[[random.Random], Pair]] = [
    usual,
    same_answers,
    one_token_answer,
    answer_begins_like_the_other,
    prompt_of_one_token,
    prompt_at_the_edge,
]
LIMIT = 48


def collate(pairs: list[Pair], truncation: str = "keep_start") -> dict[str, torch.Tensor]:
    """As TRL does it, by TRL."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    collator = DataCollatorForPreference(pad_token_id=0, max_length=LIMIT, truncation_mode=truncation)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    batch: dict[str, torch.Tensor] = collator([dict(zip(names, pair, strict=True)) for pair in pairs])
    return batch


ONE_ROW = "sdpa, all pairs in one row"


@pytest.fixture(scope="module", params=["sdpa", "eager", "flex_attention", "varlen", ONE_ROW])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(way: str, tiny_model: Path) -> Iterator[Any]:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        if way == "flex_attention":
            unfused(patch)
        if way == "varlen":
            referenced(patch)
        made = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=way.partition(",")[0])
        # Random weights of the usual size barely attend; larger ones would show a token that sees too much.
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(6)
        yield made.eval()


@pytest.fixture(scope="module")
def sharing(way: str, model: Any) -> PrefixSharing:
    found = PrefixSharing()
    with pytest.MonkeyPatch.context() as patch:
        if way == ONE_ROW:
            # Attention that costs nothing: then padding alone counts.
            patch.setattr(prefix_sharing, "layout_cost", lambda model, backbone: LayoutCost(token=1.0, attention=0.0))
        found.install(model)
    return found


@torch.no_grad()
def states(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    outputs = backbone_of(model)(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    found: torch.Tensor = outputs.last_hidden_state
    return found


def largest_difference(model: Any, sharing: PrefixSharing, batch: dict[str, torch.Tensor]) -> float:
    plain = states(model, batch)
    with sharing:
        shared = states(model, batch)
    assert shared.shape == plain.shape
    real = batch["attention_mask"].bool()
    return float((plain - shared)[real].abs().max())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_hidden_states_are_the_same(
    way: str, model: Any, sharing: PrefixSharing, *, kind: Callable[[random.Random], Pair], size: int
) -> None:
    shuffle = random.Random(f"{kind.__name__} {size}")
    batch = collate([kind(shuffle)] + [usual(shuffle) for _ in range(size - 1)])
    sharing.reset()
    assert largest_difference(model, sharing, batch) < 1e-4
    if size > 1:
        assert sharing.count.saved > 0.1, "nothing was shared, so nothing was tested"
    if way in (ONE_ROW, "flex_attention", "varlen"):
        pairs = measure_pairs(batch["input_ids"], batch["attention_mask"])
        assert sharing.count.computed == sum(pair.packed for pair in pairs or [])


def test_pairs_without_a_common_prompt_pass_through(model: Any, sharing: PrefixSharing) -> None:
    shuffle = random.Random(0)
    batch = collate([usual(shuffle) for _ in range(3)])
    batch["input_ids"][:3, 0], batch["input_ids"][3:, 0] = 1, 2
    sharing.reset()
    # Still laid into rows where that saves padding; never wrong.
    assert largest_difference(model, sharing, batch) < 1e-4


def test_keep_end_cuts_prompts_differently_and_stays_exact(model: Any, sharing: PrefixSharing) -> None:
    shuffle = random.Random(1)
    pairs = [(tokens(shuffle, 40), tokens(shuffle, 20), tokens(shuffle, 11)), usual(shuffle)]
    assert largest_difference(model, sharing, collate(pairs, "keep_end")) < 1e-4


def test_left_padding_passes_through_untouched(model: Any, sharing: PrefixSharing) -> None:
    batch = collate([usual(random.Random(2)) for _ in range(2)])
    batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    batch["attention_mask"][0, 0] = 0
    sharing.reset()
    assert largest_difference(model, sharing, batch) == 0
    assert sharing.count.saved == 0


def test_nothing_is_shared_outside_of_a_loss(model: Any, sharing: PrefixSharing) -> None:
    sharing.reset()
    states(model, collate([usual(random.Random(4))]))
    assert sharing.count.plain == 0


def test_generation_goes_its_own_way(model: Any, sharing: PrefixSharing) -> None:
    """A cache of keys and values belongs to rows as they are."""
    batch = collate([usual(random.Random(5))])
    sharing.reset()
    with sharing, torch.no_grad():
        outputs = backbone_of(model)(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=True
        )
    assert sharing.count.plain == 0
    assert outputs.past_key_values.get_seq_length() == batch["input_ids"].shape[1]


def test_a_call_with_more_than_a_loss_passes_goes_its_own_way(model: Any, sharing: PrefixSharing) -> None:
    """Here positions, elsewhere images: what packed rows would do to them nobody knows."""
    batch = collate([usual(random.Random(number)) for number in range(3)])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    arguments = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": torch.arange(ids.shape[1]).expand_as(ids) + 7,
    }
    sharing.reset()
    with torch.no_grad():
        plain = backbone_of(model)(**arguments, use_cache=False).last_hidden_state
        with sharing:
            mine = backbone_of(model)(**arguments, use_cache=False).last_hidden_state
            without_a_mask = backbone_of(model)(input_ids=ids, use_cache=False).last_hidden_state
    assert torch.equal(mine, plain)
    assert without_a_mask.shape == plain.shape
    assert sharing.count.computed == sharing.count.plain == 2 * ids.numel()


def test_gradients_are_the_same_with_and_without_checkpointing(model: Any, sharing: PrefixSharing) -> None:
    batch = collate([usual(random.Random(number)) for number in range(3)])
    weight = torch.randn(*batch["input_ids"].shape, 64, generator=torch.Generator().manual_seed(0))
    weight = weight * batch["attention_mask"].unsqueeze(-1)

    def gradients(*, shared: bool, checkpointed: bool) -> torch.Tensor:
        model.train()
        model.gradient_checkpointing_enable() if checkpointed else model.gradient_checkpointing_disable()
        model.zero_grad()
        sharing.enabled = shared
        with sharing:
            found = backbone_of(model)(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
            )
            (found.last_hidden_state * weight).sum().backward()
        sharing.enabled = True
        model.eval()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    plain = gradients(shared=False, checkpointed=False)
    for checkpointed in (False, True):
        error = (gradients(shared=True, checkpointed=checkpointed) - plain).norm() / plain.norm()
        assert error < 1e-5


@pytest.fixture
def small_and_large(sharing: PrefixSharing) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Two batches, of which the second has a pair that is larger than may share."""
    shuffle = random.Random(11)
    small = collate([(tokens(shuffle, 20), tokens(shuffle, 5), tokens(shuffle, 4)) for _ in range(3)])
    large = collate([(tokens(shuffle, 20), tokens(shuffle, size), tokens(shuffle, 4)) for size in (5, 9, 5)])
    sharing.largest = PairSize(25, 29)
    sharing.reset()
    yield small, large
    sharing.largest, sharing.enabled, sharing.ended = UNLIMITED, True, ""


def test_a_batch_with_a_pair_larger_than_was_checked_passes_through(
    model: Any, sharing: PrefixSharing, small_and_large: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    small, large = small_and_large
    assert sharing.larger_pairs(small["input_ids"], small["attention_mask"]) == []
    assert sharing.larger_pairs(large["input_ids"], large["attention_mask"]) == [(1, PairSize(29, 33))]
    with sharing:
        states(model, large)
        assert sharing.count.saved == 0
        assert sharing.count.plain == large["input_ids"].numel()
        states(model, small)
        assert sharing.count.saved > 0


def test_a_check_shares_pairs_of_every_size_and_counts_nothing(
    model: Any, sharing: PrefixSharing, small_and_large: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    small, large = small_and_large
    with sharing:
        states(model, small)
    before = sharing.count
    with sharing.checking():
        assert sharing.larger_pairs(large["input_ids"], large["attention_mask"]) == []
        states(model, large)
        assert sharing.count.saved > 0
    assert sharing.count is before
    with sharing:
        assert sharing.larger_pairs(large["input_ids"], large["attention_mask"]) == [(1, PairSize(29, 33))]


def test_a_larger_size_that_was_checked_meanwhile_holds_for_the_same_batch(
    model: Any, sharing: PrefixSharing, small_and_large: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    """The layout of the latest batch is kept, for the reference; not beyond the size that it was planned under."""
    _, large = small_and_large
    with sharing:
        states(model, large)
        assert sharing.count.saved == 0
        sharing.largest = PairSize(29, 33)
        states(model, large)
        assert sharing.count.saved > 0


def test_a_batch_is_measured_and_laid_out_once_for_policy_and_reference(
    model: Any, sharing: PrefixSharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("measure_pairs", "plan_layout"):
        plain = getattr(prefix_sharing, name)
        monkeypatch.setattr(
            prefix_sharing, name, lambda *given, name=name, plain=plain: (calls.append(name), plain(*given))[1]
        )
    batch = collate([usual(random.Random(number)) for number in range(3)])
    with sharing:
        states(model, batch)
        states(model, batch)
        assert calls == ["measure_pairs", "plan_layout"]
        states(model, {name: tensor.clone() for name, tensor in batch.items()})
    assert calls == ["measure_pairs", "plan_layout"] * 2


def test_after_its_end_nothing_is_shared_and_tokens_are_counted_on(
    model: Any, sharing: PrefixSharing, small_and_large: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    small, _ = small_and_large
    with sharing:
        states(model, small)
        shared = sharing.count.computed
        sharing.end("a table ended")
        states(model, small)
    assert (sharing.ended, sharing.enabled) == ("a table ended", False)
    assert sharing.count.computed == shared + small["input_ids"].numel()
    assert sharing.count.plain == 2 * small["input_ids"].numel()


def raising(error: Exception) -> Callable[..., Any]:
    def packed_mask(*_: Any) -> Any:
        raise error

    return packed_mask


def test_a_model_that_refuses_packed_rows_computes_them_as_they_are_from_then_on(
    model: Any, sharing: PrefixSharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = collate([usual(random.Random(number)) for number in range(3)])
    plain = states(model, batch)
    monkeypatch.setattr(prefix_sharing, "packed_mask", raising(IndexError("index 64 is out of bounds")))
    sharing.reset()
    with sharing.checking(), pytest.raises(IndexError):
        states(model, batch)
    assert sharing.enabled
    with sharing:
        assert torch.equal(states(model, batch), plain)
    assert sharing.ended == "the model refuses it: IndexError: index 64 is out of bounds"
    assert not sharing.enabled
    assert sharing.count.saved == 0
    sharing.enabled, sharing.ended = True, ""


def test_a_lack_of_memory_is_no_refusal(model: Any, sharing: PrefixSharing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor tries again with a smaller micro-batch, which it only does if it learns of it."""
    monkeypatch.setattr(prefix_sharing, "packed_mask", raising(torch.OutOfMemoryError("8 GiB")))
    with sharing, pytest.raises(torch.OutOfMemoryError):
        states(model, collate([usual(random.Random(number)) for number in range(3)]))
    assert sharing.enabled


def test_nothing_computed_is_nothing_saved() -> None:
    assert TokenCount().saved == 0
    assert TokenCount(plain=100, computed=75).saved == 0.25


def test_the_cost_of_a_layout_is_counted_from_the_shapes_of_the_layers(tiny_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa")
    config = made.config
    hidden, head, heads, groups = 64, config.head_dim, config.num_attention_heads, config.num_key_value_heads
    assert (hidden, heads * head) == (config.hidden_size, hidden)
    attention = 2 * hidden * heads * head + 2 * hidden * groups * head
    token = config.num_hidden_layers * (attention + 3 * hidden * config.intermediate_size)
    cost = layout_cost(made, backbone_of(made))
    assert cost == LayoutCost(token, 1.5 * 2 * hidden * config.num_hidden_layers)
    adapted = get_peft_model(made, LoraConfig(r=2, target_modules=["q_proj"])).base_model.model
    matrices = config.num_hidden_layers * (hidden * 2 + 2 * heads * head)
    assert layout_cost(adapted, backbone_of(adapted)) == LayoutCost(token + matrices, cost.attention)
    config._attn_implementation = "flex_attention"
    assert layout_cost(adapted, backbone_of(adapted)) == LayoutCost(token + matrices, 0.0)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (RuntimeError("\nno such shape\nat line 3"), "the model refuses it: RuntimeError: no such shape"),
        (KeyError(), "the model refuses it: KeyError: "),
        (IndexError("x" * 300), "the model refuses it: IndexError: " + "x" * 200),
        (torch.OutOfMemoryError("8 GiB"), None),
        (OSError("disk"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_only_what_a_models_own_code_raises_is_a_refusal(error: Exception, refusal: str | None) -> None:
    assert refusal_of(error) == refusal


@pytest.mark.parametrize("flat", [True, False])
def test_router_logits_find_their_way_back_to_every_row(flat: bool) -> None:
    """Each token of the packed rows has a number; tokens of the prompt come back in both rows of their pair."""
    pairs = [PairLengths(3, 2, 1), PairLengths(2, 1, 4)]
    layout = plan_layout(pairs, 6, LayoutCost(token=1.0, attention=0.0))
    assert layout is not None
    shape = layout.source_RT.shape
    numbers = torch.arange(shape.numel()).reshape(*shape, 1)
    states = numbers.float()
    logits = (None, numbers.reshape(-1, 1) if flat else numbers)
    outputs = unpack_outputs(SimpleNamespace(last_hidden_state=states, router_logits=logits), layout)
    assert torch.equal(outputs.last_hidden_state[..., 0], layout.target_NL.float())
    first, second = outputs.router_logits
    assert first is None
    assert second.shape == ((24, 1) if flat else (4, 6, 1))
    assert torch.equal(second.reshape(4, 6), layout.target_NL)


def test_router_logits_of_another_shape_are_refused() -> None:
    layout = plan_layout([PairLengths(3, 2, 1)], 5, LayoutCost(token=1.0, attention=0.0))
    assert layout is not None
    rows, length = layout.source_RT.shape
    outputs = SimpleNamespace(
        last_hidden_state=torch.zeros(rows, length, 2), router_logits=(torch.zeros(rows, length + 1, 4),)
    )
    with pytest.raises(ValueError, match=re.escape("router logits of the shape (1, 7, 4) for 1 rows of 6 tokens")):
        unpack_outputs(outputs, layout)


lengths = st.builds(PairLengths, st.integers(0, 60), st.integers(0, 40), st.integers(0, 40)).filter(
    lambda pair: pair.prompt + min(pair.chosen, pair.rejected) > 0
)


@given(st.lists(lengths, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_token_has_one_place_and_finds_its_way_back(pairs: list[PairLengths]) -> None:
    length = max(pair.prompt + max(pair.chosen, pair.rejected) for pair in pairs)
    ids = torch.zeros(2 * len(pairs), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, pair in enumerate(pairs):
        for row, answer in ((number, pair.chosen), (number + len(pairs), pair.rejected)):
            own = torch.arange(1, answer + 1) + 1000 * (row + 1)
            ids[row, : pair.prompt] = torch.arange(1, pair.prompt + 1) + 100 * number
            ids[row, pair.prompt : pair.prompt + answer] = own
            mask[row, : pair.prompt + answer] = 1
    assert measure_pairs(ids, mask) == pairs
    layout = plan_layout(pairs, length, WORK)
    if layout is None:
        return
    packed = ids.flatten()[layout.source_RT]
    assert torch.equal(packed.flatten()[layout.target_NL][mask.bool()], ids[mask.bool()])
    positions = layout.positions_RT.flatten()[layout.target_NL]
    assert torch.equal(positions[mask.bool()], torch.arange(length).expand_as(ids)[mask.bool()])
    assert int((layout.pair_RT >= 0).sum()) == sum(pair.packed for pair in pairs)
    _sees_exactly_its_past(layout, ids, mask)


def _sees_exactly_its_past(layout: PairLayout, ids: torch.Tensor, mask: torch.Tensor) -> None:
    allowed = layout.attention_mask()[:, 0]
    width = layout.source_RT.shape[1]
    for row in range(ids.shape[0]):
        last = int(mask[row].sum()) - 1
        place = int(layout.target_NL[row, last])
        seen = allowed[place // width, place % width].nonzero().flatten() + place // width * width
        assert sorted(seen.tolist()) == sorted(layout.target_NL[row, : last + 1].tolist())


def test_pairs_share_a_row_where_padding_costs_more_than_attention() -> None:
    cheap_attention, dear_attention = LayoutCost(token=1e6, attention=1.0), LayoutCost(token=1.0, attention=1e6)
    assert pack_segments([500, 100, 100], cheap_attention) in ([[0], [1, 2]], [[0, 1, 2]])
    assert pack_segments([100, 100, 100], dear_attention) == [[0], [1], [2]]


def test_a_layout_that_saves_nothing_is_not_used() -> None:
    assert plan_layout([PairLengths(0, 50, 50), PairLengths(0, 50, 50)], 50, WORK) is None
    free_attention = LayoutCost(token=1.0, attention=0.0)
    assert plan_layout([PairLengths(0, 50, 50)], 50, free_attention) is None, "a hundred tokens either way"
    assert plan_layout([PairLengths(1, 49, 49)], 50, free_attention) is not None


def test_of_layouts_that_cost_the_same_the_one_with_the_shorter_rows_is_taken() -> None:
    assert pack_segments([100, 100], LayoutCost(token=1.0, attention=0.0)) == [[0], [1]]


@pytest.mark.parametrize("lengths", [[3, 4, 5], [3], [0, 2], [2, 0]], ids=str)
def test_what_is_no_batch_of_pairs_is_not_measured(lengths: list[int]) -> None:
    """An odd number of rows, or a row of padding alone."""
    mask = (torch.arange(5) < torch.tensor(lengths)[:, None]).long()
    assert measure_pairs(torch.ones_like(mask), mask) is None


def test_rows_without_a_token_are_not_measured() -> None:
    assert measure_pairs(torch.ones(2, 0), torch.ones(2, 0)) is None


def test_flex_attention_skips_blocks_that_no_query_attends_to() -> None:
    """Blocks of 128 tokens: a pair's answers do not see each other, and nobody sees another pair."""
    alone = LayoutCost(token=1.0, attention=0.0)
    layout = plan_layout([PairLengths(128, 256, 256), PairLengths(128, 128, 128)], 384, alone)
    assert layout is not None
    assert layout.source_RT.shape == (1, 1024)
    mask = prefix_sharing.packed_mask(layout, "flex_attention", None)
    blocks = mask.to_dense()[0, 0]
    seen = layout.attention_mask()[0, 0].unflatten(1, (8, 128)).unflatten(0, (8, 128)).any(3).any(1)
    assert torch.equal(blocks.bool(), seen)
    # Of 64: the prompts' own 2, chosen 2 + 3 and rejected 2 + 3 of the first pair, 2 and 2 of the second.
    assert int(blocks.sum()) == 16


def test_attention_never_needs_more_memory_than_a_plain_batch_of_the_longest() -> None:
    """Sharing must not be what runs out of memory."""
    free_attention = LayoutCost(token=1.0, attention=0.0)
    pairs = [PairLengths(10, 500, 400), PairLengths(300, 100, 100)]
    alone = plan_layout(pairs, 510, free_attention, max_length=2000)
    assert alone is not None
    assert alone.source_RT.shape == (1, 1410)
    for most in (1024, 700, 512):
        layout = plan_layout(pairs, 510, free_attention, max_length=most)
        if layout is not None:
            rows, width = layout.source_RT.shape
            assert rows * width**2 <= 4 * most**2
    assert layout is None, "910 tokens in a row are more than two rows of 512 allow"


def test_packed_rows_may_need_as_much_memory_as_a_plain_batch_of_the_longest_and_no_more() -> None:
    """Four pairs of 20 tokens each: 4 · 20² scores of attention, as many as 8 rows of 200 ** 0.5 tokens have."""
    free_attention = LayoutCost(token=1.0, attention=0.0)
    assert pack_segments([20] * 4, free_attention, max_attention=4 * 20**2) == [[0], [1], [2], [3]]
    assert pack_segments([20] * 4, free_attention, max_attention=4 * 20**2 - 1) == []
    pairs = [PairLengths(10, 5, 5)] * 4
    assert plan_layout(pairs, 15, free_attention, max_length=15) is not None
    assert plan_layout(pairs, 15, free_attention, max_length=14) is None


@pytest.mark.parametrize(("attention", "shared"), [("sdpa", True), ("eager", False)])
def test_only_attention_that_keeps_its_scores_is_bounded_by_the_longest_plain_row(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, attention: str, shared: bool
) -> None:
    """SDPA keeps none; with eager attention, packed rows may need no more than a plain batch of ``max_length``."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(tiny_model)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    free_attention = LayoutCost(token=1.0, attention=0.0)
    monkeypatch.setattr(prefix_sharing, "layout_cost", lambda model, backbone: free_attention)
    sharing = PrefixSharing()
    shuffle = random.Random(12)
    batch = collate([(tokens(shuffle, 10), tokens(shuffle, 9), tokens(shuffle, 9)) for _ in range(2)])
    sharing.install(made, max_length=19)
    with sharing:
        states(made, batch)
    # Two pairs of 28 tokens: 2 · 28² scores, more than the 4 · 19² of the batch as it is.
    assert (sharing.count.saved > 0) is shared


@pytest.mark.parametrize(
    ("settings_of", "expected"),
    [
        ({"model_type": "mistral", "sliding_window": 64}, "slides over 64"),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, "slides"),
        ({"model_type": "mamba"}, "recurrent"),
        ({"model_type": "lfm2", "layer_types": ["conv", "full_attention"]}, "conv"),
        ({"model_type": "llama", "attention_dropout": 0.0}, None),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 64}, None),
        ({"model_type": "mistral", "sliding_window": 4096}, None),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_models_that_cannot_share_are_known_by_their_config(settings_of: dict[str, Any], expected: str | None) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**(small | heads | settings_of)))
    found = sharing_obstacle(made, 512)
    assert found is None if expected is None else expected in (found or "")
