"""Memory of a reference that is a model of its own: in full fine-tuning, or named by ``ref_model``."""

from dpo_tui.config.reference_config import reference_config
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.memory.activations import FP32, Workload
from dpo_tui.hardware.memory.weights import weights_size
from dpo_tui.hardware.models.architecture import Architecture
from dpo_tui.hardware.models.lookup import architecture_of
from dpo_tui.strategies.registry import strategy_of


def reference_label(config: Config) -> str:
    """Say what the second model is."""
    return "reference model, a frozen copy" if config.ref_model is None else "reference model (ref_model)"


def reference_size(config: Config, arch: Architecture, work: Workload) -> int:
    """Bytes of the weights of a second model that is the reference; 0 where the reference is the policy's own base.

    Args:
        config: the run's settings.
        arch: of the policy, which stands for a reference whose dimensions are not known.
        work: of the policy.
    """
    if not strategy_of(config).has_reference:
        return 0
    if config.ref_model is None and config.ref_adapter is None:
        return arch.parameters * FP32 if work.trains_all else 0
    return _named_size(config, arch, work)


def _named_size(config: Config, arch: Architecture, work: Workload) -> int:
    own = config
    if config.ref_model is not None:
        own = reference_config(config)
        try:
            arch = architecture_of(own.model_name, own.model_revision)
        except ConfigError:
            own = config
    return weights_size(own, arch, work)
