"""What the table [peft] names in a model: layers, and patterns of names for ranks, exclusions and single parameters.

PEFT passes over an index or a pattern that matches nothing, so that a run would train another adapter than it was asked
for; names are matched here as PEFT matches them.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from peft import LoraConfig

from dpo_tui.errors import ConfigError

_LAYER = re.compile(r"^(.*?\.?)([^.]+)\.(\d+)\.")
_SHOWN = 8


def check_patterns(settings: LoraConfig, modules: Collection[str], weights: Collection[str]) -> None:
    """Check, before the adapter is made, that what its config names is in the model.

    Args:
        settings: of the adapter.
        modules: names of all modules of the model.
        weights: names of all its parameters.

    Raises:
        ConfigError: a layer, or a name, is not in the model.
    """
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(settings, field) or {}:
            _require_expression(field, pattern)
    lists = _lists_of_layers(modules)
    layers = max((count for count in lists.values()), default=0)
    patterns = settings.layers_pattern or []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern not in lists:
            raise _absent("layers_pattern", pattern, f"its lists of layers are called {', '.join(sorted(lists))}")
        layers = lists[pattern]
    asked = settings.layers_to_transform
    for layer in [asked] if isinstance(asked, int) else asked or []:
        if not 0 <= layer < layers:
            raise _absent("layers_to_transform", f"layer {layer}", f"it has layers 0 to {layers - 1}")
    _require_excluded(settings, modules)
    for name in settings.target_parameters or []:
        if not _is_end(name, weights):
            stacks = {".".join(one.split(".")[-2:]) for one in weights if "expert" in one and not one.endswith("bias")}
            raise _absent("target_parameters", f"parameter {name}", _listed(stacks or set(weights)))


def _require_excluded(settings: LoraConfig, modules: Collection[str]) -> None:
    excluded = settings.exclude_modules or []
    if isinstance(excluded, str):
        _require_expression("exclude_modules", excluded)
        if not any(re.fullmatch(excluded, name) for name in modules):
            raise _absent("exclude_modules", f"module that {excluded!r} matches", _last_parts(modules))
    else:
        for name in excluded:
            if not _is_end(name, modules):
                raise _absent("exclude_modules", f"module {name}", _last_parts(modules))


def check_rank_patterns(patterns: Mapping[str, Iterable[str]], adapted: Collection[str]) -> None:
    """Check that the patterns for ranks and alphas match modules that the adapter adapts.

    Args:
        patterns: under ``rank_pattern`` and ``alpha_pattern``, as they were before PEFT made the adapter: it adds its
            own for experts that are one parameter.
        adapted: names of the modules that it adapts, and of such parameters.

    Raises:
        ConfigError: a pattern matches none of them.
    """
    for field, expressions in patterns.items():
        for pattern in expressions:
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in adapted):
                raise _absent(field, f"adapted module that {pattern!r} matches", _last_parts(adapted))


def _require_expression(field: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"[peft] {field}: {pattern!r} is no regular expression: {error}", hint=f"mend {field} in [peft]"
        ) from None


def _lists_of_layers(modules: Iterable[str]) -> dict[str, int]:
    """Return the lists of modules in a model by their names, with how many modules each has."""
    found: dict[str, int] = {}
    for name in modules:
        if match := _LAYER.match(f"{name}."):
            found[match[2]] = max(found.get(match[2], 0), int(match[3]) + 1)
    return found


def _is_end(name: str, names: Iterable[str]) -> bool:
    return any(one == name or one.endswith(f".{name}") for one in names)


def _last_parts(names: Iterable[str]) -> str:
    return _listed({last for name in names if (last := name.rpartition(".")[2]) and not last.isdigit()})


def _listed(names: Collection[str]) -> str:
    more = len(names) - _SHOWN
    return "it has " + ", ".join(sorted(names)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _absent(field: str, what: str, present: str) -> ConfigError:
    return ConfigError(f"[peft] {field}: the model has no {what}; {present}", hint=f"change {field} in [peft]")
