"""What the doctor has to say about a planned run: which checks matter for it, and their findings as a page."""

from collections.abc import Sequence
from pathlib import Path

from dpo_tui.config.schema import Config
from dpo_tui.hardware.doctor.registry import DoctorFinding, DoctorOptions
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.hub.repository import looks_like_hub_id
from dpo_tui.views.monitor_text import Piece

_ALWAYS = (
    *("gpu", "gpu_memory", "gpu_errors", "visible_devices", "torch", "device_support"),
    *("memory", "container", "disk_for_runs", "clock", "user_processes"),
)
_SIGNS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}
_NAME_WIDTH = 16


def relevant(config: Config) -> tuple[DoctorOptions, frozenset[str]]:
    """What the doctor is to be asked before a run with this config, and about what."""
    names = {*_ALWAYS}
    if config.bf16:
        names.add("bfloat16")
    if config.use_4bit:
        names.add("bitsandbytes")
    if config.provider == "unsloth":
        names.add("unsloth")
    absent = _is_to_be_fetched(config)
    if absent:
        names |= {"disk_for_models", "hub_access"}
    return DoctorOptions(model=config.model_name if absent else None, provider=config.provider), frozenset(names)


def _is_to_be_fetched(config: Config) -> bool:
    model = config.model_name
    if Path(model).expanduser().exists() or not looks_like_hub_id(model):
        return False
    snapshot = local_model_folder(model, config.model_revision)
    return snapshot is None or not any(snapshot.glob("*.safetensors"))


def trouble(findings: Sequence[DoctorFinding]) -> list[Piece]:
    """What is wrong, worst first, each with what mends it."""
    text: list[Piece] = []
    for status in ("fail", "warn"):
        for finding in findings:
            if finding.status == status:
                sign, role = _SIGNS[status]
                text.append((f"{sign} {finding.check}: {finding.message}", role))
                if finding.fix:
                    text.append((f"  → {finding.fix}", "accent"))
    return text


def machine(findings: Sequence[DoctorFinding], *, looking: bool) -> list[Piece]:
    """Every finding in a line, in the order in which they came."""
    text: list[Piece] = [("This machine", "heading")]
    for finding in findings:
        sign, role = _SIGNS[finding.status]
        text.append((f"{sign} {finding.check:<{_NAME_WIDTH}}{finding.message}", "text" if role == "good" else role))
    if looking:
        text.append(("… looking further", "muted"))
    return text
