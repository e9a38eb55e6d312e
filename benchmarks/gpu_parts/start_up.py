"""Part h: the first steps of a run on a GPU: the check of shared prompts, precisions, and KL beside training."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.random_models import QWEN_1B
from benchmarks.gpu_parts.session import Part, Session
from benchmarks.gpu_parts.synthetic_pairs import drawn_pairs
from benchmarks.gpu_parts.training_setup import Setup, free_memory
from benchmarks.gpu_parts.ways import OURS, TRL

_SETS = 5
_STEPS = 3
_KL_PROMPT = 2048


def measure(session: Session) -> None:
    """Run the check on several sets of pairs, then a few steps in every precision."""
    for four_bit in (False, True):
        weights = "NF4" if four_bit else "bf16"
        for number in range(1 if session.dry else _SETS):
            session.measure(
                f"start-up check, {weights}, pairs {number + 1}",
                partial(_check_set, session, number, four_bit=four_bit),
                needs=6,
            )
    session.measure("choice of attention, bf16", lambda: _choice(session), needs=15)
    session.measure("three steps, NF4", lambda: _steps(_setup(session, four_bit=True)), needs=8)
    session.measure("three steps, NF4 in fp16", lambda: _steps(_in_half(_setup(session, four_bit=True))), needs=8)
    session.measure("KL estimate, long prompt", lambda: _kl(session), needs=12)


def _setup(session: Session, *, four_bit: bool, seed: int = 0, **settings: Any) -> Setup:
    longest = 48 if session.dry else 512
    data = drawn_pairs(
        Path(session.scratch, f"start-up-{seed}.jsonl"),
        "hh-like",
        64,
        longest,
        scale=0.15 if session.dry else 1.0,
        seed=seed,
    )
    values: dict[str, Any] = {
        "use_4bit": four_bit,
        "max_seq_length": longest,
        "max_steps": _STEPS,
        "gradient_accumulation_steps": 1,
    }
    values |= {"per_device_train_batch_size": 2 if session.dry else 4, "learning_rate": 5e-6, "lora_r": 16}
    return Setup.prepared(session.scratch, QWEN_1B, data, values | settings, tiny=session.dry)


def _check_set(session: Session, number: int, *, four_bit: bool) -> Mapping[str, Any]:
    return _check(_setup(session, four_bit=four_bit, seed=number))


def _check(setup: Setup) -> Mapping[str, Any]:
    """Score a batch plainly, shared, and plainly in other layouts: alone, reversed, with padding of 8 and of 64."""
    from dpo_tui.train.shortcuts.equivalence_check import probe_batch

    trainer = setup.trainer(OURS)
    batch = probe_batch(trainer)
    if batch is None:
        raise ValueError("no pair of this set shares a prompt")
    decided = trainer.shortcuts.report()
    found = _differences(trainer, batch)
    del trainer
    free_memory()
    return {
        **found,
        "share_prefix": decided["share_prefix"]["on"],
        "labelled_head": decided["labelled_head"]["on"],
        "why": decided["share_prefix"]["why"] or decided["labelled_head"]["why"],
    }


def _choice(session: Session) -> Mapping[str, Any]:
    """Let attention for variable lengths be chosen, which ``auto`` still leaves out."""
    from dpo_tui.train.shortcuts import automatic_attention

    # So many steps that the choice takes a small part of them; none is made.
    setup = _setup(session, four_bit=False, max_steps=1_000_000)
    reason = automatic_attention.LEFT_OUT.pop("varlen")
    try:
        trainer = setup.trainer(OURS)
    finally:
        automatic_attention.LEFT_OUT["varlen"] = reason
    chosen = trainer.shortcuts.report()["attention"]
    del trainer
    free_memory()
    candidates = {one["name"]: one["seconds"] or one["why_not"] for one in chosen.get("candidates", [])}
    return {"attention": chosen["name"], "why": chosen["why"], "candidates": candidates}


def _differences(trainer: Any, batch: dict[str, Any]) -> dict[str, float]:
    import torch

    from dpo_tui.train.shortcuts.equivalence_check import largest_difference, token_logps

    shortcuts = trainer.shortcuts

    def scores(rows: dict[str, Any], *, shared: bool = False) -> Any:
        shortcuts.sharing.enabled, shortcuts.sparse_head.enabled = shared, False
        with shortcuts.sharing:
            return token_logps(trainer, rows)

    plain = scores(batch)
    counts = [int(mask[1:].sum()) for mask in batch["completion_mask"]]
    alone = [scores({name: tensor[row : row + 1] for name, tensor in batch.items()}) for row in range(len(counts))]
    backwards = scores({name: tensor.flip(0) for name, tensor in batch.items()})
    return {
        "shared_differs": largest_difference(plain, scores(batch, shared=True)),
        "noise, padding 8": largest_difference(plain, scores(_padded(batch, 8))),
        "noise, padding 64": largest_difference(plain, scores(_padded(batch, 64))),
        "noise, rows alone": largest_difference(plain, torch.cat(alone)),
        "noise, reversed": largest_difference(plain, torch.cat(backwards.split(counts[::-1])[::-1])),
    }


def _padded(batch: dict[str, Any], more: int) -> dict[str, Any]:
    import torch

    return {name: torch.nn.functional.pad(tensor, (0, more)) for name, tensor in batch.items()}


def _in_half(setup: Setup) -> Setup:
    """Return the setup as on a card without bfloat16."""
    from dpo_tui.train.model.device import TrainingDevice

    if setup.device.kind != "cuda":
        return setup
    return setup.on(TrainingDevice("cuda", "fp16", "fp16, forced"))


def _steps(setup: Setup) -> Mapping[str, Any]:
    """Train three steps; report the trained weights' type, the gradients, and how many weights moved."""
    trainer = setup.trainer(OURS)
    trained = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in trained.items()}
    types = sorted({str(weight.dtype) for weight in trained.values()})
    trainer.train()
    moved = {
        side: _share_moved([(trained[name], before[name]) for name in names])
        for side in ("lora_A", "lora_B")
        if (names := [name for name in trained if side in name])
    }
    log = [line for line in trainer.state.log_history if "loss" in line]
    found = {
        "adapter_types": types,
        "first_loss": log[0]["loss"],
        "gradient_norms_finite": all(math.isfinite(line["grad_norm"]) for line in log),
        "moved_A": round(moved.get("lora_A", 0.0), 3),
        "moved_B": round(moved.get("lora_B", 0.0), 3),
    }
    del trainer, trained, before
    free_memory()
    return found


