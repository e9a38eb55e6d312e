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
        "auto takes the GPU with the most free memory of those that no other run holds when its turn comes, or the CPU "
        "where there is none; a number names one; none is the CPU.",
        pattern=r"^(auto|none|\d+)$",
    )
    launcher: Literal["local", "slurm"] = setting(
        "local",
        "launcher",
        "local starts the run on this machine; slurm submits it as a job, with what [slurm] asks for.",
        advanced=True,
    )
    activation_offloading: bool = setting(
        False,
        "offload activations",
        "Keep activations in the computer's memory: slower, less GPU memory.",
        advanced=True,
    )
    share_prefix: Literal["auto", "on", "off"] = setting(
        "auto",
        "share prompts",
        "Compute a pair's prompt once instead of once for each answer: the same training in less time. auto checks it "
        "on a real batch and leaves it off where the scores differ; on refuses to train then.",
        advanced=True,
    )
