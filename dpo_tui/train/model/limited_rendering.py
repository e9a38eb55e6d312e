"""Limit the time and memory that transformers' rendering of chat templates may take in a process of the torch stack.

The check before a start renders one row of each shape, in a child. A template may still take for ever on another row,
such as a longer one, and the worker, sampled answers and the judge render with transformers.
"""

from functools import wraps
from typing import Any

from transformers import processing_utils, tokenization_utils_base

from dpo_tui.data.tokens.chat_template import MEMORY, SECONDS, TemplateLimitError
from dpo_tui.processes.limits import Limited, LimitError

_NAME = "render_jinja_template"
_BATCH = 100
"""Conversations of one call that may take as much again."""


def limit_rendering() -> None:
    """Have every rendering of a chat template in this process, and in those it forks, end within the limits.

    Where one does not, :class:`TemplateLimitError` is raised in its place. In other threads than the main one nothing
    is limited.
    """
    for module in (tokenization_utils_base, processing_utils):
        render = getattr(module, _NAME)
        if not hasattr(render, "__wrapped__"):
            setattr(module, _NAME, _limited(render))


def _limited(render: Any) -> Any:
    @wraps(render)
    def limited(conversations: Any, *arguments: Any, **options: Any) -> Any:
        parts = 1 + len(conversations) // _BATCH
        try:
            with Limited(parts * SECONDS, parts * MEMORY):
                return render(conversations, *arguments, **options)
        except LimitError as error:
            raise TemplateLimitError("the model", error.limit) from None

    return limited
