"""scripts/whole_chain.py on the tiny model: train, judge, merge and read the card by commands, checked from outside."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import ROOT

SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="module")
def whole_chain() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module("whole_chain")


@pytest.fixture(scope="module")
def chain(whole_chain: Any, tiny_model: Path, tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = {
        "max_seq_length": 128, "max_steps": 8, "learning_rate": 3e-2, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1, "logging_steps": 1, "eval_steps": 8, "eval_split": 0.25,
        "sample_max_new_tokens": 8, "kl_prompts": 4, "kl_max_new_tokens": 8, "looks_share": 1.0, "bf16": False,
        "gpus": "none",
    }  # fmt: skip
    return whole_chain.Chain(str(tiny_model), tiny_pairs, tmp_path_factory.mktemp("chain"), settings)


@pytest.mark.slow
def test_every_link_of_the_chain_holds(whole_chain: Any, chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One command shows all of it."""
    assert whole_chain.run_chain(chain) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    for step in ("train", "samples_differ", "judge", "export", "same_logits", "model_card"):
        assert f"✓ {step}: " in printed


@pytest.mark.slow
def test_a_link_that_is_not_true_is_found_out(
    whole_chain: Any, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checks can fail: of a copy of what the chain left, spoilt in one way each."""
    from safetensors.torch import load_file, save_file

    work = tmp_path / "spoilt"
    shutil.copytree(chain.work, work)
    spoilt = whole_chain.Chain(chain.model, chain.data, work, chain.settings)
    weights = load_file(work / "merged" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name] * 1.5
    save_file(weights, work / "merged" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(whole_chain.CheckError, match="the logits differ by"):
        whole_chain.same_logits(spoilt)

    card = work / "merged" / "README.md"
    card.write_text(card.read_text().replace("| eval_kl |", "| kl |"))
    with pytest.raises(whole_chain.CheckError, match="the model card lacks"):
        whole_chain.model_card(spoilt)

    samples = [{**sample, "answer": "the same"} for sample in spoilt.lines("samples.jsonl")]
    (spoilt.run / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    with pytest.raises(whole_chain.CheckError, match="word for word"):
        whole_chain.samples_differ(spoilt)
    with pytest.raises(whole_chain.CheckError, match="ended with 2"):
        spoilt.call("export", "last", "--to", str(work / "merged"))
    whole_chain.STEPS, before = (whole_chain.samples_differ,), whole_chain.STEPS
    try:
        assert whole_chain.run_chain(spoilt) == 1
    finally:
        whole_chain.STEPS = before
    assert "✗ samples_differ" in capsys.readouterr().out