def _share_moved(pairs: Sequence[tuple[Any, Any]]) -> float:
    changed = sum(int((now != before).sum()) for now, before in pairs)
    return changed / sum(int(now.numel()) for now, _ in pairs)


def _kl(session: Session) -> Mapping[str, Any]:
    """Estimate KL from one long prompt and three short ones: its logits may be the largest thing in memory."""
    import torch

    from dpo_tui.train.evaluation.kl import estimate_kl

    long = 64 if session.dry else _KL_PROMPT
    setup = _setup(session, four_bit=False, max_seq_length=long)
    trainer = setup.trainer(TRL)
    trainer.train()
    on_gpu = torch.cuda.is_available()
    training = torch.cuda.max_memory_allocated() if on_gpu else None
    free_memory()
    prompts = [[5] * long, *([[5] * 16] * 3)]
    estimate = estimate_kl(trainer, setup.tokenizer, prompts, 4 if session.dry else 32, seed=0)
    found = {
        "training_peak_gb": round(training / 1e9, 2) if training else None,
        "kl_peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
        "answers": estimate.n if estimate else 0,
    }
    del trainer
    free_memory()
    return found


PART = Part(
    letter="h",
    name="start-up",
    title="Start-up check, precisions, KL",
    meaning=(
        "Qwen2.5-1.5B's shape. `shared_differs` and `noise`: largest difference of a token's log-probability against "
        "the plain batch; noise is that of plain rows in other layouts. `moved`: share of the adapter's entries that "
        f"{_STEPS} steps at 5e-6 changed. `kl_peak_gb`: with one prompt of {_KL_PROMPT} tokens, to be held against "
        "`training_peak_gb`."
    ),
    seconds=60,
    measure=measure,
)
