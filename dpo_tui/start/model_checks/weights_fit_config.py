"""Check that the weights in a model's files are those of the model that its ``config.json`` describes.

transformers fills a weight that is in no file with random numbers, and leaves out what the model has no place for.

Counting comes first, without torch: of the families whose layers `dpo_tui.hardware.models` knows, a config that fits
names exactly as many weights as the files hold, with the same shapes. Where that does not settle it (another family, or
a difference), a child process asks transformers itself, on the headers alone, and its answer is the one that counts.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dpo_tui.config.library_fields import loading_keywords, model_attributes
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.models.config_values import HIDDEN
from dpo_tui.hardware.models.read_model import from_config
from dpo_tui.hardware.models.stored_weights import LAYER, is_of_tower, stored_layers
from dpo_tui.processes.json_child import ChildError
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.start.model_checks.input_embeddings import input_embeddings
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_files import holds_quantised
from dpo_tui.start.model_checks.quantised_weights import quantisation_of

_MATRIX = 2
_OTHER_FILES = {"variant", "use_safetensors", "key_mapping"}
"""Keywords of from_pretrained with which it reads other files, or the same ones under other names."""
_PARTS_OF_FILES = frozenset({"weight", "bias", "embed_out", "block_sparse_moe"})
"""Parts of names that no class gives, or that transformers renames for families that are counted."""
_AHEAD = re.compile(r"\b(?:eh_proj|enorm|hnorm|shared_head|mtp)\b")
"""Parts that only layers for multi-token prediction have, which lie behind the others and are left out on purpose."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_NO_PARAMETER = re.compile(
    r"inv_freq$|(?:^|\.)(?:attn|attention)\.(?:masked_)?bias$|(?:[kv]_scale|_scale_inv|input_scale)$|lora_|(?:^|\.)mtp\."
)
"""What files hold beside a model's parameters: tables that are computed, scales of a cache, heads of other tasks."""
_SETTINGS = (
    (re.compile(r"embed_tokens|wte|word_embeddings|embed_in|embeddings|lm_head|embed_out"), "vocab_size, hidden_size"),
    (re.compile(r"experts"), "the number of experts, their intermediate size, hidden_size"),
    (re.compile(r"[kv]_proj"), "num_key_value_heads, head_dim, hidden_size"),
    (
        re.compile(r"q_proj|o_proj|c_attn|query_key_value|qkv|attn|attention"),
        "num_attention_heads, head_dim, hidden_size",
    ),
    (re.compile(r"mlp|fc\d|gate|up_proj|down_proj|dense_|ffn"), "intermediate_size, hidden_size"),
    (re.compile(r"norm|ln_"), "hidden_size"),
)
"""Settings of config.json that the shape of a weight follows from, by its name; the first that matches counts."""


def check_weights_fit_config(folder: ModelFolder, config: Config) -> list[str]:
    """Compare the names and shapes in the safetensors files with what ``config.json`` and ``[model_init]`` say.

    Returns:
        What differs, in sentences, where transformers could not be asked.

    Raises:
        ConfigError: a weight of the model is in no file or has another shape there, the files hold more decoder
            layers, or parts of them, than the model has, or transformers makes no model of this config.
    """
    if not folder.weight_files or _OTHER_FILES & config.model_init.keys():
        return []
    quantised = quantisation_of(folder) is not None or holds_quantised(folder)
    changed = {}
    if config.model_init:  # reading the keywords takes longer than the rest of this check
        keywords = loading_keywords() or frozenset()
        changed = {name: value for name, value in config.model_init.items() if name not in keywords}
    values = {**folder.config, **changed}
    if quantised:
        # What transformers makes of packed weights depends on the device and on packages.
        _require_embedding(folder, values)
        return []
    if not changed and _fits(folder, values):
        return []
    request = {"model": str(folder.path), "files": folder.weight_files, "values": changed}
    try:
        # It computes nothing: no GPU is shown to it.
        found = run_tool("loading_plan", request, environment={"CUDA_VISIBLE_DEVICES": ""})
    except ChildError as error:
        if error.exit_code == ConfigError.exit_code:
            raise folder.error(f"{_origin(changed)}: {error.message}", error.hint or _mend(folder)) from None
        return [f"Whether the weights fit config.json could not be found out: {error.message}"]
    _require_all(folder, found, changed)
    return _require_no_more(folder, found, changed)


