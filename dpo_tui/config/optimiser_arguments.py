"""Which ``optim_args`` each optimiser of transformers reads: it is silent about those that it does not.

Read from the source of the installed transformers (5.23: trainer_optimizer.py); what cannot be read is no problem.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpo_tui.config.library_fields import package_root, parsed
from dpo_tui.config.same_meaning import nearest

_FILE = "trainer_optimizer.py"
_ATTRIBUTE = "optim_args"


def optim_args_problem(value: Any, optimiser: str, site: Path | None = None) -> str:
    """Why ``optim_args`` cannot be meant so; empty where it can, or nothing is known about the optimiser.

    Args:
        value: the text, such as ``alpha=0.9,eps=1e-8``.
        optimiser: the value of ``optim``.
        site: the site-packages of another interpreter; None for this one's libraries.
    """
    if not isinstance(value, str) or not value.strip():
        return ""
    parts = [part.strip() for part in value.split(",")]
    broken = next((part for part in parts if part.count("=") != 1 or part.startswith("=") or part.endswith("=")), None)
    if broken is not None:
        return f"must be NAME=VALUE with commas between; {broken!r} is not"
    known = _arguments(site).get(optimiser)
    if known is None:
        return ""
    if not known:
        return f"does nothing with optim = {optimiser}, which has no arguments but those of [training]"
    unknown = next((name for part in parts if (name := part.partition("=")[0].strip()) not in known), None)
    if unknown is None:
        return ""
    near = nearest(unknown, known)
    meant = f"; did you mean {near}?" if near else ""
    return f"has {unknown}, and optim = {optimiser} reads {', '.join(sorted(known))}{meant}"


@cache
def _arguments(site: Path | None) -> Mapping[str, frozenset[str] | None]:
    """The arguments that are read, by optimiser; None for one that hands all of them on."""
    root = package_root("transformers", site)
    tree = parsed(root / _FILE) if root is not None else None
    enum = parsed(root / "training_args.py") if root is not None else None
    if tree is None or enum is None:
        return {}
    functions = {node.name: _read(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    values = _members(enum)
    return {values[name]: functions[function] for name, function in _handlers(tree, functions) if name in values}


def _members(tree: ast.Module) -> dict[str, str]:
    """The values of OptimizerNames by the names of its members."""
    return {
        ast.unparse(item.targets[0]): str(item.value.value)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "OptimizerNames"
        for item in node.body
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
    }


def _handlers(tree: ast.Module, functions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Member of OptimizerNames and function, of each row of a table that is written out, by itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Attribute) and isinstance(value, ast.Name) and value.id in functions:
                    yield key.attr, value.id


def _read(function: ast.FunctionDef) -> frozenset[str] | None:
    """The names that a function takes out of ``optim_args``; None where it hands the whole on."""
    names: set[str] = set()
    counted = 0
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _is_arguments(getattr(node.func, "value", None)) and node.args:
            counted += 1
            names |= _string_literal(node.args[0])
        elif isinstance(node, ast.Compare) and any(map(_is_arguments, node.comparators)):
            counted += 1
            names |= _string_literal(node.left)
        elif _is_arguments(getattr(node, "value", None)) or _is_arguments(getattr(node, "test", None)):
            counted += isinstance(node, ast.Subscript | ast.If)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            names |= set().union(*map(_string_literal, node.iter.elts))
    mentioned = sum(map(_is_arguments, ast.walk(function)))
    return frozenset(names) if counted == mentioned else None


def _is_arguments(node: Any) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == _ATTRIBUTE


def _string_literal(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
