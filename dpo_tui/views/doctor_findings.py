"""The doctor's checks for a planned run: which of them apply to its config, and their findings as text."""

from collections.abc import Sequence

from dpo_tui.config.schema import Config
from dpo_tui.hardware.doctor.registry import DoctorFinding, DoctorOptions
from dpo_tui.hub.cache import local_model_folder
from dpo_tui.hub.repository import looks_like_hub_id
from dpo_tui.paths import expanded
from dpo_tui.views.styled_text import Paragraph

_ALWAYS = (
    *("gpu", "gpu_memory", "gpu_errors", "visible_devices", "torch", "device_support"),
    *("memory", "container", "disk_for_runs", "clock", "user_processes"),
)
_SIGNS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}
_NAME_WIDTH = 16


def relevant_checks(config: Config) -> tuple[DoctorOptions, frozenset[str]]:
    """The doctor's options and the names of the checks that apply to a run with this config."""
    names = {*_ALWAYS}
    if config.bf16:
        names.add("bfloat16")
    if config.use_4bit:
        names.add("bitsandbytes")
    if config.provider == "unsloth":
        names.add("unsloth")
    download = _needs_download(config)
    if download:
        names |= {"disk_for_models", "hub_access"}
    return DoctorOptions(model=config.model_name if download else None, provider=config.provider), frozenset(names)


def _needs_download(config: Config) -> bool:
    """Whether the model is a hub id whose weights are not in the local cache."""
    model = config.model_name
    if expanded(model).exists() or not looks_like_hub_id(model):
        return False
    snapshot = local_model_folder(model, config.model_revision)
    return snapshot is None or not any(snapshot.glob("*.safetensors"))


def problems_text(findings: Sequence[DoctorFinding]) -> list[Paragraph]:
    """Failures, then warnings, each with its fix."""
    text: list[Paragraph] = []
    for status in ("fail", "warn"):
        for finding in findings:
            if finding.status == status:
                sign, role = _SIGNS[status]
                text.append((f"{sign} {finding.check}: {finding.message}", role))
                if finding.fix:
                    text.append((f"  → {finding.fix}", "accent"))
    return text


def findings_text(findings: Sequence[DoctorFinding], *, running: bool) -> list[Paragraph]:
    """Every finding in a line, in the order in which they came.

    Args:
        findings: so far.
        running: whether more are to come.
    """
    text: list[Paragraph] = [("This machine", "heading")]
    for finding in findings:
        sign, role = _SIGNS[finding.status]
        text.append((f"{sign} {finding.check:<{_NAME_WIDTH}}{finding.message}", "text" if role == "good" else role))
    if running:
        text.append(("… looking further", "muted"))
    return text
