"""Fields of the installed libraries' classes of arguments, read from their source: no torch is imported.

Importing TRL takes seconds and gigabytes of address space; parsing the three files with its dataclasses takes a
twentieth of a second.
"""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


class _Unknown:
    """A default that is no literal in the source."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN_DEFAULT: Any = _Unknown()


@dataclass(frozen=True)
class LibraryField:
    """One field of a dataclass, as its source declares it.

    Attributes:
        annotation: the type, as text: ``dict[str, Any] | str | None``.
        default: its default; :data:`UNKNOWN_DEFAULT` where that is no literal.
        choices: the texts that it may be, where the type or the field's metadata lists them.
    """

    annotation: str
    default: Any = UNKNOWN_DEFAULT
    choices: tuple[str, ...] = ()


def trl_fields(class_name: str, site: Path | None = None) -> Mapping[str, LibraryField] | None:
    """Return the fields of a class of arguments of TRL, such as ``DPOConfig``, those of its bases included.

    Args:
        class_name: of the class.
        site: the site-packages of another interpreter; None for this one's libraries.

    Returns:
        None where TRL is not installed, or its source is not as expected: then nothing is known about its fields.
    """
    return _dataclass_fields("trl", class_name, site)


def trl_lacks(location: str, site: Path | None = None) -> bool:
    """Return whether TRL is installed, and has no such part as ``experimental/orpo``; see :func:`trl_fields`."""
    root = package_root("trl", site)
    return root is not None and not (root / location).exists()


def peft_fields(class_name: str = "LoraConfig", site: Path | None = None) -> Mapping[str, LibraryField] | None:
    """Return the fields of a class of PEFT; see :func:`trl_fields`."""
    return _dataclass_fields("peft", class_name, site)


def transformers_fields(class_name: str, site: Path | None = None) -> Mapping[str, LibraryField] | None:
    """Return the fields of a class of transformers; see :func:`trl_fields`."""
    return _dataclass_fields("transformers", class_name, site)


@cache
def loading_keywords(site: Path | None = None) -> frozenset[str] | None:
    """Return the keywords that transformers' ``from_pretrained`` of a model takes; None where that is unknown.

    Those that it takes out of ``**kwargs`` are included. Any other keyword is a value of the model's config.
    """
    return _keywords("transformers", ("modeling_utils.py", "models/auto/auto_factory.py"), "from_pretrained", site)


@cache
def unsloth_keywords(function: str, site: Path) -> frozenset[str] | None:
    """Return the keywords that a function of Unsloth's models takes, over all families; None where that is unknown.

    Args:
        function: ``from_pretrained`` or ``get_peft_model``.
        site: the site-packages of its environment.
    """
    root = package_root("unsloth", site)
    files = sorted(path.name for path in (root / "models").glob("*.py")) if root is not None else []
    return _keywords("unsloth", tuple(f"models/{name}" for name in files), function, site)


def _keywords(package: str, files: tuple[str, ...], function: str, site: Path | None) -> frozenset[str] | None:
    """Return the arguments of all functions of a name in some files; None where one cannot be read or none has it."""
    root = package_root(package, site)
    found: set[str] = set()
    for name in files:
        tree = parsed(root / name) if root is not None else None
        if tree is None:
            return None
        for node in _functions(tree):
            if node.name == function:
                found |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                found |= set(_popped(node))
    return frozenset(found - {"cls"}) if found else None


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions of a module and of its classes; those inside of functions, and all expressions, are left out.

    `ast.walk` would visit every expression of transformers' largest file, for ten times as long.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield child
        elif isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _functions(child)


@cache
def model_config_fields(model_type: str, site: Path | None = None) -> frozenset[str] | None:
    """Return the names that the config class of a kind of model declares; None where that is unknown.

    Args:
        model_type: as in config.json.
        site: the site-packages of another interpreter; None for this one's libraries.
    """
    root = package_root("transformers", site)
    if root is None or not re.fullmatch(r"\w+", model_type):
        return None
    found: set[str] = set()
    for path in (root / "configuration_utils.py", root / f"models/{model_type}/configuration_{model_type}.py"):
        tree = parsed(path)
        if tree is None:
            return None
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
                found |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return frozenset(found - {"self"})


@cache
def model_attributes(model_type: str) -> frozenset[str]:
    """Return the names that the classes of a kind of model give their parts; empty where that is unknown.

    Args:
        model_type: as in config.json; ``gemma3_text`` is made by the classes of ``gemma3``.
    """
    root = package_root("transformers")
    for kind in (model_type, model_type.removesuffix("_text")):
        path = (root or Path()) / f"models/{kind}/modeling_{kind}.py"
        if re.fullmatch(r"\w+", kind) and path.is_file():
            text = path.read_text(encoding="utf-8")
            return frozenset(
                re.findall(r"(?:\bself\.|register_(?:buffer|parameter)\(\s*\")(\w+)(?:\"|\s*(?::[^=\n]+)?=)", text)
            )
    return frozenset()


@cache
def _dataclass_fields(package: str, class_name: str, site: Path | None) -> Mapping[str, LibraryField] | None:
    root = package_root(package, site)
    place = _file_with_class(root, class_name) if root is not None else None
    return _fields_in(place, class_name, site) if place is not None else None


def _fields_in(path: Path, class_name: str, site: Path | None) -> dict[str, LibraryField] | None:
    """Read the fields of one class and of its bases; None where a base is not found."""
    tree = parsed(path)
    node = _class_in(tree, class_name) if tree is not None else None
    if tree is None or node is None:
        return None
    fields: dict[str, LibraryField] = {}
    for base in reversed(node.bases):
        if not isinstance(base, ast.Name):
            return None
        origin = path if _class_in(tree, base.id) is not None else _imported_from(tree, base.id, path, site)
        if origin is None:
            # A mixin with methods only, such as PushToHubMixin, has no annotated fields to miss.
            if base.id.endswith("Mixin"):
                continue
            return None
        inherited = _fields_in(origin, base.id, site)
        if inherited is None:
            return None
        fields |= inherited
    return fields | dict(_own_fields(node))


def _own_fields(node: ast.ClassDef) -> Iterator[tuple[str, LibraryField]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation).strip("'\"")
            if not annotation.startswith(("ClassVar", "typing.ClassVar")):
                yield item.target.id, LibraryField(annotation, _default(item.value), _choices(item))


def _choices(item: ast.AnnAssign) -> tuple[str, ...]:
    """The texts in the Literal of a field's type, or under ``choices`` in its metadata."""
    listed: list[ast.expr] = []
    for node in (*ast.walk(item.annotation), *(ast.walk(item.value) if item.value else ())):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
            listed += node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(value, ast.List):
                    listed += value.elts
    return tuple(one.value for one in listed if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _default(value: ast.expr | None) -> Any:
    if isinstance(value, ast.Call):
        given = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
        return UNKNOWN_DEFAULT if given is None else _default(given)
    try:
        return UNKNOWN_DEFAULT if value is None else ast.literal_eval(value)
    except ValueError:
        return UNKNOWN_DEFAULT


def _imported_from(tree: ast.Module, name: str, path: Path, site: Path | None) -> Path | None:
    """Find the file that an imported class is defined in."""
    for node in tree.body:
        if not (isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names)):
            continue
        module = node.module or ""
        if node.level:
            folder = path.parents[node.level - 1]
        else:
            package, _, module = module.partition(".")
            found = package_root(package, site)
            if found is None:
                return None
            folder = found
        base = folder.joinpath(*module.split(".")) if module else folder
        return base.with_suffix(".py") if base.with_suffix(".py").is_file() else _file_with_class(base, name)
    return None


@cache
def _file_with_class(folder: Path, class_name: str) -> Path | None:
    """Find the file that defines a class: the folder's own files first, then those below it."""
    definition = re.compile(rf"^class {re.escape(class_name)}\b", re.MULTILINE)
    # Files of configs first: TRL alone has more than a hundred others.
    candidates = sorted(folder.rglob("*.py"), key=lambda path: ("config" not in path.name, len(path.parts), path))
    if folder.name == "transformers":
        candidates = sorted(folder.glob("*.py"), key=lambda path: ("arg" not in path.name, path))
    for path in candidates:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if definition.search(text):
            return path
    return None


def _popped(function: ast.FunctionDef) -> Iterator[str]:
    """The names that a function takes out of its ``kwargs``."""
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"pop", "get"}
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id.endswith("kwargs")
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            yield node.args[0].value


def _class_in(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


@cache
def parsed(path: Path) -> ast.Module | None:
    """Return the syntax tree of a module; None where it cannot be read."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


@cache
def package_root(package: str, site: Path | None = None) -> Path | None:
    """Return the folder of an installed package, of this interpreter or in another one's site-packages."""
    if site is not None:
        return site / package if (site / package / "__init__.py").is_file() else None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None
