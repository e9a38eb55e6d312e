"""Our training against plain TRL: the same losses, rewards, gradients and adapters, step by step."""

import importlib.metadata
import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from dpo_tui.config.schema import Config
from dpo_tui.config.sections.dpo_loss import Loss
from dpo_tui.config.toml_text import to_toml
from tests.support.flex_on_cpu import unfused
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import Trained, ours, plain_trl
from tests.support.training import make_config, make_run
from tests.support.varlen_on_cpu import referenced

# Of TRL; before 1.16 it has none that runs everywhere.
HAS_FUSED_HEAD = importlib.metadata.version("trl") >= "1.16"
STEPS = 20
# Half the distance of neighbouring bfloat16 numbers, relative.
HALF_ULP = 2**-9
COMPARED = (
    "loss",
    "grad_norm",
    "learning_rate",
    "entropy",
    "num_tokens",
    "mean_token_accuracy",
    "logits/chosen",
    "logits/rejected",
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
)


@pytest.fixture(scope="module")
def varied_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts and answers of many lengths, some cut at the end."""
    shuffle = random.Random(7)

    def text(most: int) -> str:
        return " ".join(shuffle.choices(WORDS, k=shuffle.randint(1, most)))

    path = tmp_path_factory.mktemp("varied") / "pairs.jsonl"
    rows = [{"prompt": f"{n} {text(12)}", "chosen": text(20), "rejected": text(12)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def attentive_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights: fresh ones barely attend, and would forgive a token that sees too much."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("attentive") / "model"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    larger = {name: weight * 5 if weight.ndim > 1 else weight for name, weight in weights.items()}
    save_file(larger, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def config_of(model: Path, pairs: Path, **changes: Any) -> Config:
    values = {
        "max_steps": STEPS,
        "max_seq_length": 48,
        "learning_rate": 1e-4,
        "eval_split": 0.0,
        "sample_prompts": 0,
        "kl_prompts": 0,
        "save_steps": 1000,
    }
    return make_config(model, pairs, **(values | changes))


Log = list[dict[str, float]]


def differences(one: Log, other: Log) -> dict[str, float]:
    assert len(one) == len(other) == STEPS
    return {
        name: max(abs(mine[name] - theirs[name]) for mine, theirs in zip(one, other, strict=True)) for name in COMPARED
    }


def largest_differences(one: Trained, other: Trained) -> dict[str, float]:
    return differences(one.log, other.log)


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("use_lora", [True, False], ids=["lora", "full"])
def test_every_step_is_trls(home: Path, tiny_model: Path, varied_pairs: Path, use_lora: bool, accumulate: int) -> None:
    """≤ 1e-4 apart over 20 steps, with the reference scored in every step and once; cosine ≥ 0.9999."""
    rate = 2e-3 if use_lora else 1e-4
    shape = {"use_lora": use_lora, "gradient_accumulation_steps": accumulate, "learning_rate": rate}
    plain = plain_trl(config_of(tiny_model, varied_pairs, precompute_ref_log_probs="off", **shape))
    assert plain.log[-1]["loss"] < plain.log[0]["loss"] - 1e-3, "it learns nothing, so nothing is compared"
    for once in ("off", "on"):
        mine = ours(config_of(tiny_model, varied_pairs, precompute_ref_log_probs=once, **shape))
        assert max(largest_differences(plain, mine).values()) <= 1e-4
        assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
        report = mine.trainer.shortcuts.report()
        assert report["share_prefix"]["on"]
        assert report["share_prefix"]["saved"] > 0.1
        assert report["labelled_head"]["saved"] > 0.1 or not HAS_FUSED_HEAD
        assert report["reference_once"]["on"] is (once == "on")


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"use_weighting": True, "loss_type": ["ipo"]},
        {"ld_alpha": 0.5},
        {"truncation_mode": "keep_end", "max_seq_length": 32},
        {"attn_implementation": "eager", "gradient_checkpointing": False, "per_device_train_batch_size": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_losses_and_layouts_are_trls_too(
    home: Path, tiny_model: Path, varied_pairs: Path, changes: dict[str, Any]
) -> None:
    plain = plain_trl(config_of(tiny_model, varied_pairs, precompute_ref_log_probs="off", **changes))
    mine = ours(config_of(tiny_model, varied_pairs, precompute_ref_log_probs="on", **changes))
    assert max(largest_differences(plain, mine).values()) <= 1e-4
    assert mine.trainer.shortcuts.report()["labelled_head"]["saved"] > 0.1 or not HAS_FUSED_HEAD


@pytest.mark.slow
@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_loss_is_trls(home: Path, tiny_model: Path, varied_pairs: Path, loss: str) -> None:
    """Each loss alone, with the reference scored in every step against ours scored once, over 20 steps.

    Metrics are ≤ 1e-4 apart, or 1e-4 of their size where that is above 1: sppo_hard's gradients are hundreds long.
    """
    changes = {"loss_type": [loss]} | ({"label_smoothing": 0.001} if loss == "exo_pair" else {})
    plain = plain_trl(config_of(tiny_model, varied_pairs, precompute_ref_log_probs="off", **changes))
    mine = ours(config_of(tiny_model, varied_pairs, precompute_ref_log_probs="on", **changes))
    for name, difference in largest_differences(plain, mine).items():
        assert difference <= 1e-4 * max(1.0, *(abs(line[name]) for line in plain.log)), name
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
    assert mine.trainer.shortcuts.report()["share_prefix"]["on"]


@pytest.mark.parametrize(
    ("attention", "checkpointed"), [("flex_attention", False), ("varlen", False), ("varlen", True)]
)
def test_attention_without_scores_trains_as_trls_does(
    home: Path,
    tiny_model: Path,
    varied_pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    attention: str,
    checkpointed: bool,
) -> None:
    """A block mask, or no mask and packed sequences, and gradients through them, by torch's unfused code."""
    unfused(monkeypatch)
    referenced(monkeypatch)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 8)
    changes = {"attn_implementation": attention, "learning_rate": 2e-3, "gradient_checkpointing": checkpointed}
    config = config_of(tiny_model, varied_pairs, precompute_ref_log_probs="off", **changes)
    plain = plain_trl(config.model_copy(update={"attn_implementation": "sdpa"}))
    mine = ours(config)
    assert max(largest_differences(plain, mine).values()) <= 1e-4
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999
    assert mine.trainer.model.config._attn_implementation == attention
    if attention == "flex_attention":
        assert torch._dynamo.config.recompile_limit > 9, "a run with samples would fall back to unfused code"
    assert mine.trainer.shortcuts.report()["share_prefix"]["saved"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "adapters"), [("ddp", [True]), ("fsdp", [True, False])], ids=["ddp", "fsdp"])
