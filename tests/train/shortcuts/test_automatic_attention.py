"""``attn_implementation = "auto"``: between which implementations a run chooses, and what its passes compute."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface

from benchmarks.gpu_parts import varlen_reference
from dpo_tui.errors import TrainingError
from dpo_tui.train.shortcuts import automatic_attention, training_passes
from dpo_tui.train.shortcuts.automatic_attention import LEFT_OUT, candidates
from dpo_tui.train.shortcuts.check_budget import DatasetLengths
from dpo_tui.train.shortcuts.training_passes import typical_pairs
from tests.support.training import lines, losses, make_config, train
from tests.support.varlen_on_cpu import referenced


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let varlen be chosen, and every pass take a second; under varlen a tenth. Returns what the passes ran under."""
    varlen_reference.stand_in(monkeypatch.setattr)
    # As where no other test has made it known to transformers.
    for registry in (AttentionInterface, AttentionMaskInterface):
        monkeypatch.delitem(registry._global_mapping, "varlen", raising=False)
    monkeypatch.setattr(automatic_attention, "LEFT_OUT", {})
    monkeypatch.setattr(automatic_attention, "varlen_obstacle", lambda kind, dtype: None)
    seconds, ran = [0.0], []
    plain_pass = training_passes.TrainingPasses._pass

    def timed(self: Any, batch: Any, attention: str, *, shared: bool) -> Any:
        assert self._models[0].is_activation_checkpointing == self._trainer.args.gradient_checkpointing, "memory"
        ran.append(attention if shared else "plain")
        seconds[0] += 0.1 if attention == "varlen" else 1.0
        return plain_pass(self, batch, attention, shared=shared)

    monkeypatch.setattr(training_passes.TrainingPasses, "_pass", timed)
    for module in (automatic_attention, training_passes):
        monkeypatch.setattr(module, "clock", lambda: seconds[0])
    return ran


def quick(model: Path, pairs: Path, **changes: Any) -> Any:
    """A config of a run that is long enough for a choice, of which three steps are made."""
    values = {"sample_prompts": 0, "kl_prompts": 0, "max_steps": 3, "eval_split": 0.0, "save_steps": 1000}
    return make_config(model, pairs, **(values | changes))


