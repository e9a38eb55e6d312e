"""Check the tables [trl], [peft] and [model_init] against the installed libraries, before a run starts.

The checks are no part of reading a config: a run's frozen config means the same for ever, also after a library has
dropped a field or dpo-tui has got a setting of its name.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig
from dpo_tui.config.library_fields import (
    LibraryField,
    loading_keywords,
    model_config_fields,
    peft_fields,
    trl_fields,
    trl_lacks,
    unsloth_keywords,
)
from dpo_tui.config.library_values import attention_problem, value_problem
from dpo_tui.config.passthrough_names import (
    MODEL_CONFIG_ALIASES,
    PLAIN_INITIALISATIONS,
    REFUSED,
    SECRETS,
    SETTING_FOR,
)
from dpo_tui.config.problems import ConfigProblem, InvalidConfigError, line_of
from dpo_tui.config.same_meaning import nearest
from dpo_tui.config.schema import PASSTHROUGH, Config, choices, default_of, fields, section_of
from dpo_tui.hub.cache import cached_config
from dpo_tui.paths import expanded
from dpo_tui.processes import unsloth_environment
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.text.plain_documents import parse_json

_MERGE_LACKS = ("bias", "lora_bias", "trainable_token_indices", "ensure_weight_tying")
"""Fields of an adapter that `dpo_tui.train.export.adapted_layers` cannot merge."""


def require_passthrough(loaded: LoadedConfig) -> None:
    """Check what a config passes on to TRL, PEFT and from_pretrained.

    Raises:
        InvalidConfigError: an argument is unknown to the installed library, has a setting of ours, would break the
            run, or has a value of another type than the library's field; or a setting and a table name one thing twice.
    """
    problems = [*passthrough_problems(loaded.config), *_two_sources(loaded)]
    if problems:
        text = loaded.path.read_text(encoding="utf-8", errors="replace") if loaded.path else ""
        raise InvalidConfigError(
            [_placed(problem, loaded, text) for problem in problems], loaded.path.name if loaded.path else "settings"
        )


def passthrough_problems(config: Config) -> list[ConfigProblem]:
    """Return what is wrong with the tables of a config, in words; an unknown library is not a problem."""
    problems = []
    # Not for a table that is empty: reading a library's source takes a quarter of a second.
    for table in (table for table in PASSTHROUGH if getattr(config, table)):
        known = _known_fields(table, config)
        for name, value in getattr(config, table).items():
            message = (
                refusal(table, name, value)
                or _unknown(table, name, known)
                or _type_problem(name, value, known)
                or _value_problem(table, name, known, config)
            )
            if message:
                problems.append(ConfigProblem(f"{table}.{name}", None if name in SECRETS else value, message))
    return [*_missing_trainer(config), *problems, *_useless_tables(config)]


def _missing_trainer(config: Config) -> list[ConfigProblem]:
    """A strategy whose trainer the installed TRL has moved or dropped: its experimental ones come and go."""
    folder = strategy_of(config).trl_location
    if not folder or not trl_lacks(folder):
        return []
    message = (
        f"the installed TRL has no trainer for it (trl/{folder}); install one that has: pip install 'trl>=1.16,<1.17'"
    )
    return [ConfigProblem("strategy", config.strategy, message)]


def refusal(table: str, name: str, value: Any) -> str:
    """Why an argument that a library has cannot be passed on by a table; empty where it can."""
    if name in REFUSED[table]:
        return f"cannot be set: {REFUSED[table][name]}"
    ours = SETTING_FOR[table].get(name, name)
    if ours not in fields():
        return _initialisation(value) if (table, name) == ("peft", "init_lora_weights") else ""
    # A setting with a fixed list of values does not stand for what the library takes besides.
    allowed = choices(fields()[ours])
    if ours == name and allowed and isinstance(value, str) and value not in allowed:
        return ""
    return f"has a setting: {ours}, in [{section_of(ours)}]"


def passes(table: str, name: str, value: Any, class_name: str = "DPOConfig") -> bool:
    """Whether a dialect may write an argument into a table."""
    known = trl_fields(class_name) if table == "trl" else peft_fields()
    return known is not None and name in known and not refusal(table, name, value)


def _known_fields(table: str, config: Config) -> Mapping[str, LibraryField] | Collection[str] | None:
    """The names that a library takes, with their declarations where it has any; None where that is not known."""
    if config.provider != "huggingface":
        return _fields_of_unsloth(table, config)
    if table == "trl":
        return trl_fields(strategy_of(config).trl_arguments)
    if table == "peft":
        return peft_fields()
    keywords, declared = loading_keywords(), _model_config_names(config)
    return None if keywords is None or declared is None else keywords | declared | MODEL_CONFIG_ALIASES


def _fields_of_unsloth(table: str, config: Config) -> Mapping[str, LibraryField] | Collection[str] | None:
    """What the libraries in Unsloth's environment take, where that is found: Unsloth's own functions, and theirs.

    Unsloth adds fields to TRL's classes while it is imported, all with its name or vLLM's before them. Its functions
    pass on to PEFT and transformers what they do not take themselves.
    """
    site = unsloth_environment.site_packages()
    if site is None:
        return None
    if table == "trl":
        fields_of_trl = trl_fields(strategy_of(config).trl_arguments, site)
        added = [name for name in config.trl if name.startswith(("unsloth_", "vllm_"))]
        return None if fields_of_trl is None else {**dict.fromkeys(added, LibraryField("Any")), **fields_of_trl}
    if table == "peft":
        fields_of_peft, own = peft_fields(site=site), unsloth_keywords("get_peft_model", site)
        if fields_of_peft is None or own is None:
            return None
        return {**dict.fromkeys(own, LibraryField("Any")), **fields_of_peft}
    known = (
        unsloth_keywords("from_pretrained", site),
        loading_keywords(site),
        _model_config_names(config, site),
    )
    return MODEL_CONFIG_ALIASES.union(*filter(None, known)) if None not in known else None


def _model_config_names(config: Config, site: Path | None = None) -> frozenset[str] | None:
    """Every name that the model's config has; None where its files are not on this machine, or their kind unknown."""
    folder = expanded(config.model_name)
    place = folder / "config.json" if folder.is_dir() else cached_config(config.model_name, config.model_revision)
    try:
        values = parse_json(place.read_text(encoding="utf-8")) if place else None
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    declared = model_config_fields(str(values.get("model_type")), site)
    return declared | values.keys() if declared is not None else None


