"""What the checks of a chat template can find, each as one sentence with its remedy."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_OTHER_TEMPLATE = "Give a template that writes them: chat_template = FILE"
NO_MESSAGE = "no-message-written"
"""Id of the finding of `no_message`."""
_SHOWN = 60
"""Characters of a rendered text that are quoted."""


@dataclass(frozen=True, slots=True)
class TemplateFinding:
    """One finding.

    Args:
        check: its id.
        severity: ``warning`` for what changes the trained text against the data's sense, ``info`` for what is good to
            know.
        title: in a few words.
        message: what was found, with numbers of the sample.
        remedy: what to do; empty where nothing has to be done.
        count: conversations of the sample that it concerns.
    """

    check: str
    severity: Literal["warning", "info"]
    title: str
    message: str
    remedy: str
    count: int

    @property
    def sentence(self) -> str:
        """Message and remedy in one."""
        return f"chat template: {self.message}. {self.remedy}".rstrip()


def no_end_token(count: int, of: int, ending: str, eos: str | None) -> TemplateFinding:
    """No token ends the answers, so the model does not learn to stop."""
    which = "no answer of the data" if count == of else f"{count:,} of {of:,} sampled answers do not"
    ends = "ends" if count == of else "end"
    after = f"after its text the template writes {quoted(ending)}" if ending else "the template writes nothing after it"
    write = "{{ eos_token }}" if eos else "the token that ends generation"
    return TemplateFinding(
        "no-end-token",
        "warning",
        "no end-of-text token after answers",
        f"{which} {ends} with an end-of-text token ({after}): the model does not learn to stop",
        f"Give a template that writes {write} after every answer: chat_template = FILE",
        count,
    )


def other_end_token(count: int, of: int, token: str, eos: str | None, stop: Sequence[str]) -> TemplateFinding:
    """The answers end with a token at which generation does not stop."""
    names = list(dict.fromkeys([*([eos] if eos else []), *stop]))
    ends = f"generation ends at {', '.join(names)}" if names else "the tokenizer has no end-of-text token"
    return TemplateFinding(
        "other-end-token",
        "warning",
        "generation does not stop where answers end",
        f"{_of(count, of, 'sampled answers')} end with {token}, but {ends}: answers will run on",
        f'Set eos_token = "{token}"; it reaches training, chat and the export',
        count,
    )


def eos_only_of_tokenizer(count: int, eos: str, stop: Sequence[str]) -> TemplateFinding:
    """The token that ends the answers is the tokenizer's, and not in the model's generation settings."""
    return TemplateFinding(
        "end-token-of-tokenizer",
        "info",
        "the model's own settings lack the end token",
        f"answers end with {eos}, as the tokenizer has it; the base model's generation settings name "
        f"{', '.join(stop)} instead",
        "Chat and a merged export stop at both; whoever generates with the bare adapter must name it as eos_token_id",
        count,
    )


def untrained_generation_prompt(count: int, of: int, missing: str, remedy: str | None) -> TemplateFinding:
    """What begins an answer at generation is not in the trained text."""
    return TemplateFinding(
        "generation-prompt",
        "warning",
        "the generation prompt is not what is trained",
        f"the generation prompt ends with {quoted(missing)}, which the trained text of "
        f"{_of(count, of, 'sampled conversations')} does not have there: generation begins where training never was",
        f"Set {remedy}" if remedy else "Give a template that begins trained answers the same way: chat_template = FILE",
        count,
    )


def rewritten_prompt(count: int, of: int, missing: str, remedy: str | None) -> TemplateFinding:
    """The template writes a prompt otherwise once an answer follows it."""
    return TemplateFinding(
        "prompt-rewritten",
        "warning",
        "the prompt changes when an answer follows",
        f"in {_of(count, of, 'sampled conversations')} the template writes the prompt otherwise once an answer "
        f"follows, from {quoted(missing)} on: that part of the prompt is trained as answer, and differs at generation",
        f"Set {remedy}" if remedy else "Give a template that writes both alike: chat_template = FILE",
        count,
    )


def no_message(of: int) -> TemplateFinding:
    """The template renders the text of no message, as a file that is no template does."""
    return TemplateFinding(
        NO_MESSAGE,
        "warning",
        "the template writes none of the messages",
        f"the template writes none of the messages ({of:,} of the sample tried): no prompt and no answer is trained",
        _OTHER_TEMPLATE,
        of,
    )


def content_left_out(count: int, of: int, whose: str) -> TemplateFinding:
    """The text of some messages is not rendered."""
    return TemplateFinding(
        "content-dropped",
        "warning",
        f"{whose}: text left out"[:47],
        f"the template leaves out the text of {whose} ({_of(count, of, 'sampled conversations that have them')})",
        _OTHER_TEMPLATE,
        count,
    )


def reasoning_left_out(count: int, of: int) -> TemplateFinding:
    """The template takes a part out of the answers, such as what stands before ``</think>``."""
    return TemplateFinding(
        "answer-changed",
        "warning",
        "the template takes a part out of answers",
        f"the template takes a part out of {_of(count, of, 'sampled answers')}, which is not trained, such as what "
        "stands before </think>",
        _OTHER_TEMPLATE.replace("them", "whole answers"),
        count,
    )


def calls_left_out(count: int, of: int, empty: int) -> TemplateFinding:
    """``tool_calls`` are not rendered."""
    rest = f"; {empty:,} of them are trained as empty answers" if empty else ""
    return TemplateFinding(
        "tool-calls-ignored",
        "warning",
        "the template ignores tool_calls",
        f"the template ignores tool_calls ({_of(count, of, 'sampled messages with calls')}){rest}",
        _OTHER_TEMPLATE,
        count,
    )


def tools_left_out(count: int, of: int) -> TemplateFinding:
    """The schemas of tools are not rendered."""
    return TemplateFinding(
        "tools-ignored",
        "warning",
        "the template ignores tools",
        f"the template ignores the schemas in tools ({_of(count, of, 'sampled conversations that have them')})",
        _OTHER_TEMPLATE,
        count,
    )


def empty_answers(count: int, of: int) -> TemplateFinding:
    """Nothing but the end of the turn is trained of an answer."""
    return TemplateFinding(
        "empty-when-rendered",
        "warning",
        "answers come out empty",
        f"nothing of {_of(count, of, 'sampled answers')} comes through the template: their end alone is trained",
        _OTHER_TEMPLATE,
        count,
    )


def alike_answers(count: int, of: int) -> TemplateFinding:
    """Both answers of a pair come out as the same text."""
    return TemplateFinding(
        "alike-when-rendered",
        "warning",
        "both answers come out alike",
        f"both answers of {_of(count, of, 'sampled pairs')} come out as the same text: nothing is learned from them",
        _OTHER_TEMPLATE.replace("them", "what differs"),
        count,
    )


def date_in_text(count: int, of: int, remedy: str | None) -> TemplateFinding:
    """The date of the day is a part of the text."""
    return TemplateFinding(
        "template-date",
        "info",
        "the date is part of the trained text",
        f"the template writes today's date into {_of(count, of, 'sampled conversations')}: it is part of what is "
        "trained, and another day's run trains on another text",
        f"To fix it, set {remedy}" if remedy else "",
        count,
    )


def unused_variable(name: str, variables: Sequence[str]) -> TemplateFinding:
    """``chat_template_kwargs`` sets a variable that the template does not have."""
    known = f"It has: {', '.join(variables)}" if variables else "It has none"
    return TemplateFinding(
        "template-variable",
        "warning",
        "chat_template_kwargs: no such variable",
        f"chat_template_kwargs sets {name}, which the template does not use",
        known,
        0,
    )


def not_checked(why: str) -> TemplateFinding:
    """Nothing could be rendered."""
    return TemplateFinding("template-not-checked", "info", "the chat template is not checked", why, "", 0)


def quoted(text: str) -> str:
    """Return the beginning of a text with its line breaks as escapes."""
    shown = json.dumps(text[:_SHOWN], ensure_ascii=False)
    return f"{shown[:-1]}…{shown[-1]}" if len(text) > _SHOWN else shown


def _of(count: int, of: int, what: str) -> str:
    return f"all {of:,} {what}" if count == of else f"{count:,} of {of:,} {what}"
