"""Combinations of settings that cannot work, reported before the start instead of minutes later by TRL.

Each rule is a function that takes a config and returns a problem or None. Its docstring says what would happen without
it: who would raise, or which setting would be ignored. A new rule is one function under `rule`.
"""

from collections.abc import Callable

from dpo_tui.config.evaluation_rules import EVALUATION_RULES
from dpo_tui.config.problems import ConfigProblem
from dpo_tui.config.reference_rules import REFERENCE_RULES
from dpo_tui.config.schema import Config, default_of, fields
from dpo_tui.strategies.registry import settings_of_losses, strategy_of

Rule = Callable[[Config], ConfigProblem | None]
RULES: list[Rule] = [*REFERENCE_RULES, *EVALUATION_RULES]

# The losses that TRL builds on the difference of chosen and rejected (trl 1.16, DPOTrainer.__init__).
DIFFERENCE_LOSSES = frozenset({"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"})
# The losses whose formula has label_smoothing in it (trl 1.16, DPOTrainer._compute_loss).
SMOOTHED_LOSSES = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})

# What a schedule cannot be made without, any one of each (transformers 5, optimization.py).
_SCHEDULE_ARGUMENTS = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}

IGNORED_BY_PROVIDER: dict[str, tuple[str, dict[str, Callable[[Config], bool]]]] = {
    "unsloth": (
        "which has its own attention",
        {
            "share_prefix": lambda config: config.share_prefix == "on",
            "group_by_length": lambda config: config.group_by_length,
            "attn_implementation": lambda config: config.attn_implementation != "auto",
        },
    ),
}
"""Settings that a provider ignores: why, and for each whether a config asks for it."""


def rule(function: Rule) -> Rule:
    """Register a rule."""
    RULES.append(function)
    return function


def broken_rules(config: Config) -> list[ConfigProblem]:
    """Return a problem for every rule that the config breaks."""
    return [problem for check in RULES if (problem := check(config))]


@rule
def one_warmup(config: Config) -> ConfigProblem | None:
    """Trainer would use the steps, and ignore the ratio."""
    if config.warmup_steps is None or config.warmup_ratio == fields()["warmup_ratio"].default:
        return None
    return ConfigProblem("warmup_steps", config.warmup_steps, "warmup_ratio is set too; keep one of them")


@rule
def one_precision(config: Config) -> ConfigProblem | None:
    """Transformers raises when it makes the arguments: a run computes in one of them."""
    if not (config.fp16 and config.bf16):
        return None
    return ConfigProblem("fp16", True, "bf16 is on too, which it is unless set; with fp16 = true set bf16 = false")


@rule
def lora_plus_needs_an_adapter(config: Config) -> ConfigProblem | None:
    """Nothing would read it: the optimizer is chosen by our subclasses of TRL's trainers."""
    if config.loraplus_lr_ratio is None:
        return None
    if not config.use_lora:
        message = "does nothing with use_lora = false: there is no adapter whose matrices it could tell apart"
    elif config.provider != "huggingface":
        message = f'does not work with provider = "{config.provider}", whose trainer makes the optimizer'
    else:
        return None
    return ConfigProblem("loraplus_lr_ratio", config.loraplus_lr_ratio, message)


@rule
def schedule_has_its_arguments(config: Config) -> ConfigProblem | None:
    """Transformers raises when it makes the schedule, after the model is loaded."""
    needed = _SCHEDULE_ARGUMENTS.get(config.lr_scheduler_type, ())
    given = config.trl.get("lr_scheduler_kwargs")
    if not needed or not isinstance(given or {}, dict) or any(name in (given or {}) for name in needed):
        return None
    message = f"needs {' or '.join(needed)}: in [trl], lr_scheduler_kwargs = {{{needed[-1]} = …}}"
    return ConfigProblem("lr_scheduler_type", config.lr_scheduler_type, message)


@rule
def one_weight_per_loss(config: Config) -> ConfigProblem | None:
    """DPOConfig raises when the two lists differ in length."""
    if config.loss_weights is None or len(config.loss_weights) == len(config.loss_type):
        return None
    return ConfigProblem(
        "loss_weights", config.loss_weights, f"must have {len(config.loss_type)} numbers, one for each loss_type"
    )


