"""What the interpreter that will train has installed, read from its files: nothing is imported or started."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

_LANGUAGE_MODELS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
)


@dataclass(frozen=True)
class WorkerPackages:
    """Packages of a worker's environment.

    Attributes:
        interpreter: its Python; None for the one that this process runs with.
    """

    interpreter: Path | None = None

    @property
    def python(self) -> str:
        """The interpreter's path, for commands."""
        return str(self.interpreter or sys.executable)

    def has(self, module: str) -> bool:
        """Whether a module can be imported there."""
        return self._folder_of(module) is not None

    def version(self, package: str) -> str:
        """Return the version of a package; empty where it is not installed."""
        folder = self._folder_of(package)
        found = [] if folder is None else list(distributions(name=package, path=[str(folder.parent)]))
        return found[0].version if found else ""

    def model_types(self) -> frozenset[str]:
        """Return the values of ``model_type`` that its transformers knows; empty where they cannot be read."""
        folder = self._folder_of("transformers")
        if folder is None:
            return frozenset()
        return _names_of(folder, ("auto_mappings.py", "configuration_auto.py"), ("CONFIG_MAPPING_NAMES",))

    def language_model_types(self) -> frozenset[str]:
        """Return those of them with a class that continues a text; empty where they cannot be read."""
        folder = self._folder_of("transformers")
        return frozenset() if folder is None else _names_of(folder, ("modeling_auto.py",), _LANGUAGE_MODELS)

    def _folder_of(self, module: str) -> Path | None:
        if self.interpreter is None:
            try:
                found = importlib.util.find_spec(module)
            except (ImportError, ValueError):
                return None
            return Path(found.origin).parent if found is not None and found.origin else None
        environment = self.interpreter.parent.parent
        folders = sorted(environment.glob(f"lib*/python3*/site-packages/{module}"))
        return folders[0] if folders else None


@cache
def _names_of(transformers: Path, files: tuple[str, ...], variables: tuple[str, ...]) -> frozenset[str]:
    """Return the keys of tables in transformers' source, which importing would load torch for."""
    found: set[str] = set()
    for file in files:
        try:
            tree = ast.parse((transformers / "models" / "auto" / file).read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            return frozenset()
        for statement in tree.body:
            if any(isinstance(node, ast.Name) and node.id in variables for node in _targets(statement)):
                found.update(_keys(statement))
    return frozenset(found)


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """Return the variables that a statement fills: by assignment, or by the method update."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.AnnAssign):
        return [statement.target]
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "update":
        return [call.func.value]
    return []


def _keys(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        first: ast.expr | None = None
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:  # noqa: PLR2004 (a pair of key and value)
            first = node.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value
