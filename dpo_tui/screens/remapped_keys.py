"""Every binding of the app by the id that settings.toml remaps it by, and what is wrong with the keys chosen there."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass

from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode

_NEAR = 0.8
"""How alike an unknown id and a known one must be for the known one to be suggested (``difflib``'s ratio)."""


@dataclass(frozen=True)
class NamedBinding:
    """A binding that the user can give other keys.

    Attributes:
        id: its name in the table ``[keys]``.
        keys: comma-separated keys that it has by default.
        description: what the keys do.
        owner: the class whose keys it is among.
    """

    id: str
    keys: str
    description: str
    owner: type[DOMNode]


def named_bindings() -> list[NamedBinding]:
    """Return the bindings of every screen and widget, and of the app, in the order of their ids.

    Imports every screen, so not before the first paint.
    """
    for package in ("dpo_tui.screens", "dpo_tui.screens.steps", "dpo_tui.widgets"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    found = {
        (binding.id, owner): NamedBinding(binding.id, binding.key, binding.description, owner)
        for owner in _own_classes(DOMNode)
        for binding in owner.__dict__.get("BINDINGS", ())
        if isinstance(binding, Binding) and binding.id
    }
    return sorted(found.values(), key=lambda one: one.id)


def _own_classes(base: type[DOMNode]) -> set[type[DOMNode]]:
    classes: set[type[DOMNode]] = set()
    for owner in base.__subclasses__():
        classes |= _own_classes(owner)
        if owner.__module__.startswith("dpo_tui."):
            classes.add(owner)
    return classes


def key_problems(chosen: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the user's keys: ids that no binding has, and keys that two bindings would share.

    Args:
        chosen: comma-separated keys by id of a binding, from settings.toml.
    """
    bindings = named_bindings()
    known = {binding.id for binding in bindings}
    problems = []
    for unknown in sorted(chosen.keys() - known):
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=_NEAR)
        meant = f": did you mean {near[0]!r}?" if near else "; the settings screen lists all"
        problems.append(f"keys: there is no binding {unknown!r}{meant}")
    for binding in bindings:
        if binding.id not in chosen:
            continue
        mine = _split(chosen[binding.id])
        for other in bindings:
            if other.id == binding.id or (other.id in chosen and other.id < binding.id):
                continue  # of two remapped ones, the pair is named once
            shared = mine & _split(chosen.get(other.id, other.keys))
            # A key of the focused widget or of the screen comes before one of the app, whose binding it would hide.
            related = issubclass(binding.owner, other.owner) or issubclass(other.owner, binding.owner)
            if shared and (related or issubclass(other.owner, App)):
                problems.append(
                    f"keys: {', '.join(sorted(shared))} is for {binding.id!r} and for {other.id!r} "
                    f"({other.description}): only one of them will answer"
                )
    return problems


def _split(keys: str) -> set[str]:
    return {key.strip() for key in keys.split(",") if key.strip()}