def _fits(folder: ModelFolder, values: Mapping[str, Any]) -> bool:
    """Whether a family that is counted exactly has as many weights as the files, of the same shapes."""
    try:
        arch = from_config(values, folder.name, folder.path)
    except ConfigError:
        return False
    stored = arch.stored
    if arch.guess or stored is None or stored.parameters != arch.counted_parameters or not _is_consistent(folder):
        return False
    layers = _layers(folder)
    if set(layers) != set(range(arch.layers)) or any(shape[0] != arch.vocabulary for shape in input_embeddings(folder)):
        return False
    known: dict[str, set[tuple[int, ...]]] = {}
    for linear, _ in arch.matrices(tower=False):
        # GPT-2 stores its matrices transposed.
        shapes = {(linear.rows, linear.columns), (linear.columns, linear.rows)}
        names = ("gate", "router") if linear.form == "router" else (linear.name,)
        for name in names:
            known.setdefault(name, set()).update(shapes)
    return all(
        shape in known.get(name.removesuffix(".weight").rpartition(".")[2], ())
        for tensors in layers.values()
        for name, shape in tensors.items()
        if len(shape) == _MATRIX and name.endswith(".weight") and "expert" not in name and "_moe." not in name
    ) and _names_are_known(folder)


def _names_are_known(folder: ModelFolder) -> bool:
    """Whether the classes of this kind of model have parts of the names in the files; experts have others there."""
    types = {str(folder.config.get("model_type")), str(folder.text_config.get("model_type"))}
    parts = _PARTS_OF_FILES.union(*(model_attributes(one) for one in types))
    return all(
        part in parts or part.isdigit()
        for name in folder.tensors
        if not is_of_tower(name) and "expert" not in name and "act_fn" not in name and not _NO_PARAMETER.search(name)
        for part in name.split(".")
    )


def _is_consistent(folder: ModelFolder) -> bool:
    """Whether the values that follow from each other do so; transformers' classes refuse others, or fail on them."""
    text = folder.text_config
    layers, types = text.get("num_hidden_layers"), text.get("layer_types")
    heads, keys = text.get("num_attention_heads"), text.get("num_key_value_heads")
    hidden = next((text[name] for name in HIDDEN if name in text), None)
    whole = all(isinstance(one, int) for one in (heads, hidden) if one is not None)
    return (
        (not isinstance(types, list) or len(types) == layers)
        and whole
        and (not (heads and hidden) or "head_dim" in text or hidden % heads == 0)
        and (not (heads and isinstance(keys, int) and keys) or heads % keys == 0)
    )


def _require_embedding(folder: ModelFolder, values: Mapping[str, Any]) -> None:
    """Compare the embedding, which stays as it is where other weights are quantised, with the config."""
    nested = values.get("text_config")
    text = {**values, **nested} if isinstance(nested, Mapping) else values
    rows = {shape[0] for shape in input_embeddings(folder)}
    size = text.get("vocab_size")
    if rows and isinstance(size, int) and size not in rows:
        raise folder.error(
            f"config.json says vocab_size = {size:,}, and the embedding in the files has {max(rows):,} rows",
            _mend(folder),
        )


