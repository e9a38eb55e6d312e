"""How the model of a run is loaded."""

from pathlib import Path
from typing import Any

from tests.train.test_run_training import make_config


def test_an_evaluation_before_a_step_leaves_the_gradients_of_a_4_bit_model_as_they_are(
    tiny_model: Path, tiny_pairs: Path
) -> None:
    """bitsandbytes repacks 4-bit weights in such a forward where the processor has AVX512-BF16."""
    import torch
    from peft import get_peft_model

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, lora_config

    config = make_config(tiny_model, tiny_pairs, use_4bit=True)

    def gradients(*, evaluated: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        model = get_peft_model(load_model(config, choose_device(config)), lora_config(config))
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # zero at the start: nothing would flow into A
                torch.nn.init.normal_(weight, std=0.02)
        tokens = torch.arange(8)[None]
        if evaluated:
            with torch.no_grad():
                model.eval()(tokens)
        model.train()(tokens, labels=tokens).loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    before, after = gradients(evaluated=False), gradients(evaluated=True)
    assert before.keys() == after.keys() and len(before) > 10
    for name, gradient in before.items():
        assert gradient.norm() > 0, name
        torch.testing.assert_close(after[name], gradient, msg=name)
