"""[compute]: the machine."""

from typing import Literal

from dpo_tui.config.setting import Section, setting


class ComputeSection(Section):
    """Which profile and which GPU."""

    profile: Literal["none", "auto", "mid-range", "high-end", "reduced", "cpu"] = setting(
        "none",
        "profile",
        "Settings that suit the GPU's memory. auto looks at the machine and adapts until the estimate fits; a setting "
        "that you give yourself always wins.",
    )
    gpus: str = setting(
        "auto",
        "GPU",
        "auto takes the GPU with the most free memory, or the CPU where there is none; a number names one; none is the "
        "CPU.",
        pattern=r"^(auto|none|\d+)$",
    )
    activation_offloading: bool = setting(
        False,
        "offload activations",
        "Keep activations in the computer's memory: slower, less GPU memory.",
        advanced=True,
    )
