"""Load model and adapter with Unsloth, for training under TRL's trainers as Unsloth patches them.

The interpreter of :mod:`dpo_tui.processes.unsloth_environment` runs the worker of such a run. Our shortcuts are off,
because Unsloth replaces the forward passes that they change.
"""

import importlib
import os
import sys
from typing import Any

from dpo_tui import paths
from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.train.model.device import TrainingDevice
from dpo_tui.train.model.load import disable_4bit_repacking

SHORTCUTS_OFF = 'provider = "unsloth" has forward passes of its own'
"""Why such a run has none of our shortcuts, as the end of a sentence."""


def import_first() -> None:
    """Import Unsloth, which must come before everything that it patches: transformers, peft, trl.

    Raises:
        TrainingError: this interpreter has no Unsloth that can be imported.
    """
    # By default it writes the trainers that it generates into the current directory.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(paths.cache() / "unsloth"))
    # By default it downloads a file from the hub, whose downloads count its users.
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    try:
        importlib.import_module("unsloth")
    except Exception as error:  # it inspects the machine on import, and raises exceptions of any type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f'provider = "unsloth": {sys.executable} cannot import it: {reason}',
            hint="`dpo-tui doctor --provider unsloth` says what is missing, and how to install it",
        ) from error


def load_model(config: Config, device: TrainingDevice) -> Any:
    """Load the weights with Unsloth, and add the adapter where one is trained."""
    from unsloth import FastLanguageModel

    # Unsloth's checkpointing offloads the activations to main memory.
    checkpointing = "unsloth" if config.gradient_checkpointing else False
    model, _ = FastLanguageModel.from_pretrained(
        config.model_name,
        max_seq_length=config.max_seq_length,
        dtype=device.dtype,
        load_in_4bit=config.use_4bit,
        full_finetuning=not config.use_lora,
        use_gradient_checkpointing=checkpointing,
        revision=config.model_revision,
        random_state=config.seed,
        # Otherwise Unsloth may load a quantised copy from its own hub account instead of the named model.
        use_exact_model_name=True,
        trust_remote_code=False,
        **config.model_init,
    )
    disable_4bit_repacking(model)
    if not config.use_lora:
        return model
    return FastLanguageModel.get_peft_model(
        model,
        r=config.lora_r,
        lora_alpha=config.alpha,
        lora_dropout=config.adapter_dropout,
        target_modules=config.adapted_modules,
        modules_to_save=list(config.modules_to_save) or None,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        use_gradient_checkpointing=checkpointing,
        random_state=config.seed,
        **config.peft,
    )
