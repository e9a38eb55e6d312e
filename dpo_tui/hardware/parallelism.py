"""How several GPUs train one run, where the config leaves it open: by DDP if the model fits one of them, else by FSDP2.

It chooses between the two for the GPUs that were asked for, and never asks for more. Which of them is faster was not
measured on GPUs; DDP holds the whole model on each and gathers nothing, so it comes first where it fits.
"""

from dpo_tui.config.files import from_values
from dpo_tui.config.problems import InvalidConfigError
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.memory.memory_estimate import GB, estimate
from dpo_tui.hardware.models.lookup import architecture_of


def with_chosen_parallelism(config: Config, memory: int | None) -> tuple[Config, tuple[str, ...]]:
    """Return the config with ``distributed`` chosen where it is "auto" with several GPUs, and why, in a sentence.

    Args:
        config: with its profile applied, and its GPUs counted.
        memory: bytes of the smallest of the GPUs; None where it is unknown.
    """
    if config.distributed != "auto" or config.world_size == 1 or config.gpus == "none":
        return config, ()
    count = config.world_size
    try:
        arch = architecture_of(config.model_name, config.model_revision)
    except ConfigError:
        arch = None
    if arch is None or memory is None:
        return config, (f"{count} GPUs by DDP, each with the whole model: whether it fits one is not known",)
    whole = estimate(config, arch).total
    of = f"of {memory / GB:.1f} GB"
    if whole <= memory:
        return config, (f"{count} GPUs by DDP: the whole model fits each, with about {whole / GB:.1f} {of}",)
    needs = f"whole on each, the run needs about {whole / GB:.1f} {of}"
    if config.use_4bit:
        # Held to one process on the CPU, and never run on GPUs: only who asks for it gets it.
        return config, (
            f'{count} GPUs by DDP, although {needs}: over NF4, FSDP2 must be asked for (distributed = "fsdp2")',
        )
    try:
        divided = from_values({**config.model_dump(), "distributed": "fsdp2"}, "auto")
    except InvalidConfigError as error:
        why = f"{error.problems[0].key} {error.problems[0].message}"
        return config, (f"{count} GPUs by DDP, although {needs}: FSDP2 cannot take it, {why}",)
    each = estimate(divided, arch).total
    if each <= memory:
        return divided, (f"{count} GPUs by FSDP2, about {each / GB:.1f} GB each: {needs}",)
    return config, (f"{count} GPUs by DDP, although {needs}: divided by FSDP2 it would be {each / GB:.1f} GB each",)
