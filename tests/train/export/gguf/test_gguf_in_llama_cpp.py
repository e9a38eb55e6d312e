"""llama.cpp itself loads the file of each family that the writer holds, and computes what the model computes.

It needs the package llama-cpp-python, whose processor build is enough; without it these tests are skipped.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support import families
from tests.train.export.gguf.test_gguf_families import HELD, written

pytestmark = pytest.mark.slow

# With f16, what is left is llama.cpp's own rounding: it keeps keys and values in fp16, also where a file is in bf16.
BOUND = {"f16": 3e-3, "bf16": 2e-2, "q8_0": 8e-2}
"""Largest distance of the logits over their size."""


@pytest.fixture(scope="session")
def llama_cpp() -> Any:
    pytest.importorskip("gguf")
    return pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: pip install llama-cpp-python")


def logits_of(llama_cpp: Any, file: Path, row: list[int]) -> Any:
    """The logits behind each token of a row, as llama.cpp computes them."""
    import numpy as np
    import torch

    model = llama_cpp.Llama(str(file), n_ctx=256, logits_all=True, n_gpu_layers=0, verbose=False)
    try:
        model.eval(row)
        return torch.from_numpy(np.array(model.scores[: len(row)], dtype=np.float32))
    finally:
        model.close()


@pytest.mark.parametrize("chosen", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", HELD)
def test_llama_cpp_computes_what_the_model_computes(llama_cpp: Any, tmp_path: Path, name: str, chosen: Any) -> None:
    """The logits of every position, and of an answer of 16 tokens each most likely one where nothing is close to it.

    Rows stay within the window of the family that loses it, and go beyond it in those that keep it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = families.build(name, tmp_path / "model")
    _, file = written(folder, tmp_path / "out", chosen)
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    length = 44 if "mistral" in name else 120
    row = torch.randint(5, 1536, (1, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        row = whole.generate(
            row, attention_mask=torch.ones_like(row), max_new_tokens=16, do_sample=False, eos_token_id=None
        )
        expected = whole(row).logits[0]
    found = logits_of(llama_cpp, file, row[0].tolist())[:, : expected.shape[1]]
    assert float((found - expected).norm() / expected.norm()) < BOUND[chosen]
    best_two = expected.topk(2).values
    clear = (best_two[:, 0] - best_two[:, 1]) > 2 * (found - expected).abs().max()
    assert clear.any(), "no position tells the most likely token"
    assert found[clear].argmax(1).tolist() == expected[clear].argmax(1).tolist()
