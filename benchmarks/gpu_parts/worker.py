"""Part b: whole runs with the demo's model: to the end, stopped and resumed, out of memory and retried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import product_runs
from benchmarks.gpu_parts.session import NotMeasured, Part, Session
from benchmarks.gpu_parts.synthetic_pairs import full_pairs
from dpo_tui.config.files import LoadedConfig, load
from dpo_tui.demo import assets
from dpo_tui.hardware.memory.memory_estimate import estimate
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.runs import control_requests

_RUN_SECONDS = 75.0
_FIRST_LOSS = (0.69314, 0.69316)
"""ln 2 up to rounding: before the first step policy and reference are the same model."""


def measure(session: Session) -> None:
    """Run the three cases."""
    session.measure("LoRA, to the end", lambda: _to_the_end(session), needs=25)
    session.measure("NF4, stopped and resumed", lambda: _stopped_and_resumed(session), needs=40)
    session.measure("out of memory, retried", lambda: _out_of_memory(session), needs=45)


def _loaded(session: Session, **changes: Any) -> LoadedConfig:
    values: dict[str, Any] = {
        "model_name": str(assets.model_dir()),
        "dataset": str(assets.pairs_file()),
        "eval_dataset": str(assets.heldout_file()),
        "logging_steps": 1,
        "bf16": not session.dry,
        "gpus": "none" if session.dry else "auto",
    }
    if session.dry:
        small = {"max_steps": 2, "eval_steps": 2, "per_device_train_batch_size": 2, "sample_prompts": 0}
        values |= small | {"max_samples": 16, "kl_prompts": 0, "eval_dataset": None, "eval_split": 0.25}
    return load(assets.config_file(), values | changes)


def _to_the_end(session: Session) -> Mapping[str, Any]:
    folder = product_runs.launched(_loaded(session), "lora")
    product_runs.wait_for_end(folder, session.limit(_RUN_SECONDS))
    return _checked(product_runs.outcome(folder))


def _stopped_and_resumed(session: Session) -> Mapping[str, Any]:
    folder = product_runs.launched(_loaded(session, use_4bit=True, max_steps=200, eval_steps=100), "nf4")
    product_runs.wait_for(folder, lambda: len(product_runs.lines(folder)) > 1, session.limit(_RUN_SECONDS))
    control_requests.request_stop(folder)
    stopped = product_runs.wait_for_end(folder, session.limit(_RUN_SECONDS))
    at = product_runs.outcome(folder)["steps"]
    resumed_from = product_runs.resumed(folder, session.limit(_RUN_SECONDS))
    if session.dry:
        # So many steps of NF4 take long on a processor; that it goes on is what can be seen there.
        product_runs.wait_for(folder, lambda: product_runs.outcome(folder)["steps"] > at, session.limit(_RUN_SECONDS))
        control_requests.request_stop(folder)
    product_runs.wait_for_end(folder, session.limit(_RUN_SECONDS))
    ends = {"first_end": f"{stopped} at step {at}", "resumed_from": resumed_from}
    return {**ends, **_checked(product_runs.outcome(folder))}


def _out_of_memory(session: Session) -> Mapping[str, Any]:
    """Leave room for half the micro-batch, so that the first attempt fails and the retry fits."""
    if session.dry:
        raise NotMeasured("needs a GPU whose memory can run out")
    # Rows that fill the length and share nearly nothing: need is then proportional to the batch.
    pairs = full_pairs(Path(session.scratch, "full.jsonl"), 512, 160)
    values = {"dataset": str(pairs), "eval_dataset": None, "eval_split": 0.0, "kl_prompts": 0, "sample_prompts": 0}
    values |= {"max_steps": 3, "per_device_train_batch_size": 256, "gradient_accumulation_steps": 1}
    loaded = _loaded(session, **values)
    half = loaded.config.model_copy(update={"per_device_train_batch_size": 128})
    arch = architecture_of(loaded.config.model_name)
    room = (estimate(loaded.config, arch).total + estimate(half, arch).total) // 2
    with product_runs.little_memory(room):
        folder = product_runs.launched(loaded, "out-of-memory")
        product_runs.wait_for_end(folder, session.limit(_RUN_SECONDS))
    return {
        "room_gb": round(room / 1e9, 2),
        "out_of_memory": product_runs.events(folder, "out-of-memory") or "did not happen",
    } | dict(product_runs.outcome(folder))


def _checked(found: Mapping[str, Any]) -> Mapping[str, Any]:
    loss = found["first_loss"]
    return {**found, "first_loss_is_ln_2": loss is not None and _FIRST_LOSS[0] <= loss <= _FIRST_LOSS[1]}


PART = Part(
    letter="b",
    name="worker",
    title="Whole runs with the demo's model",
    meaning=(
        "Runs as `dpo-tui train` starts them. `to_first_step`: seconds from the run's creation to its first metric. "
        "The last run has only `room_gb` of the GPU; its first attempt should run out of memory, and the next one, "
        "with half the micro-batch, should end as done."
    ),
    seconds=110,
    measure=measure,
)
