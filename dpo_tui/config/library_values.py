"""Values that the libraries check only when they use them: enumerations, schedules with their arguments, optimisers.

Read from the source of the installed libraries, like the fields in `dpo_tui.config.library_fields`; what cannot be read
is no problem.
"""

import ast
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dpo_tui.config.late_values import late_problem
from dpo_tui.config.library_fields import LibraryField, package_root, parsed, transformers_fields
from dpo_tui.config.optimiser_arguments import optim_args_problem
from dpo_tui.config.same_meaning import nearest
from dpo_tui.config.schema import Config
from dpo_tui.text.plain_documents import parse_json

_ENUM_FILES = ("training_args.py", "trainer_utils.py", "debug_utils.py")
_MOST_SHOWN = 12
_GIVEN = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
"""Arguments of a schedule that Trainer passes itself."""
_WITHOUT_ARGUMENTS = {"constant", "constant_with_warmup"}
"""Schedules to which Trainer passes no lr_scheduler_kwargs."""
_KERNEL = re.compile(r"(paged\|)?[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.-]+)?")
"""A kernel of the hub: repository, revision and function, as transformers writes them."""
_EITHER = ("min_lr", "min_lr_rate")
_OPTIMISER_MODULES = {
    "galore": "galore_torch",
    "apollo": "apollo_torch",
    "lomo": "lomo_optim",
    "adalomo": "lomo_optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "stable_adamw": "optimi",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_anyprecision": "torchdistx",
}
"""By how the name of an optimiser begins, the package that it needs beside those of dpo-tui."""
_LEAST = {
    "dataloader_prefetch_factor": 1,
    "eval_accumulation_steps": 1,
    "pad_to_multiple_of": 1,
    "torch_empty_cache_steps": 1,
}
"""Whole numbers by which the libraries divide, or that torch refuses, once a batch is made."""
_NEEDS_TARGETS = ("galore", "apollo")
_JSON_TABLES = {"lr_scheduler_kwargs", "accelerator_config"}
"""Fields that the library reads from JSON text too."""


def value_problem(table: str, name: str, field: LibraryField, config: Config, site: Path | None = None) -> str:
    """Why a library would refuse a value once it uses it; empty where it would not, or nothing is known.

    Args:
        table: of the config that has the value.
        name: of the field.
        field: its declaration.
        config: with the value, and those that go with it.
        site: the site-packages of another interpreter; None for this one's libraries.
    """
    value = _from_text(getattr(config, table)[name]) if name in _JSON_TABLES else getattr(config, table)[name]
    if late := late_problem(table, name, getattr(config, table)[name], field.annotation, config):
        return late
    if table == "trl" and name == "lr_scheduler_kwargs":
        return _schedule_problem(str(config.trl.get("lr_scheduler_type", config.lr_scheduler_type)), value, site)
    if table == "trl" and name == "optim_args":
        return optim_args_problem(value, str(config.trl.get("optim", config.optim)), site)
    if table == "trl" and name == "accelerator_config":
        return _keys_problem(value, transformers_fields("AcceleratorConfig", site))
    if table == "trl" and name in _LEAST and isinstance(value, int) and value < _LEAST[name]:
        return f"must be at least {_LEAST[name]}"
    allowed = _allowed(name, field, site)
    given = value.split() if name == "debug" and isinstance(value, str) else value
    for one in given if isinstance(given, list) else [given]:
        if allowed and one not in allowed and not _is_of_another_type(one, field.annotation):
            near = nearest(str(one), allowed)
            shown = ", ".join(allowed[:_MOST_SHOWN]) + (" …" if len(allowed) > _MOST_SHOWN else "")
            return f"must be one of {shown}" + (f"; did you mean {near}?" if near else "")
    return _optimiser_problem(value, config, site) if table == "trl" and name == "optim" else ""


def _is_of_another_type(value: Any, annotation: str) -> bool:
    """Whether a value is not one of those listed because the field takes another type, a switch, a table or nothing."""
    if value is None:
        return True
    word = {bool: "bool", dict: "dict"}.get(type(value))
    return word is not None and word in annotation


def _allowed(name: str, field: LibraryField, site: Path | None) -> tuple[str, ...]:
    """Return the values that a field may have; none where any text will do."""
    if field.choices:
        return field.choices
    for word in re.findall(r"\w+", field.annotation):
        if found := _enum_values(word, site):
            return found
    if name in ("log_level", "log_level_replica"):
        return _log_levels(site)
    # TRL compares the divergence with each that it knows, in its trainer alone.
    return _compared_values("trl", "trainer/dpo_trainer.py", name, site) if name == "f_divergence_type" else ()


@cache
def _enum_values(name: str, site: Path | None) -> tuple[str, ...]:
    """Return the values of an enumeration of transformers, in its order."""
    root = package_root("transformers", site)
    for file in _ENUM_FILES if root is not None else ():
        tree = parsed(Path(str(root)) / file)
        for node in tree.body if tree is not None else ():
            if isinstance(node, ast.ClassDef) and node.name == name and _is_enum(node):
                return tuple(
                    item.value.value
                    for item in node.body
                    if isinstance(item, ast.Assign)
                    and isinstance(item.value, ast.Constant)
                    and isinstance(item.value.value, str)
                )
    return ()


def _is_enum(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases)


@cache
def _log_levels(site: Path | None) -> tuple[str, ...]:
    """Return the names of transformers' log levels, and the one that leaves them as they are."""
    root = package_root("transformers", site)
    tree = parsed(root / "utils" / "logging.py") if root is not None else None
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "log_levels":
            names = [key.value for key in getattr(node.value, "keys", ()) if isinstance(key, ast.Constant)]
            return ("passive", *map(str, names))
    return ()


