"""A chat template whose renderings are limited in time, memory and size, for processes that only render.

Commands and the app render in a child instead (:mod:`dpo_tui.data.tokens.template_process`): limits hold in the main
thread alone, and what never comes back to the interpreter ends the process.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.tokens.chat_template import (
    MEMORY,
    MOST_CHARACTERS,
    SECONDS,
    ChatTemplate,
    Conversation,
    TemplateLimitError,
)
from dpo_tui.processes.limits import Limited, LimitError


class LimitedTemplate(ChatTemplate):
    """A template of ``place``, compiled and rendered here within the limits; see :class:`ChatTemplate`.

    Raises:
        TemplateLimitError: it takes too much to be compiled: constants are computed then.
    """

    def __init__(
        self,
        source: str,
        special_tokens: dict[str, str],
        place: str,
        *,
        for_tools: str | None = None,
        clock: Callable[[], datetime] = datetime.now,
        seconds: float = SECONDS,
    ) -> None:
        self._place = place
        self._seconds = seconds
        super().__init__(source, special_tokens, for_tools=for_tools, clock=clock)

    def _compile(self, clock: Callable[[], datetime]) -> None:
        with self._limits():
            super()._compile(clock)

    @property
    def variables(self) -> frozenset[str]:
        """Names that the template looks up and nobody has to pass; to find them, constants are computed too."""
        with self._limits():
            return super().variables

    def render(
        self, messages: list[Message], *, tools: list[dict[str, Any]] | None = None, add_generation_prompt: bool = False
    ) -> str:
        """Render a conversation.

        Raises:
            TemplateLimitError: that takes too much time or memory, or the text is too long.
        """
        return self.render_all([(messages, tools, add_generation_prompt)])[0]

    def render_all(self, conversations: Sequence[Conversation]) -> list[str]:
        """Render a few conversations within the limits of one, since setting limits takes as long as rendering."""
        with self._limits():
            texts = [
                super(LimitedTemplate, self).render(one, tools=tools, add_generation_prompt=begun)
                for one, tools, begun in conversations
            ]
        for text, conversation in zip(texts, conversations, strict=True):
            # The length of a conversation is asked for where it matters.
            if len(text) > MOST_CHARACTERS and len(text) > MOST_CHARACTERS + 8 * len(repr(conversation)):
                raise TemplateLimitError(self._place, "size")
        return texts

    @contextmanager
    def _limits(self) -> Iterator[None]:
        try:
            with Limited(self._seconds, MEMORY):
                yield
        except LimitError as error:
            raise TemplateLimitError(self._place, error.limit) from None
