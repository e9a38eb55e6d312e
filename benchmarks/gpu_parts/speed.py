"""Part d: training speed against TRL, on two models and two distributions of lengths."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.random_models import LLAMA_8B, QWEN_1B
from benchmarks.gpu_parts.session import NotBuilt, Part, Session
from benchmarks.gpu_parts.synthetic_pairs import drawn_pairs
from benchmarks.gpu_parts.training_setup import Setup, free_memory
from benchmarks.gpu_parts.ways import OURS, TRL, TRL_PRECOMPUTE, Way

WARM_UP, STEPS = 2, 8
_TRAINING_SECONDS = 9.0
_EPOCHS = 3


@dataclass(frozen=True)
class Workload:
    """What all ways train.

    Attributes:
        model: id in the shipped table.
        four_bit: NF4, else bf16.
        lengths: name of a distribution.
        batch: pairs a step.
        longest: max_seq_length.
        needs: seconds for one way on an H100.
    """

    model: str
    four_bit: bool
    lengths: str
    batch: int
    longest: int
    needs: float

    @property
    def name(self) -> str:
        """For a table."""
        return f"{self.model.rpartition('/')[2]} {'NF4' if self.four_bit else 'bf16'}, {self.lengths}"


WORKLOADS = (
    Workload(LLAMA_8B, True, "hh-like", 4, 1024, 12),
    Workload(LLAMA_8B, True, "long answers", 4, 2048, 18),
    Workload(QWEN_1B, False, "hh-like", 8, 1024, 8),
    Workload(QWEN_1B, False, "long answers", 8, 2048, 11),
)
OURS_EACH_TIME = replace(OURS, name="ours, sdpa mask", reference_once=False)
OURS_ONCE = replace(OURS, name="ours, sdpa mask, reference once", reference_once=True)
OURS_FLEX = replace(OURS_ONCE, name="ours, flex, reference once", attention="flex_attention")
OURS_PACKED = replace(OURS_ONCE, name="ours, varlen, packed, reference once", attention="varlen")
OURS_VARLEN = replace(OURS_PACKED, name="ours, varlen, pair by pair, reference once", one_pair_at_a_time=True)
# Of most interest first: the time may end before all are measured.
WAYS = (TRL, OURS_ONCE, OURS_PACKED, OURS_EACH_TIME, OURS_FLEX, TRL_PRECOMPUTE, OURS_VARLEN)
_DRY_WAYS = (TRL, OURS_PACKED, OURS_VARLEN)
NOT_BUILT = {"ours, two ranks": "a run on several GPUs"}


def measure(session: Session) -> None:
    """Time every way on every workload."""
    from benchmarks.gpu_parts.clock import PreparationClock

    clock = PreparationClock.installed()
    plain: dict[str, dict[str, Any]] = {workload.name: {} for workload in WORKLOADS}
    for way in _DRY_WAYS if session.dry else WAYS:
        for workload in WORKLOADS[:1] if session.dry else WORKLOADS:
            session.measure(
                f"{workload.name}: {way.name}",
                partial(_timed, session, workload, way, clock, plain[workload.name]),
                needs=workload.needs,
            )
    for name, what in NOT_BUILT.items():
        session.measure(name, partial(_missing, what))


def setup_of(session: Session, workload: Workload, way: Way, *, steps: int = WARM_UP + STEPS) -> Setup:
    """Return a workload's model, config and pairs for one way."""
    batch, longest, count = workload.batch, workload.longest, steps
    if session.dry:
        batch, longest, count = 2, 64, WARM_UP + 1
    data = drawn_pairs(
        Path(session.scratch, f"{workload.lengths.replace(' ', '-')}-{batch}.jsonl"),
        workload.lengths,
        batch * count,
        longest,
        scale=0.1 if session.dry else 1.0,
    )
    settings: dict[str, Any] = {
        "use_4bit": workload.four_bit,
        "max_seq_length": longest,
        "max_steps": count,
        "learning_rate": 5e-6,
        "lora_r": 16,
        **way.settings(batch, dry=session.dry),
    }
    return Setup.prepared(session.scratch, workload.model, data, settings, tiny=session.dry)