def _require_all(folder: ModelFolder, found: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Refuse a model of which a weight is in no file, or is there in another shape."""
    missing, unexpected = found["missing"], found["unexpected"]
    origin = _origin(changed)
    if missing and unexpected and not found["used"]:
        raise folder.error(
            f"{origin} describes a model of the type {folder.config.get('model_type')!r}, which has weights such as "
            f"{missing[0]}; none of its weights is in the files, which hold {unexpected[0]} and others",
            "take the config.json that belongs to these weights",
        )
    if found["mismatched"]:
        name, (stored, made) = next(iter(sorted(found["mismatched"].items())))
        settings = next((names for pattern, names in _SETTINGS if pattern.search(name)), "sizes")
        raise folder.error(
            f"{origin} gives {name} the shape {_shape(made)}, and in the files it is {_shape(stored)}: {settings} "
            "do not fit these weights",
            _mend(folder),
        )
    if missing:
        layers = len(_layers(folder))
        size = _text(folder, changed).get("num_hidden_layers")
        if isinstance(size, int) and 0 < layers < size:
            raise folder.error(
                f"{origin} says num_hidden_layers = {size}, and the files hold {layers} decoder layers: the others "
                "would be random numbers",
                _mend(folder),
            )
        instead = f"; they hold {_listed(_patterns(unexpected))} instead" if unexpected else ""
        raise folder.error(
            f"{_listed(missing)} of the model that {origin} describes (model_type "
            f"{folder.config.get('model_type')!r}) {'is' if len(missing) == 1 else 'are'} in none of its files, and "
            f"would be random numbers{instead}",
            _mend(folder),
        )


def _require_no_more(folder: ModelFolder, found: Mapping[str, Any], changed: Mapping[str, Any]) -> list[str]:
    """Refuse files that hold more decoder layers than the model has, or more parts of them."""
    size = _text(folder, changed).get("num_hidden_layers")
    layers = _layers(folder)
    more = [
        name
        for name in found["unexpected"]
        if (layer := LAYER.search(name)) is not None
        and int(layer[1]) in layers
        and not is_of_tower(name)
        and not _NO_PARAMETER.search(name)
    ]
    if not more:
        return []
    beyond = [number for number in layers if isinstance(size, int) and number >= size]
    if beyond:
        what = f"says num_hidden_layers = {size}, and the files hold {max(beyond) + 1} decoder layers"
        if "num_hidden_layers" in changed:
            return [f"[model_init] {what}: only the first {size} are trained, and the result has no more"]
        raise folder.error(
            f"config.json {what}: those after the first {size} would be left out",
            f"{_mend(folder)}; to train the first {size} layers alone, set num_hidden_layers = {size} in [model_init]",
        )
    raise folder.error(
        f"the model that {_origin(changed)} describes (model_type {folder.config.get('model_type')!r}) has no "
        f"{_listed(_patterns(more))}, which the files hold: without them it computes something else",
        "take the config.json that belongs to these weights",
    )


def _layers(folder: ModelFolder) -> dict[int, dict[str, tuple[int, ...]]]:
    """Return the decoder layers in the files, those for multi-token prediction left out."""
    found = stored_layers({name: one.shape for name, one in folder.tensors.items() if "mtp" not in name.split(".")})
    return {number: tensors for number, tensors in found.items() if not any(map(_AHEAD.search, tensors))}


def _text(folder: ModelFolder, changed: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = folder.config.get("text_config")
    return {**folder.config, **changed, **nested} if isinstance(nested, dict) else {**folder.config, **changed}


def _origin(changed: Mapping[str, Any]) -> str:
    return f"config.json with [model_init] {', '.join(changed)}" if changed else "config.json"


def _mend(folder: ModelFolder) -> str:
    return f"take the config.json that belongs to these weights; {folder.download_again('config.json')}"


def _shape(sizes: Iterable[int]) -> str:
    return " × ".join(map(str, sizes))


def _patterns(names: Iterable[str]) -> list[str]:
    """Names with ``*`` for the number of a layer or an expert, each once."""
    return sorted({_NUMBER.sub("*", name) for name in names})


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