@pytest.fixture
def long_run(clock: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The budget of a long run, in one of three steps; returns what the passes ran under."""
    monkeypatch.setattr("dpo_tui.train.shortcuts.check_budget._SHARE", 1000.0)
    return clock


def test_the_fastest_attention_trains_as_the_models_own_does(
    home: Path, tiny_model: Path, tiny_pairs: Path, long_run: list[str]
) -> None:
    folder = train(quick(tiny_model, tiny_pairs))
    assert long_run == ["plain"] * 3 + ["sdpa"] * 4 + ["varlen"] * 4
    found = shortcuts(folder)
    assert found["share_prefix"]["on"] and found["share_prefix"]["saved"] > 0.1
    assert found["attention"]["name"] == "varlen"
    assert found["attention"]["why"] == "the fastest of those measured, 0.1 s a batch, against sdpa 1 s"
    assert all(one["gradients_differ"] < 1e-4 for one in found["attention"]["candidates"])
    assert any(event["message"].startswith("Attention is varlen: the fastest") for event in lines(folder.events))
    plain = train(quick(tiny_model, tiny_pairs, attn_implementation="sdpa"))
    assert shortcuts(plain)["attention"] == {"name": "sdpa", "why": 'attn_implementation = "sdpa"'}
    for step, loss in losses(plain).items():
        assert losses(folder)[step] == pytest.approx(loss, abs=1e-5)


def test_the_choice_leaves_no_trace_in_the_training(
    home: Path, tiny_model: Path, tiny_pairs: Path, long_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout's random numbers, gradients and the count of tokens are those of a run that measured nothing."""
    monkeypatch.setattr(
        automatic_attention, "set_attention", lambda models, name: training_passes.set_attention(models, "sdpa")
    )
    measured = train(quick(tiny_model, tiny_pairs))
    assert len(long_run) == 11
    plain = train(quick(tiny_model, tiny_pairs, attn_implementation="sdpa"))
    assert losses(measured) == losses(plain)
    for part in ("share_prefix", "labelled_head"):
        assert shortcuts(measured)[part] == shortcuts(plain)[part]


def test_an_attention_that_computes_something_else_is_not_taken(
    home: Path, tiny_model: Path, tiny_pairs: Path, long_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the kernel aligned sequences to their start."""
    from torch.nn.attention import varlen

    reference = varlen.varlen_attn

    def not_causal(*given: Any, **options: Any) -> Any:
        return reference(*given, **options | {"window_size": (-1, -1)})

    monkeypatch.setattr("dpo_tui.train.model.varlen_attention._varlen_attn", lambda: not_causal)
    monkeypatch.setattr(
        "dpo_tui.train.model.varlen_attention._parameters", lambda: {"window_size", "scale", "enable_gqa"}
    )
    found = shortcuts(train(quick(tiny_model, tiny_pairs)))
    assert found["attention"]["name"] == "sdpa"
    assert "differ by" in found["attention"]["candidates"][1]["why_not"]
    assert found["share_prefix"]["on"]


def test_longer_pairs_that_differ_bring_the_models_own_attention_back(
    home: Path, tiny_model: Path, tiny_pairs: Path, long_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train.shortcuts.shortcuts import Shortcuts

    check = Shortcuts._large_mismatch

    def differs(self: Any, run: Any) -> str | None:
        attention = run.models[0].config._attn_implementation
        return "scores differ" if attention == "varlen" else check(self, run)

    monkeypatch.setattr(Shortcuts, "_large_mismatch", differs)
    found = shortcuts(train(quick(tiny_model, tiny_pairs)))
    assert found["attention"]["name"] == "sdpa"
    assert found["attention"]["why"] == "varlen is faster, but scores differ"
    assert found["share_prefix"]["on"]


def test_a_run_too_short_to_pay_for_it_measures_nothing(
    home: Path, tiny_model: Path, tiny_pairs: Path, clock: list[str]
) -> None:
    found = shortcuts(train(quick(tiny_model, tiny_pairs)))
    assert clock == []
    assert found["attention"] == {"name": "sdpa", "why": "the run is too short to measure sdpa, varlen"}


def test_nothing_that_no_gpu_has_run_is_taken_by_itself(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that could run both."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(automatic_attention, "varlen_obstacle", lambda kind, dtype: None)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="sdpa")
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cuda")),
        args=SimpleNamespace(bf16=True, fp16=False, max_length=64),
    )
    names, why = candidates(trainer, [model])
    assert names == ["sdpa"]
    assert set(LEFT_OUT) == {"varlen", "flex_attention"}
    for name, reason in LEFT_OUT.items():
        assert f"{name}: {reason}" in why
        assert "part f" in reason
    monkeypatch.setattr(automatic_attention, "LEFT_OUT", {})
    assert candidates(trainer, [model])[0] == ["sdpa", "varlen", "flex_attention"]
    other = SimpleNamespace(config=SimpleNamespace(_attn_implementation="eager"))
    monkeypatch.setattr(automatic_attention, "sharing_obstacle", lambda *_: None)
    assert candidates(trainer, [model, other]) == (["sdpa"], "the reference's model has another")


def test_where_it_was_asked_for_and_nothing_can_be_shared_the_run_says_what_computes(
    home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.train import run_training

    referenced(monkeypatch)
    monkeypatch.setattr(run_training, "require_trainable_attention", lambda config, device: None)
    monkeypatch.setattr("dpo_tui.train.shortcuts.shortcuts.sharing_obstacle", lambda *_: "it is recurrent")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a b", "chosen": "c", "rejected": "d"}\n' * 8)
    folder = train(quick(tiny_model, pairs, attn_implementation="varlen", max_steps=1))
    warnings = [event["message"] for event in lines(folder.events) if event["kind"] == "warning"]
    assert any(
        message.startswith('attn_implementation = "varlen" computes shared prompts alone') for message in warnings
    )


def test_without_a_gpu_it_is_refused_before_the_model_is_loaded(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    with pytest.raises(
        TrainingError, match=r'attn_implementation = "varlen": torch has a kernel of it for NVIDIA GPUs'
    ):
        train(make_config(tiny_model, tiny_pairs, attn_implementation="varlen"))


def shortcuts(folder: Any) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(folder.receipt.read_text())["shortcuts"]
    return found


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("trained", [1, 3, 40, 1000])
def test_the_measured_batch_has_no_more_tokens_than_some_step_certainly_has(count: int, trained: int) -> None:
    shuffle = random.Random(f"{count} {trained}")
    spans = np.array([int(shuffle.lognormvariate(5, 0.7)) for _ in range(200)])
    chosen = typical_pairs(DatasetLengths(spans, spans), count, trained)
    assert len(chosen) == count
    certain = np.sort(spans)[:trained].mean() * count
    assert spans[chosen].sum() <= certain
    if trained > 100 and count > 1:
        assert spans[chosen].sum() > certain / 3, "hardly a batch"
        assert len(set(spans[chosen])) > 1
