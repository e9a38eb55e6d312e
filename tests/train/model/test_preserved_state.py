"""Extra forward passes leave a model as if they had not been made."""

from typing import Any

import torch

from dpo_tui.train.model.preserved_state import preserved_state


def dynamic_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        initializer_range=0.3,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_dynamic_rope_forgets_the_long_row_of_a_check() -> None:
    """Frequencies of the longest row so far stay for shorter ones, so a pass more would change the next step."""
    model, row, long_row = dynamic_llama(), torch.arange(20)[None], torch.arange(48)[None]
    before = model(row).logits
    with preserved_state(model):
        model(long_row)
        assert not torch.allclose(model(row).logits, before, atol=1e-4), "nothing is kept, so nothing is tested"
    assert torch.equal(model(row).logits, before)


def test_mode_random_numbers_and_averages_are_those_from_before() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    model[0].eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mean = model[0].running_mean.clone()
    with preserved_state(model):
        model.train()
        model(torch.randn(8, 4))
        assert not torch.equal(model[0].running_mean, mean)
    assert torch.equal(model[0].running_mean, mean)
    assert int(model[0].num_batches_tracked) == 0
    assert (model.training, model[0].training, model[1].training) == (True, False, True)
    assert torch.equal(torch.rand(3), expected)


def test_it_is_restored_after_an_error_too() -> None:
    model = torch.nn.Dropout(0.5)
    try:
        with preserved_state(model):
            model.eval()
            raise ValueError
    except ValueError:
        assert model.training