def test_two_processes_train_as_trls_two_do(
    home: Path, tiny_model: Path, varied_pairs: Path, tmp_path: Path, *, kind: str, adapters: list[bool]
) -> None:
    """Shared prompts in two processes, each laying out its own pairs: whole models, and one spread over both.

    Full fine-tuning spreads the reference's model too.
    """
    found_in = tmp_path / "found.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(Path(__file__).parents[2] / "support" / "ddp_training.py"), kind, str(found_in)]
    for use_lora in adapters:
        changes = {"use_lora": use_lora, "learning_rate": 2e-3 if use_lora else 1e-4}
        config = config_of(tiny_model, varied_pairs, precompute_ref_log_probs="off", **changes)
        path = tmp_path / f"{use_lora}.toml"
        path.write_text(to_toml(config))
        command.append(str(path))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    comparisons = json.loads(found_in.read_text())
    assert len(comparisons) == len(adapters)
    for found in comparisons:
        assert found["wrapped"]
        assert max(differences(found["plain"], found["ours"]).values()) <= 1e-4
        assert found["cosine"] >= 0.9999
        assert found["shortcuts"]["share_prefix"]["saved"] > 0.1


@pytest.mark.parametrize("attention", ["sdpa", "varlen"])
@pytest.mark.parametrize("kind", ["bf16", "nf4"])
def test_rounding_differs_no_more_than_trl_from_itself(
    home: Path, attentive_model: Path, varied_pairs: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str, attention: str
) -> None:
    """In half precision and NF4 every batch layout rounds differently; ours is one more layout."""
    import torch.nn.functional as F

    from dpo_tui.train.shortcuts.equivalence_check import largest_difference, probe_batch, token_logps

    referenced(monkeypatch)
    settings = {"use_4bit": kind == "nf4", "attn_implementation": attention}
    trainer = ours(config_of(attentive_model, varied_pairs, max_steps=1, **settings)).trainer
    trainer.model.to(torch.bfloat16)
    trainer.model.eval()
    batch = probe_batch(trainer)
    assert batch is not None
    shortcuts = trainer.shortcuts

    def scores(rows: dict[str, torch.Tensor], *, on: bool) -> torch.Tensor:
        shortcuts.sparse_head.enabled = shortcuts.sharing.enabled = on
        with shortcuts.sharing:
            return token_logps(trainer, rows)

    plain = scores(batch, on=False)
    layouts = [
        {name: F.pad(tensor, (0, width)) if tensor.ndim > 1 else tensor for name, tensor in batch.items()}
        for width in (5, 16, 40)
    ]
    noise = max(largest_difference(plain, scores(rows, on=False)) for rows in layouts)
    shortcuts.sharing.reset()
    assert largest_difference(plain, scores(batch, on=True)) <= max(2 * noise, HALF_ULP * float(plain.abs().max()))
    assert shortcuts.sharing.count.saved > 0.1