@cache
def _compared_values(package: str, file: str, attribute: str, site: Path | None) -> tuple[str, ...]:
    """Return the texts with which a module compares an attribute of its objects."""
    root = package_root(package, site)
    try:
        text = (root / file).read_text(encoding="utf-8") if root is not None else ""
    except OSError:
        return ()
    return tuple(dict.fromkeys(re.findall(rf"\bself\.{attribute} == \"(\w+)\"", text)))


@dataclass(frozen=True)
class Schedule:
    """A schedule of transformers.

    Attributes:
        arguments: that lr_scheduler_kwargs may have; None where any will do.
        required: those without a default.
    """

    arguments: tuple[str, ...] | None
    required: tuple[str, ...]


@cache
def schedules(site: Path | None = None) -> Mapping[str, Schedule]:
    """Return the schedules of transformers by name; none where its source is not as expected."""
    root = package_root("transformers", site)
    tree = parsed(root / "optimization.py") if root is not None else None
    if tree is None:
        return {}
    names = _enum_members(site)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_TO_SCHEDULER_FUNCTION":
            for key, value in zip(getattr(node.value, "keys", ()), getattr(node.value, "values", ()), strict=True):
                name = names.get(key.attr if isinstance(key, ast.Attribute) else "")
                function = functions.get(ast.unparse(value))
                if name is not None and function is not None:
                    found[name] = _schedule(name, function.args)
    return found


def _enum_members(site: Path | None) -> dict[str, str]:
    """Return the values of SchedulerType by the names of its members."""
    root = package_root("transformers", site)
    tree = parsed(root / "trainer_utils.py") if root is not None else None
    return {
        ast.unparse(item.targets[0]): str(item.value.value)
        for node in (tree.body if tree is not None else ())
        if isinstance(node, ast.ClassDef) and node.name == "SchedulerType"
        for item in node.body
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
    }


def _schedule(name: str, declared: ast.arguments) -> Schedule:
    if name in _WITHOUT_ARGUMENTS:
        return Schedule((), ())
    if declared.kwarg is not None:
        return Schedule(None, ())
    positional = [one.arg for one in (*declared.posonlyargs, *declared.args)]
    optional = set(positional[len(positional) - len(declared.defaults) :])
    optional |= {
        one.arg for one, value in zip(declared.kwonlyargs, declared.kw_defaults, strict=True) if value is not None
    }
    every = [name for name in (*positional, *(one.arg for one in declared.kwonlyargs)) if name not in _GIVEN]
    return Schedule(tuple(every), tuple(name for name in every if name not in optional))


def _schedule_problem(name: str, values: Any, site: Path | None) -> str:
    """Why a schedule cannot be made with lr_scheduler_kwargs; a rule of ours asks for those that it cannot lack."""
    known = schedules(site).get(name)
    if known is None or not isinstance(values, Mapping) or not values or known.arguments is None:
        return ""
    if name in _WITHOUT_ARGUMENTS:
        return f"does nothing with lr_scheduler_type = {name}"
    unknown = [one for one in values if one not in known.arguments]
    if unknown:
        return f"has {unknown[0]}, and the schedule {name} takes {', '.join(known.arguments) or 'none'}"
    if all(values.get(one) is not None for one in _EITHER):
        return f"has {' and '.join(_EITHER)}, of which the schedule {name} takes one"
    lacking = [one for one in known.required if one not in values]
    return f"must have {' and '.join(lacking)} for the schedule {name}" if lacking else ""


def _keys_problem(value: Any, known: Mapping[str, LibraryField] | None) -> str:
    unknown = [one for one in value if one not in known] if isinstance(value, Mapping) and known else []
    return f"has {unknown[0]}; it may have {', '.join(known or ())}" if unknown else ""


def _optimiser_problem(value: Any, config: Config, site: Path | None) -> str:
    """What an optimiser lacks: a package, or the modules that it is for."""
    begins = next((one for one in _OPTIMISER_MODULES if str(value).startswith(one)), None)
    module = _OPTIMISER_MODULES[begins] if begins else ""
    if module and not ((site / module).is_dir() if site else importlib.util.find_spec(module)):
        return f"needs the package {module}, not installed where the run trains"
    if str(value).startswith(_NEEDS_TARGETS) and not config.trl.get("optim_target_modules"):
        return "needs optim_target_modules, in [trl]: the modules whose gradients it projects"
    return ""


def _from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def attention_problem(value: Any, site: Path | None = None) -> str:
    """Why transformers would not load a model with an ``attn_implementation``; empty where it may, or nothing is known.

    Args:
        value: one of its own, ``paged|`` before one, or the repository of a kernel on the hub.
        site: the site-packages of another interpreter; None for this one's libraries.
    """
    known = _attentions(site)
    if not known or not isinstance(value, str) or value in known or _KERNEL.fullmatch(value):
        return ""
    near = nearest(value, known)
    meant = f"; did you mean {near}?" if near else ""
    kernel = "a kernel of the hub, such as kernels-community/flash-attn"
    return f"must be one of {', '.join(sorted(known))}, or {kernel}{meant}"


@cache
def _attentions(site: Path | None) -> frozenset[str]:
    """Return the names in transformers' table of attention functions, and eager, which every model has itself."""
    root = package_root("transformers", site)
    tree = parsed(root / "modeling_utils.py") if root is not None else None
    found = {
        key.value
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_global_mapping"
        for key in getattr(node.value, "keys", ())
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    return frozenset({*found, "eager"} if "sdpa" in found else ())
