"""Parse TOML, JSON and YAML that anybody may have written: whatever is wrong with a text is one kind of error.

The parsers of the standard library and of PyYAML let errors of Python through: of a number with 5,000 digits, of the
month 13, of a tag that does not fit its value, of brackets nested beyond the stack. Standard library only; PyYAML is
imported where it is asked for.
"""

import json
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

_DEEPEST = 64
"""Tables and lists in one another; the walks over documents that readers do by calling themselves stay possible."""
_LARGEST = 1 << 64
"""Numbers of this size and more are in no format's promise, and beyond 4,300 digits Python cannot write them."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a document of TOML.

    Raises:
        ValueError: it is none, is nested too deeply, or has a number too large.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_plain(document)
    return document


def parse_json(text: str | bytes) -> Any:
    """Parse a document of JSON, in which NaN and Infinity are numbers.

    Raises:
        ValueError: it is none, or is nested beyond what Python's parser takes.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def require_plain(document: Any) -> None:
    """Refuse what a document may hold by its format, and no reader expects.

    Raises:
        ValueError: tables and lists are nested too deeply, or a whole number has more than 64 bits.
    """
    level = [document]
    for _ in range(_DEEPEST):
        if any(isinstance(value, int) and abs(value) >= _LARGEST for value in level):
            raise ValueError("a number in it has more than 64 bits")
        # What YAML's aliases stand for is one object, walked once a level; one that holds itself never ends.
        holders = {id(value): value for value in level if isinstance(value, dict | list | tuple | set)}
        level = [item for value in holders.values() for item in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


@cache
def yaml_loader() -> "type[yaml.SafeLoader]":
    """PyYAML's loader of plain values, for which a value that does not fit its tag is a `yaml.YAMLError` too."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
                kind = str(node.tag).rpartition(":")[2]
                raise yaml.constructor.ConstructorError(
                    None, None, f"the value is no {kind}", node.start_mark
                ) from None

    return Loader


def parse_yaml(text: str) -> Any:
    """Parse a document of YAML with plain values.

    Raises:
        ValueError: it is none, is nested too deeply, or has a number too large.
    """
    import yaml

    loader = yaml_loader()(text)
    try:
        document = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    require_plain(document)
    return document


_TOO_DEEP = f"tables or lists are nested more than {_DEEPEST} deep"