@rule
def one_weight_per_dataset(config: Config) -> ConfigProblem | None:
    """Nothing else would tell which dataset a weight is of."""
    if config.dataset_weights is None or len(config.dataset_weights) == len(config.datasets):
        return None
    count = len(config.datasets)
    needed = f"must have {count} numbers, one for each dataset" if count > 1 else "is for several datasets"
    return ConfigProblem("dataset_weights", config.dataset_weights, needed)


@rule
def divergence_needs_a_difference_loss(config: Config) -> ConfigProblem | None:
    """DPOTrainer raises: β·log Z only cancels in the difference of chosen and rejected."""
    odd = sorted(set(config.loss_type) - DIFFERENCE_LOSSES)
    if config.f_divergence_type == "reverse_kl" or not odd:
        return None
    return ConfigProblem(
        "f_divergence_type", config.f_divergence_type, f"does not work with the loss {', '.join(odd)}; use reverse_kl"
    )


@rule
def weighting_needs_pairs_in_order(config: Config) -> ConfigProblem | None:
    """DPOTrainer raises: the aot losses sort the batch."""
    sorting = sorted({"aot", "aot_unpaired"} & set(config.loss_type))
    if not (config.use_weighting and sorting):
        return None
    return ConfigProblem(
        "use_weighting", True, f"does not work with the loss {sorting[0]}, which sorts the pairs of a batch"
    )


@rule
def exo_needs_smoothing(config: Config) -> ConfigProblem | None:
    """DPOTrainer raises: exo_pair takes the logarithm of label_smoothing."""
    if "exo_pair" not in config.loss_type or config.label_smoothing > 0:
        return None
    return ConfigProblem(
        "label_smoothing", 0.0, "must be greater than 0 for the loss exo_pair; its paper advises 0.001"
    )


@rule
def smoothing_needs_a_loss_that_has_it(config: Config) -> ConfigProblem | None:
    """TRL ignores it silently with every other loss; a setting that does nothing is an error here."""
    smoothed = strategy_of(config).smoothed_losses
    if config.label_smoothing == 0 or (SMOOTHED_LOSSES if smoothed is None else smoothed) & set(config.loss_type):
        return None
    if smoothed is not None:
        message = f"does nothing with this loss of {config.strategy}; leave it out"
        return ConfigProblem("label_smoothing", config.label_smoothing, message)
    return ConfigProblem(
        "label_smoothing",
        config.label_smoothing,
        'does nothing with this loss; for DPO with noisy labels set loss_type = ["robust"]',
    )


@rule
def adapter_not_on_the_head(config: Config) -> ConfigProblem | None:
    """DPOTrainer raises: it multiplies by lm_head's own weight, an adapter there would never be trained."""
    if not (config.use_lora and "lm_head" in config.lora_target_modules):
        return None
    return ConfigProblem("lora_target_modules", "lm_head", "an adapter on lm_head would never be trained; remove it")


@rule
def provider_uses_the_setting(config: Config) -> ConfigProblem | None:
    """`dpo_tui.train` would ignore it: the provider has replaced what the setting changes."""
    reason, ignored = IGNORED_BY_PROVIDER.get(config.provider, ("", {}))
    name = next((name for name, is_set in ignored.items() if is_set(config)), None)
    if name is None:
        return None
    return ConfigProblem(name, getattr(config, name), f'does nothing with provider = "{config.provider}", {reason}')


@rule
def four_bit_needs_an_adapter(config: Config) -> ConfigProblem | None:
    """Transformers' Trainer raises: 4-bit weights cannot be trained themselves."""
    if not config.use_4bit or config.use_lora:
        return None
    return ConfigProblem(
        "use_4bit", True, "4-bit weights cannot be trained themselves: set use_lora = true, or use_4bit = false"
    )


@rule
def micro_batch_is_large_enough(config: Config) -> ConfigProblem | None:
    """The trainer of a strategy that compares the examples of a micro-batch raises when it has too few."""
    fewest, found = strategy_of(config).smallest_micro_batch, config.per_device_train_batch_size
    if found >= fewest:
        return None
    return ConfigProblem(
        "per_device_train_batch_size", found, f"must be at least {fewest} with strategy = {config.strategy}"
    )