def test_the_loss_of_two_tokens_is_the_one_worked_out_on_paper(home: Path, tmp_path: Path, tiny_model: Path) -> None:
    """A model of two tokens that says 1 after 0 with probability 3/4, and a reference that knows nothing (1/2).

    Prompt 0; chosen answer 1, rejected answer 0 1. Log-ratios to the reference: chosen ln(3/4 ÷ 1/2) = ln 3/2,
    rejected ln(1/4 · 3/4 ÷ 1/4) = ln 3/4. Margin β (ln 3/2 - ln 3/4) = β ln 2, so the loss is
    -log σ(β ln 2) = ln(1 + 2^-β).
    """
    from datasets import Dataset

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.shortcuts.shortcuts import Shortcuts
    from dpo_tui.train.trainer.trainers import PairTrainer
    from dpo_tui.train.trainer.trl_arguments import dpo_arguments
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    beta = 0.5
    config = config_of(
        tiny_model, tmp_path / "none.jsonl", beta=beta, max_steps=1, use_lora=False, precompute_ref_log_probs="off"
    )
    folder = make_run(config)
    journal = Journal(folder)
    arguments = dpo_arguments(config, folder, choose_device(config), evaluates=False, resumes=False)
    arguments.save_strategy = "no"
    trainer = PairTrainer(
        config,
        journal,
        StopRequests(folder),
        Shortcuts(journal, "on"),
        model=two_token_model(math.log(3)),
        ref_model=two_token_model(0.0),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "0", "chosen": "1", "rejected": "0"}] * 2),
        processing_class=two_token_tokenizer(),
    )
    line = Trained(trainer).log[0]
    assert line["rewards/chosen"] == pytest.approx(beta * math.log(3 / 2), abs=1e-5)
    assert line["rewards/rejected"] == pytest.approx(beta * math.log(3 / 4), abs=1e-5)
    assert line["loss"] == pytest.approx(math.log(1 + 2**-beta), abs=1e-5)
    assert trainer.shortcuts.sharing.count.saved > 0


def two_token_model(logit: float) -> Any:
    """After token 0 the logits are (0, logit), after token 1 they are (0, 0); the layer between adds nothing."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2,
            hidden_size=2,
            intermediate_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            rms_norm_eps=1e-12,
        )
    )
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(2))
        # The norm makes (1, 0) into (√2, 0).
        model.lm_head.weight.copy_(torch.tensor([[0.0, 0.0], [logit / math.sqrt(2), 0.0]]))
    return model


def two_token_tokenizer() -> Any:
    """Text of the digits 0 and 1; an answer ends with 1."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"0": 0, "1": 1}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="1", pad_token="1")
