"""[compute]: the machine."""

from typing import Any, Literal

from pydantic import field_validator

from dpo_tui.config.setting import Section, setting

_GPU = r"(\d+|GPU-[0-9A-Za-z-]+|MIG-[0-9A-Za-z/-]+)"


class ComputeSection(Section):
    """Which profile, which GPUs, and how several processes train together."""

    profile: Literal["none", "auto", "mid-range", "high-end", "reduced", "cpu"] = setting(
        "none",
        "profile",
        "Settings that suit the GPU's memory. auto looks at the machine and adapts until the estimate fits; a setting "
        "that you give yourself always wins.",
    )
    gpus: str = setting(
        "auto",
        "GPU",
        "auto takes the GPU with the most free memory of those that no other run holds when its turn comes (gpu_count "
        "of them), or the CPU where there is none; a number names one, a list such as [0, 1] several, by number or "
        "UUID; all takes every one; none is the CPU.",
        pattern=rf"^(auto|none|all|{_GPU}(,{_GPU})*)$",
    )
    gpu_count: int | None = setting(
        None,
        "GPUs together",
        "How many GPUs train together where gpus is auto, one process each; 1 when left out. A run waits until so many "
        "are free.",
        unit="GPUs",
        advanced=True,
        ge=1,
        le=64,
    )
    distributed: Literal["auto", "none", "ddp", "fsdp2"] = setting(
        "auto",
        "distributed",
        "How several processes train together. ddp: each has the whole model and its share of every step, and "
        "gradients are averaged (torch's DistributedDataParallel). fsdp2: weights, gradients and optimizer are divided "
        "among them (torch's fully_shard), for a model that one GPU cannot hold. auto is ddp with several, and never "
        "asks for more than one by itself; none refuses several.",
        advanced=True,
    )
    cpu_offload: bool = setting(
        False,
        "offload weights",
        'With distributed = "fsdp2": keep weights, gradients and optimizer in main memory, and update them there; much '
        "slower, less GPU memory.",
        advanced=True,
    )
    ranks: int = setting(
        1,
        "CPU processes",
        'Processes that train together on the CPU, with gpus = "none": for trying out, each computes its share of '
        "every step.",
        advanced=True,
        ge=1,
        le=64,
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

    @field_validator("gpus", mode="before")
    @classmethod
    def _joined_with_commas(cls, value: Any) -> Any:
        """A number, or a list of numbers and UUIDs, as the one text that every reader of the setting splits again."""
        if isinstance(value, list | tuple) and value:
            return ",".join(str(one).strip() for one in value)
        if isinstance(value, str):
            return value.replace(" ", "")
        return value if isinstance(value, bool) else str(value) if isinstance(value, int) else value