@rule
def each_gpu_once(config: Config) -> ConfigProblem | None:
    """NCCL raises when two processes use one GPU, after both have loaded the model."""
    named = config.named_gpus
    twice = next((one for index, one in enumerate(named) if one in named[:index]), None)
    if twice is None:
        return None
    return ConfigProblem("gpus", config.gpus, f"names GPU {twice} twice; each process needs a GPU of its own")


@rule
def gpu_count_counts_gpus(config: Config) -> ConfigProblem | None:
    """The number would be ignored: the GPUs that are named, or none, say how many there are."""
    if config.gpu_count is None or config.gpus in ("auto", "all"):
        return None
    if config.gpus == "none":
        return ConfigProblem("gpu_count", config.gpu_count, 'does nothing with gpus = "none"; ranks counts processes')
    if config.gpu_count == len(config.named_gpus):
        return None
    named = len(config.named_gpus)
    return ConfigProblem(
        "gpu_count", config.gpu_count, f"gpus names {named} GPU{'s' if named > 1 else ''}; leave gpu_count out"
    )


@rule
def strategy_reads_its_settings(config: Config) -> ConfigProblem | None:
    """The trainer of another strategy has no such argument; a setting that does nothing is an error here."""
    own = strategy_of(config).settings
    if own is None:
        return None
    for name in sorted(settings_of_losses() - own):
        value = getattr(config, name)
        if value != default_of(name, config.strategy):
            return ConfigProblem(name, value, f"does nothing with strategy = {config.strategy}; leave it out")
    return None


@rule
def shared_prompts_need_two_answers(config: Config) -> ConfigProblem | None:
    """Nothing would be shared: only a pair has two answers to one prompt."""
    if config.share_prefix != "on" or strategy_of(config).sequences_per_example > 1:
        return None
    return ConfigProblem(
        "share_prefix", "on", f"does nothing with strategy = {config.strategy}: an example has one answer"
    )


@rule
def varlen_with_shared_prompts(config: Config) -> ConfigProblem | None:
    """It computes packed rows of shared prompts; everything else is SDPA's, and the setting would do nothing."""
    if config.attn_implementation != "varlen":
        return None
    if strategy_of(config).sequences_per_example == 1:
        why = f"shares the prompt of two answers, and with strategy = {config.strategy} an example has one"
    elif config.share_prefix == "off":
        why = 'computes shared prompts, and share_prefix = "off"'
    else:
        return None
    return ConfigProblem("attn_implementation", "varlen", f"{why}; sdpa does what is left")


@rule
def strategy_can_train_with_its_settings(config: Config) -> ConfigProblem | None:
    """The trainer of the strategy raises, or has no such loss."""
    refusal = strategy_of(config).refusal(config.model_dump())
    return ConfigProblem(refusal[0], getattr(config, refusal[0]), refusal[1]) if refusal else None


@rule
def provider_trains_the_strategy(config: Config) -> ConfigProblem | None:
    """A provider that rewrites TRL's trainers would train on the text as their own tokenising makes it."""
    providers = strategy_of(config).providers
    if providers is None or config.provider in providers:
        return None
    return ConfigProblem(
        "provider", config.provider, f"cannot train strategy = {config.strategy}; use {' or '.join(sorted(providers))}"
    )


@rule
def rows_stay_in_order(config: Config) -> ConfigProblem | None:
    """KTOTrainer raises: the answers of its KL term were paired with prompts of their micro-batch before training."""
    if not (config.group_by_length and strategy_of(config).keeps_data_order):
        return None
    return ConfigProblem(
        "group_by_length", True, f"does not work with strategy = {config.strategy}, whose batches stay as they are"
    )


@rule
def the_newest_run_goes_by_last(config: Config) -> ConfigProblem | None:
    """No command would find the run by this name; `dpo-tui rename` raises for it too."""
    return ConfigProblem("name", config.name, "commands take it for the newest run") if config.name == "last" else None


@rule
def a_job_gets_its_gpu_from_slurm(config: Config) -> ConfigProblem | None:
    """The number is that of a GPU of the login node, or of nobody: Slurm numbers those of a job from 0."""
    if config.launcher != "slurm" or config.gpus in ("auto", "all", "none"):
        return None
    return ConfigProblem(
        "gpus", config.gpus, 'Slurm chooses the GPU of a job; use auto, with gres = "gpu:1" in [slurm], or none'
    )
