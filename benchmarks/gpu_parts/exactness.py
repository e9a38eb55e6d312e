"""Part f: are our losses in bf16 as close to TRL's as TRL's are to themselves in another batch layout?"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.random_models import QWEN_1B
from benchmarks.gpu_parts.session import NotMeasured, Part, Session
from benchmarks.gpu_parts.synthetic_pairs import drawn_pairs
from benchmarks.gpu_parts.training_setup import Setup, free_memory
from benchmarks.gpu_parts.ways import OURS, TRL, Way

_STEPS = 20
_PADDING = 64
_FIRST_LOSS = (0.69314, 0.69316)
_METRICS = ("loss", "rewards/margins", "grad_norm")
WAYS = (
    TRL,
    replace(TRL, name=f"trl, rows padded to {_PADDING}", padding=_PADDING),
    replace(OURS, name="ours, sdpa mask", reference_once=False),
    replace(OURS, name="ours, varlen, packed", reference_once=False, attention="varlen"),
    replace(OURS, name="ours, flex", reference_once=False, attention="flex_attention"),
)


def measure(session: Session) -> None:
    """Train the same steps in every way and compare with plain TRL."""
    for four_bit in (False, True):
        plain: list[dict[str, float]] = []
        noise: dict[str, float] = {}
        for way in WAYS:
            session.measure(
                f"{'NF4' if four_bit else 'bf16'}: {way.name}",
                partial(_compared, session, way, plain, noise, four_bit=four_bit),
                needs=9,
            )


def _compared(
    session: Session, way: Way, plain: list[dict[str, float]], noise: dict[str, float], *, four_bit: bool
) -> Mapping[str, Any]:
    """Train in one way.

    Args:
        session: of this part.
        way: in which to train.
        plain: log of plain TRL; filled by its own row.
        noise: differences of TRL in another layout; filled by its own row.
        four_bit: NF4, else bf16.
    """
    if way.attention == "flex_attention" and session.dry:
        raise NotMeasured("FlexAttention trains on GPUs only")
    steps, longest = (2, 48) if session.dry else (_STEPS, 512)
    path = Path(session.scratch, "exactness.jsonl")
    data = drawn_pairs(path, "hh-like", 4 * steps, longest, scale=0.15 if session.dry else 1.0)
    settings = {
        "use_4bit": four_bit,
        "max_seq_length": longest,
        "max_steps": steps,
        # So that the policy leaves the reference, and a wrong gradient shows.
        "learning_rate": 1e-4,
        **way.settings(4, dry=session.dry),
    }
    setup = Setup.prepared(session.scratch, QWEN_1B, data, settings, tiny=session.dry)
    trainer = setup.trainer(way)
    trainer.train()
    log = [line for line in trainer.state.log_history if "loss" in line]
    shared = trainer.shortcuts.report()["share_prefix"] if way.ours else {}
    del trainer
    free_memory()
    first = log[0]["loss"]
    found: dict[str, Any] = {
        "attention": setup.attention if way.ours else None,
        "first_loss": first,
        "first_loss_is_ln_2": _FIRST_LOSS[0] <= first <= _FIRST_LOSS[1],
        "last_loss": log[-1]["loss"],
        "share_prefix": shared.get("on"),
        "why_not": shared.get("why"),
    }
    if way == TRL:
        plain.extend(log)
        return found
    if plain:
        differences = {name: max(abs(a[name] - b[name]) for a, b in zip(log, plain, strict=True)) for name in _METRICS}
        found |= {f"{name} differs": difference for name, difference in differences.items()}
        if not way.ours:
            noise |= differences
        elif noise:
            found["times_trls_own"] = max(
                differences[name] / noise[name] if noise[name] else float(differences[name] > 0) for name in _METRICS
            )
    return found


PART = Part(
    letter="f",
    name="exactness",
    title="Exactness in bf16",
    meaning=(
        f"Qwen2.5-1.5B's shape, {_STEPS} steps at 1e-4, the same pairs and seed. `differs`: largest difference to "
        f"plain TRL over the steps; `times_trls_own`: that against TRL's own with rows padded to {_PADDING}, of the "
        "metric where it is largest. About 1 or less, with sharing on, is what it takes to let `auto` choose varlen "
        "(dpo_tui/train/shortcuts/automatic_attention.py). The first loss is ln 2 where policy and reference are the "
        "same model."
    ),
    seconds=60,
    measure=measure,
)
