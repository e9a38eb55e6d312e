"""Whether a JSON object has the types of a dataclass: what other programs left must not fail far from its reading.

A wrong type that is found where the value is used has passed by the place that knows which file it is from, and one
run's file then ends a list of all runs, or the supervisor of another one. Standard library only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin

_LARGEST = 1 << 63
"""Numbers of this size and more fit no field of the system's, such as a pid, and no time that can be written."""
_QUOTED = 40
"""Characters of a wrong value that are quoted at most."""

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def wrong_field(kind: type, document: Mapping[str, Any]) -> str:
    """Describe the first value of an object that has not the type that a dataclass declares.

    Args:
        kind: the dataclass. Its fields may be of the types of JSON, of lists of them, of literals, and of unions of
            these; a field of another class is left to that class.
        document: the object; absent fields and unknown keys are no error.

    Returns:
        A clause such as ``queued_at is "soon" and not a number``; empty where all types are right.
    """
    checks = _checks(kind)
    for name, value in document.items():
        if (check := checks.get(name)) is None:
            continue
        scalars, fits, description = check
        # Without a call where the type alone decides: nearly every value of a list of runs ends here.
        found = type(value)
        if found in scalars and (found not in (int, float) or -_LARGEST < value < _LARGEST):
            continue
        if not fits(value):
            quoted = repr(value)
            quoted = quoted if len(quoted) <= _QUOTED else f"{quoted[:_QUOTED]}…"
            return f"{name} is {quoted} and not {description}"
    return ""


def fits_number(value: object) -> bool:
    """Whether a value from a file can be used as a number: true, NaN and what fits no field of the system's cannot."""
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # type: ignore[operator]


@cache
def _checks(kind: type) -> dict[str, tuple[frozenset[type], Callable[[Any], bool], str]]:
    # Made once: a list of a thousand runs checks thirty fields of each, every second.
    return {
        item.name: (frozenset(_scalars(item.type)), _check(item.type), _describe(item.type)) for item in fields(kind)
    }


def _scalars(kind: Any) -> Iterator[type]:
    """The types without parts, of which each value fits a declared type, or each below `_LARGEST`."""
    if get_origin(kind) is UnionType:
        for one in get_args(kind):
            yield from _scalars(one)
    elif get_origin(kind) is Literal:
        yield str
    elif kind is float:
        yield from (int, float)
    elif kind in (str, bool, int, type(None)):
        yield kind


def _check(kind: Any) -> Callable[[Any], bool]:
    """The test for values of a type."""
    arguments = get_args(kind)
    if get_origin(kind) is UnionType:
        tests = [_check(one) for one in arguments]
        return lambda value: any(test(value) for test in tests)
    if get_origin(kind) is Literal:
        # Any text: another version may have more of them, and what a run holds must be known whatever its status.
        return lambda value: isinstance(value, str)
    if get_origin(kind) is list:
        item = _check(arguments[0])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if get_origin(kind) is dict:
        return lambda value: isinstance(value, dict)
    if kind is type(None):
        return lambda value: value is None
    if kind is float:
        # NaN is neither smaller nor larger.
        return fits_number
    if kind is int:
        return lambda value: type(value) is int and -_LARGEST < value < _LARGEST
    if kind in (str, bool):
        return lambda value: type(value) is kind
    return lambda value: True


def _describe(kind: Any) -> str:
    if get_origin(kind) is UnionType:
        return " or ".join(_describe(one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return _NAMES[str]
    if get_origin(kind) is list:
        return "a list"
    return "null" if kind is type(None) else _NAMES.get(get_origin(kind) or kind, "an object")
