"""Values for variables of a chat template (``chat_template_kwargs``), written into the template as defaults.

As a part of the template they reach everything that renders it: TRL, sampled answers, judging, chat, and whatever loads
the exported tokenizer. A caller that passes a value of its own, as servers let clients do, still has its way.
"""

from collections.abc import Mapping
from typing import Any


def with_defaults(source: str, values: Mapping[str, Any]) -> str:
    """Return a template whose variables have these values wherever no others are passed.

    Args:
        source: the jinja text.
        values: by name; texts, numbers, truth values, lists and tables.
    """
    # Python's notation of these types is jinja's, escapes included. The line break at the end is for `trim_blocks`,
    # with which chat templates are rendered: it removes one, which would be the template's own.
    lines = [f"{{%- set {name} = {name} if {name} is defined else {value!r} %}}\n" for name, value in values.items()]
    added = "".join(lines)
    return source if source.startswith(added) else added + source
