"""What the names of a table's columns must be, whatever kind of file it is."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dpo_tui.errors import DataError


def require_different_names(names: Iterable[str], path: Path) -> None:
    """Refuse a table with two columns of one name: a record would have the values of the last one.

    Args:
        names: of the columns; several may be empty.
        path: the file.

    Raises:
        DataError: a name occurs twice.
    """
    twice = sorted((name, count) for name, count in Counter(names).items() if count > 1 and name)
    if twice:
        name, count = twice[0]
        message = f"{path} has {count} columns called {name}"
        raise DataError(message, hint="Rename or remove all but one: nobody can tell which is meant.")