def _timed(session: Session, workload: Workload, way: Way, clock: Any, plain: dict[str, Any]) -> Mapping[str, Any]:
    import torch

    from benchmarks.gpu_parts.clock import StepClock

    free_memory()
    setup = setup_of(session, workload, way)
    clock.reset()
    trainer = setup.trainer(way)
    steps = StepClock(WARM_UP, _TRAINING_SECONDS)
    trainer.add_callback(steps)
    trainer.train()
    pairs = len(trainer.train_dataset)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    seconds, batch = sum(steps.steps), setup.config.process_batch
    a_pair = seconds / (len(steps.steps) * batch)
    figures: dict[str, Any] = {
        "pairs_a_second": 1 / a_pair,
        "tokens_a_second": steps.tokens / seconds,
        "mfu": steps.tokens / seconds * useful_flops(setup) / peak_flops(),
        "before_first_step": clock.wall,
        "first_step": steps.first,
        "peak_gb": torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else None,
        "losses": losses,
    }
    shortcuts = getattr(trainer, "shortcuts", None)
    if shortcuts is not None:
        report = shortcuts.report()
        figures["saved_tokens"] = report["share_prefix"]["saved"]
        figures["why_not_shared"] = report["share_prefix"]["why"]
        figures["attention"] = setup.attention
    # The reference's pass is over all pairs, once for all epochs.
    once = clock.reference / pairs
    figures |= {"pairs_a_second_1_epoch": 1 / (a_pair + once), "pairs_a_second_3_epochs": 1 / (a_pair + once / _EPOCHS)}
    if way is TRL:
        plain |= figures
    elif plain:
        figures |= {
            "against_trl_1_epoch": figures["pairs_a_second_1_epoch"] / plain["pairs_a_second_1_epoch"],
            "against_trl_3_epochs": figures["pairs_a_second_3_epochs"] / plain["pairs_a_second_3_epochs"],
            "losses_differ": max(abs(a - b) for a, b in zip(losses, plain["losses"], strict=False)),
        }
    del trainer
    free_memory()
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}


def useful_flops(setup: Setup) -> float:
    """Return floating-point operations for one token: policy forward and backward, and the reference's forward.

    What checkpointing computes again is not counted, nor are padding and attention's own products; a shared prompt
    counts for both answers. So it is the work of plain DPO, and what is saved shows as utilisation.
    """
    from dpo_tui.hardware.duration import flops_per_token
    from dpo_tui.hardware.models.lookup import architecture_of

    plain = {"gradient_checkpointing": False, "precompute_ref_log_probs": "off"}
    config = setup.config.model_copy(update=plain)
    return flops_per_token(config, architecture_of(config.model_name))


def peak_flops() -> float:
    """Return the GPU's dense 16-bit peak by the product's own table."""
    import torch

    from dpo_tui.hardware.duration import _peak

    return _peak(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu")


def _missing(what: str) -> Mapping[str, Any]:
    raise NotBuilt(what)


PART = Part(
    letter="d",
    name="speed",
    title="Speed against TRL",
    meaning=(
        "LoRA of rank 16 on all linear layers, checkpointed activations, the same pairs, arguments and seed for every "
        'way; "pair by pair" accumulates a batch over passes of one pair. '
        f"{WARM_UP} steps of warm-up, then up to {STEPS} steps. `pairs_a_second`: of these steps alone; "
        "`_1_epoch` and `_3_epochs` add the reference's pass where it is made once. `tokens_a_second`: of both answers "
        "with their prompts, without padding. `mfu`: useful operations of plain DPO (6 a weight and token) against the "
        "GPU's dense 16-bit peak. `before_first_step`: the check of shortcuts and the reference's pass; `first_step` "
        "has the compilation. `losses_differ`: largest difference to TRL's losses."
    ),
    seconds=130,
    measure=measure,
)
