"""Combinations of settings that cannot work in several processes, and what FSDP2 cannot divide among them.

Rules as in `dpo_tui.config.rules`: the docstring of each says what would happen without it.
"""

from dpo_tui.config.problems import ConfigProblem
from dpo_tui.config.rules import rule
from dpo_tui.config.schema import Config
from dpo_tui.strategies.registry import strategy_of


@rule
def ranks_are_for_the_cpu(config: Config) -> ConfigProblem | None:
    """The number would be ignored: with GPUs there is one process a GPU."""
    if config.ranks == 1 or config.gpus == "none":
        return None
    message = 'is for the CPU (gpus = "none"); with GPUs there is one process each: set gpus or gpu_count'
    return ConfigProblem("ranks", config.ranks, message)


@rule
def several_processes_are_wanted(config: Config) -> ConfigProblem | None:
    """Nothing but this setting says that a config of several processes is one by mistake."""
    if config.distributed != "none" or config.world_size == 1:
        return None
    message = f'refuses the {config.world_size} processes that the config asks for; set distributed = "ddp" or "auto"'
    return ConfigProblem("distributed", config.distributed, message)


@rule
def provider_takes_several_processes(config: Config) -> ConfigProblem | None:
    """Unsloth patches the trainer for one GPU: the other processes would train alone, or wait for ever."""
    if config.provider != "unsloth" or config.world_size == 1:
        return None
    message = f'trains on one GPU, and the config asks for {config.world_size}; use provider = "huggingface"'
    return ConfigProblem("provider", config.provider, message)


@rule
def strategy_takes_several_processes(config: Config) -> ConfigProblem | None:
    """Nobody has held its losses in several processes to those in one."""
    if config.world_size == 1 or strategy_of(config).several_processes:
        return None
    message = f"trains in one process here, and the config asks for {config.world_size}"
    return ConfigProblem("strategy", config.strategy, message)


@rule
def several_nodes_are_those_of_a_job(config: Config) -> ConfigProblem | None:
    """The number would be ignored: a run that Slurm does not start knows of no other machine."""
    if config.nodes == 1 or config.launcher == "slurm":
        return None
    return ConfigProblem("nodes", config.nodes, 'needs launcher = "slurm": on one machine a run has one node')


@rule
def sharding_needs_several_processes(config: Config) -> ConfigProblem | None:
    """One process would hold everything, and nothing would be saved."""
    if config.distributed != "fsdp2" or config.world_size > 1 or config.gpus == "all":
        return None
    message = "divides a model among processes, and the config asks for one: set gpus or gpu_count, or ranks on the CPU"
    return ConfigProblem("distributed", config.distributed, message)


@rule
def offloading_needs_sharding(config: Config) -> ConfigProblem | None:
    """The setting would be ignored: only FSDP2 keeps weights in main memory."""
    if not config.cpu_offload or config.distributed == "fsdp2":
        return None
    return ConfigProblem("cpu_offload", True, f'needs distributed = "fsdp2"; here it is {config.distributed}')


@rule
def quantised_weights_that_are_sharded_are_nf4(config: Config) -> ConfigProblem | None:
    """Accelerate leaves weights of whole numbers whole on every process, with a warning: nothing would be saved."""
    if not (config.is_sharded and "quantization_config" in config.model_init):
        return None
    message = 'is not supported with distributed = "fsdp2"; use_4bit = true is, as NF4'
    table = config.model_init["quantization_config"]
    return ConfigProblem("model_init.quantization_config", table, message)


@rule
def optimizer_takes_divided_weights(config: Config) -> ConfigProblem | None:
    """The 8-bit and paged ones read weights by their addresses and raise; Adafactor's factors would be of a part."""
    if not config.is_sharded or config.optim in ("adamw_torch", "adamw_torch_fused", "sgd"):
        return None
    message = 'does not work on weights that distributed = "fsdp2" divides; use adamw_torch, adamw_torch_fused or sgd'
    return ConfigProblem("optim", config.optim, message)


@rule
def divided_weights_are_not_mixed_into_a_reference(config: Config) -> ConfigProblem | None:
    """TRL's callback gathers what FSDP1 and DeepSpeed divide, and nobody has tried it with FSDP2."""
    if not (config.is_sharded and config.sync_ref_model):
        return None
    return ConfigProblem("sync_ref_model", True, 'is not supported with distributed = "fsdp2"')


@rule
def activations_are_offloaded_from_whole_layers(config: Config) -> ConfigProblem | None:
    """TRL's hooks on saved tensors meet those by which FSDP2 gathers weights again; nobody has tried both."""
    if not (config.is_sharded and config.activation_offloading):
        return None
    message = 'is not supported with distributed = "fsdp2"; cpu_offload keeps weights in main memory'
    return ConfigProblem("activation_offloading", True, message)


@rule
def compiled_models_are_not_sharded(config: Config) -> ConfigProblem | None:
    """Compiled FSDP2 was reported to save an adapter that was never trained, with exit code 0."""
    if not (config.is_sharded and config.trl.get("torch_compile")):
        return None
    return ConfigProblem("trl", config.trl, '[trl] torch_compile is not supported with distributed = "fsdp2"')


@rule
def the_reference_of_a_divided_model_is_its_start(config: Config) -> ConfigProblem | None:
    """It would be divided before it is scored, and the policy, which is whole by then, would be scored in its place."""
    if not config.is_sharded or not (config.ref_model or config.ref_adapter):
        return None
    name = "ref_model" if config.ref_model else "ref_adapter"
    return ConfigProblem(name, getattr(config, name), 'is not supported with distributed = "fsdp2"; use "ddp"')
