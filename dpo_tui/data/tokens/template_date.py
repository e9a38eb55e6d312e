"""Chat templates that write the date: what of it their text depends on."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from dpo_tui.data.tokens.chat_template import parse_template


def clock_texts(sources: Iterable[str], now: Callable[[], datetime] = datetime.now) -> list[str] | None:
    """Return the dates and times that templates may write now; two renderings with equal ones are equal.

    Args:
        sources: the jinja texts.
        now: the clock.

    Returns:
        One text for each form in which a template asks for the time; empty where none does. None where a template may
        write something that is not known beforehand: the time in a form that it computes, or random text.
    """
    found: list[str] = []
    for source in sources:
        forms = _forms(source)
        if forms is None:
            return None
        try:
            found += [now().strftime(form) for form in forms]
        except (ValueError, OverflowError):  # a form that the system does not take: the template raises an error
            return None
    return found


def _forms(source: str) -> list[str] | None:
    import jinja2
    import jinja2.nodes

    try:
        tree = parse_template(source)
    except (jinja2.TemplateError, RecursionError):
        return None
    names = [node.name for node in tree.find_all(jinja2.nodes.Name) if node.ctx == "load"]
    calls = [call for call in tree.find_all(jinja2.nodes.Call) if _is_clock(call.node)]
    # `strftime_now is defined` reads the name and calls nothing.
    tests = [test for test in tree.find_all(jinja2.nodes.Test) if _is_clock(test.node)]
    forms = [call.args[0].value for call in calls if _is_constant_form(call)]
    if "lipsum" in names or len(forms) < len(calls) or names.count("strftime_now") > len(calls) + len(tests):
        return None
    return forms


def _is_clock(node: Any) -> bool:
    return getattr(node, "name", None) == "strftime_now"


def _is_constant_form(call: Any) -> bool:
    import jinja2.nodes

    return len(call.args) == 1 and isinstance(call.args[0], jinja2.nodes.Const) and isinstance(call.args[0].value, str)
