"""Check of ``config.json``: that it describes a language model which the worker's transformers can make."""

import difflib
import re

from dpo_tui.config.schema import Config
from dpo_tui.hardware.models.config_values import LARGEST_SIZE, LAYERS, MOST_LAYERS
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.own_code import brings_code, require_trusted_code
from dpo_tui.start.model_checks.worker_packages import WorkerPackages

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_OTHERS = {
    **dict.fromkeys(("num_key_value_heads", "head_dim", "max_position_embeddings"), "number"),
    "tie_word_embeddings": "true or false",
}
_NO_LANGUAGE_MODEL = re.compile(r"For(SequenceClassification|TokenClassification|QuestionAnswering)$")


def check_config_file(folder: ModelFolder, config: Config, packages: WorkerPackages) -> list[str]:
    """Check a model's type and sizes.

    Returns:
        What it means that the model brings code of its own, where that has been allowed.

    Raises:
        ConfigError: transformers has no such type, and code of the model's own has not been allowed; it is no model
            that continues a text, or a size is no number.
    """
    model_type, known = folder.config.get("model_type"), packages.model_types()
    notes: list[str] = []
    unknown = bool(known) and not (isinstance(model_type, str) and model_type in known)
    if brings_code(folder, packages):
        notes.append(require_trusted_code(folder, config))
    elif unknown:
        raise _unknown_type(folder, model_type, known, packages)
    elif known and config.trust_remote_code is not None:
        raise folder.error(
            f"trust_remote_code is set, and transformers makes a {model_type} itself: no code of the model is needed",
            "leave it out",
        )
    models = packages.language_model_types()
    if (models and not notes and model_type not in models) or folder.config.get("is_encoder_decoder") is True:
        raise folder.error(
            f"config.json: model_type {model_type!r} is not a language model that continues a text",
            "name a causal language model, such as those that `dpo-tui estimate` and the app list",
        )
    architectures = folder.config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    if isinstance(first, str) and _NO_LANGUAGE_MODEL.search(first):
        raise folder.error(
            f"config.json: {first} is a classifier or reward model; its output layer does not give a next token",
            "name the language model that it was made from",
        )
    for name in _SIZES:
        size = folder.text_config.get(name)
        most = MOST_LAYERS if name in LAYERS else LARGEST_SIZE
        wrong = isinstance(size, str | dict | bool) or (
            isinstance(size, int | float) and (not 0 < size <= most or size != size // 1)
        )
        if wrong:
            raise folder.error(f"config.json: {name} = {size!r} is no size", folder.download_again("config.json"))
    # Whether weights fit does not depend on these, so that transformers would be the first to refuse them.
    for name, what in _OTHERS.items():
        value = folder.text_config.get(name)
        if isinstance(value, str | dict):
            raise folder.error(f"config.json: {name} = {value!r} is no {what}", folder.download_again("config.json"))
    return notes


def _unknown_type(
    folder: ModelFolder, model_type: object, known: frozenset[str], packages: WorkerPackages
) -> Exception:
    version = f"transformers {packages.version('transformers')}".strip()
    if model_type is None:
        return folder.error(
            "config.json names no model_type, so transformers cannot tell what model it is",
            folder.download_again("config.json"),
        )
    what = f"config.json: model_type {model_type!r} is not known to {version}, which trains here"
    near = difflib.get_close_matches(str(model_type), known, n=1, cutoff=0.85)
    return folder.error(
        what,
        f"update it if the model is newer: {packages.python} -m pip install --upgrade transformers"
        + (f"; {near[0]} is the nearest type that it knows" if near else ""),
    )