def _unknown(table: str, name: str, known: Mapping[str, LibraryField] | Collection[str] | None) -> str:
    if known is None or name in known:
        return ""
    library = {"trl": "TRL", "peft": "PEFT's LoraConfig", "model_init": "transformers, and the model's config,"}[table]
    meant = nearest(name, known)
    return f"the installed {library} has no such argument{f'; did you mean {meant}?' if meant else ''}"


def _type_problem(name: str, value: Any, known: Mapping[str, LibraryField] | Collection[str] | None) -> str:
    """Compare a value with the type in the library's source, where that is made of plain types only."""
    if not isinstance(known, Mapping):
        return ""
    words = set(
        re.findall(r"[A-Za-z_.]+", re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", _bare(known[name]))))
    )
    if not words - {"None"} <= _FITS.keys():
        objects = sorted(word for word in words if word.endswith("Config"))
        return f"takes a {objects[0]}, an object that a file cannot hold" if objects and "dict" not in words else ""
    if any(_FITS[word](value) for word in words - {"None"}):
        return ""
    return f"must be {' or '.join(sorted(_NOUNS[word] for word in words - {'None'}))}"


def _value_problem(
    table: str, name: str, known: Mapping[str, LibraryField] | Collection[str] | None, config: Config
) -> str:
    """Compare a value with those that the library takes, where its declaration or the code behind it lists them."""
    if (table, name, config.provider) == ("model_init", "attn_implementation", "huggingface"):
        return attention_problem(config.model_init[name])
    if not isinstance(known, Mapping) or name not in known:
        return ""
    site = unsloth_environment.site_packages() if config.provider != "huggingface" else None
    return value_problem(table, name, known[name], config, site)


def _bare(field: LibraryField) -> str:
    text = field.annotation
    while found := re.search(r"\b(?:Optional|Union)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", text):
        text = text[: found.start()] + found[1].replace(",", "|") + text[found.end() :]
    return text


_FITS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "dict": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
}
_NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "dict": "a table",
    "list": "a list",
}


def _initialisation(value: Any) -> str:
    if value in PLAIN_INITIALISATIONS:
        return ""
    return (
        f"cannot be {value!r}: it changes the base model's weights, which are the reference too, or needs data first; "
        "true, false, gaussian and orthogonal can be had"
    )


def _useless_tables(config: Config) -> list[ConfigProblem]:
    """Arguments that go with the others in no way, or that nothing would read."""
    if config.peft and not config.use_lora:
        return [ConfigProblem("peft", config.peft, "does nothing with use_lora = false: no adapter is trained")]
    if (quantised := config.model_init.get("quantization_config")) is not None:
        if config.use_4bit:
            message = "use_4bit = true, in [model], is NF4 and would be replaced by it; keep one of them"
            return [ConfigProblem("model_init.quantization_config", quantised, message)]
        if not config.use_lora:
            message = "quantised weights do not train; set use_lora = true, or leave it out"
            return [ConfigProblem("model_init.quantization_config", quantised, message)]
    layers = next((name for name in ("layers_to_transform", "layers_pattern") if config.peft.get(name)), None)
    if layers and isinstance(config.adapted_modules, str):
        message = 'needs names in lora_target_modules, in [lora], such as ["q_proj", "v_proj"]; PEFT refuses all-linear'
        return [ConfigProblem(f"peft.{layers}", config.peft[layers], message)]
    unmerged = [name for name in _MERGE_LACKS if config.peft.get(name) not in (None, False, "none", [])]
    if config.merge_at_end and unmerged:
        message = "an adapter with it cannot be merged, which merge_at_end asks for"
        return [ConfigProblem(f"peft.{unmerged[0]}", config.peft[unmerged[0]], message)]
    return []


def _two_sources(loaded: LoadedConfig) -> list[ConfigProblem]:
    """Arguments in a table whose setting of the same name is given too: the table would win without a word.

    A table may hold values that the setting lacks. A default counts as not given: a run's own config has them all.
    """
    return [
        ConfigProblem(f"{table}.{name}", value, f"{name} is set in [{section_of(name)}] too; keep one of them")
        for table in PASSTHROUGH
        for name, value in getattr(loaded.config, table).items()
        if name in fields() and not refusal(table, name, value) and _is_changed(loaded.config, name)
    ]


def _is_changed(config: Config, name: str) -> bool:
    return bool(getattr(config, name) != default_of(name, config.strategy))


def _placed(problem: ConfigProblem, loaded: LoadedConfig, text: str) -> ConfigProblem:
    if loaded.origin(problem.key) == "command line":
        return replace(problem, source="--set")
    return replace(problem, line=line_of(problem.key.partition(".")[2], text))
