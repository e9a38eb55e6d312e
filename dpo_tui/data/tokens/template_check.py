"""Check on real rows that a chat template trains what the data says and what generation will need.

Everything here renders text and compares it, without transformers and without tokenizing. The check before a start, the
worker and the scan of a dataset all call :func:`check_rows` or :func:`check_config`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.pairs.labelled_answer import LabelledAnswer
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.tokens import template_findings as findings
from dpo_tui.data.tokens.chat_template import ChatTemplate, TemplateLimitError, render_or_none
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.template_content import content_findings
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.data.tokens.template_probes import TrainedText, closing, sample_of
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings, TokenizerSettings
from dpo_tui.errors import DataError
from dpo_tui.hub.tokenizer_files import tokenizer_folder

if TYPE_CHECKING:  # the child of a scan has no config, and would wait for pydantic longer than for a small file
    from dpo_tui.config.schema import Config

# Two times that differ in every part that a template may write.
_TIMES = (datetime(2001, 2, 3, 4, 5, 6), datetime(2022, 11, 18, 17, 38, 49))
_MOST_VARIABLES = 12
"""Variables of a template that are tried as a remedy."""
_A_DATE = "26 Jul 2024"
_TOKEN_LIKE = re.compile(r"<[^<>\s]+>")
"""How special tokens are written, where no file lists them."""


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A conversation as the template writes it: the prompt for generation, and the whole with each answer."""

    source: TrainedText
    prompt: str
    whole: tuple[str, ...]

    @property
    def shared(self) -> int:
        """Characters of the prompt that all have in common; what follows is trained as the answer."""
        return _common_length([self.prompt, *self.whole])


def check_config(
    config: "Config", rows: Sequence[Pair | Demonstration | LabelledAnswer], *, download: bool = False
) -> list[TemplateFinding]:
    """Check the template of a config's model on rows that are trained on; see :func:`check_rows`.

    Args:
        config: names the model and the settings of its template.
        rows: to take a sample of.
        download: whether the tokenizer's files may be downloaded.

    Raises:
        TemplateLimitError: the template takes too much time or memory.
    """
    try:
        folder = tokenizer_folder(config.model_name, config.model_revision, download=download)
        return check_rows(folder, rows, TemplateSettings.of(config))
    except TemplateLimitError:
        raise
    except DataError as error:
        return [findings.not_checked(f"it is not checked before training begins: {error.message}")]


def check_rows(
    folder: Path, rows: Sequence[Pair | Demonstration | LabelledAnswer], settings: TemplateSettings | None = None
) -> list[TemplateFinding]:
    """Render a sample of rows with the template of a model folder, and return what is wrong with the text.

    Args:
        folder: of the model.
        rows: that are trained on.
        settings: of the run.

    Raises:
        DataError: the tokenizer's files or the template cannot be read.
    """
    settings = settings or TemplateSettings()
    plain = load_template(folder, replace(settings, defaults={}))[0]
    tokenizer = TokenizerSettings(folder, settings)
    check = _Check(plain, settings, tokenizer)
    unused = [
        findings.unused_variable(name, sorted(plain.variables))
        for name in settings.defaults
        if name not in plain.variables
    ]
    return [*unused, *check.run(sample_of(rows))]


class _Check:
    """The checks of one template."""

    def __init__(self, plain: ChatTemplate, settings: TemplateSettings, tokenizer: TokenizerSettings) -> None:
        self._plain = plain
        self._defaults = dict(settings.defaults)
        self._template = plain.with_defaults(self._defaults)
        self._tokenizer = tokenizer

    def run(self, sample: list[TrainedText]) -> list[TemplateFinding]:
        if not sample:
            return []
        rendered = [one for text in sample if (one := _rendered(self._template, text)) is not None]
        if not rendered:
            return [findings.not_checked("it is not checked: it refuses every sampled conversation")]
        return [
            *self._end_tokens(rendered),
            *self._generation_prompt(rendered),
            *content_findings(self._template, [(one.source, one.shared, one.whole) for one in rendered]),
            *self._date(rendered),
        ]

    def _end_tokens(self, rendered: list[RenderedText]) -> list[TemplateFinding]:
        eos, stop = self._tokenizer.special_tokens.get("eos_token"), self._tokenizer.stop_tokens
        ends = [token for token in (eos, *stop) if token]
        others: Counter[str] = Counter()
        without: list[str] = []
        answers = by_tokenizer_only = 0
        for one in rendered:
            for answer, whole in zip(one.source.answers, one.whole, strict=True):
                ending = closing(self._template, [*one.source.prompt, *answer], one.source.tools)
                # An end that the data itself has counts too.
                found = [token for token in ends if whole.rstrip().endswith(token) or (ending and token in ending)]
                if ending is None and not found:
                    continue
                answers += 1
                if found:
                    by_tokenizer_only += bool(stop) and found == [eos]
                    continue
                token = next((token for token in self._added_tokens_in(ending or "")), None)
                if token is None:
                    without.append(ending or "")
                else:
                    others[token] += 1
        result = []
        if without:
            result.append(findings.no_end_token(len(without), answers, Counter(without).most_common(1)[0][0], eos))
        result += [findings.other_end_token(n, answers, token, eos, stop) for token, n in others.most_common(1)]
        if eos and by_tokenizer_only and eos not in stop and not result:
            result.append(findings.eos_only_of_tokenizer(by_tokenizer_only, eos, stop))
        return result

    def _added_tokens_in(self, text: str) -> list[str]:
        """The tokens of the tokenizer's own in a text, in their order there."""
        if not self._tokenizer.added_tokens:
            return _TOKEN_LIKE.findall(text)  # no file says which they are
        places = ((text.find(token), token) for token in self._tokenizer.added_tokens.values() if token.strip())
        return [token for place, token in sorted(places, key=lambda one: (one[0], -len(one[1]))) if place >= 0]

    def _generation_prompt(self, rendered: list[RenderedText]) -> list[TemplateFinding]:
        begun: list[RenderedText] = []
        rewritten: list[RenderedText] = []
        for one in rendered:
            missing = one.prompt[one.shared :]
            if missing:
                bare = render_or_none(self._template, one.source.prompt, one.source.tools)
                is_suffix = bare is not None and one.prompt.startswith(bare) and one.shared >= len(bare)
                (begun if is_suffix else rewritten).append(one)
        return [
            *self._prompt_finding(begun, len(rendered), findings.untrained_generation_prompt),
            *self._prompt_finding(rewritten, len(rendered), findings.rewritten_prompt),
        ]

    def _prompt_finding(
        self, found: list[RenderedText], of: int, make: Callable[[int, int, str, str | None], TemplateFinding]
    ) -> list[TemplateFinding]:
        if not found:
            return []
        first = found[0]
        remedy = self._remedy((False, True), lambda template: _trains_prompt(template, first))
        return [make(len(found), of, first.prompt[first.shared :], remedy)]

    def _date(self, rendered: list[RenderedText]) -> list[TemplateFinding]:
        dated = [one for one in rendered if _depends_on_time(self._template, one.source)]
        if not dated:
            return []
        remedy = self._remedy((_A_DATE,), lambda template: not _depends_on_time(template, dated[0].source))
        return [findings.date_in_text(len(dated), len(rendered), remedy)]

    def _remedy(self, values: Sequence[Any], cures: Callable[[ChatTemplate], bool]) -> str | None:
        """A value of one of the template's own variables that cures what was found, as a line of a config."""
        for name in sorted(self._plain.variables - self._defaults.keys())[:_MOST_VARIABLES]:
            for value in values:
                if cures(self._plain.with_defaults({**self._defaults, name: value})):
                    shown = {False: "false", True: "true"}.get(value, f'"{value}"')
                    return f"chat_template_kwargs = {{ {name} = {shown} }}"
        return None


def _rendered(template: ChatTemplate, text: TrainedText) -> RenderedText | None:
    prompt = render_or_none(template, text.prompt, text.tools, add_generation_prompt=True)
    whole = [render_or_none(template, [*text.prompt, *answer], text.tools) for answer in text.answers]
    if prompt is None and not text.prompt:
        prompt = ""  # a conversation of one message, which has no prompt
    complete = [one for one in whole if one is not None]
    if prompt is None or len(complete) < len(whole):
        return None
    return RenderedText(text, prompt, tuple(complete))


def _common_length(rendered: Sequence[str]) -> int:
    """Characters that all texts begin with: those of the first and the last in their order, which differ most."""
    first, last = min(rendered), max(rendered)
    differs = (index for index, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(differs, len(first))


def _trains_prompt(template: ChatTemplate, before: RenderedText) -> bool:
    """Whether a changed template has the whole generation prompt in the trained text, and loses nothing else of it."""
    now = _rendered(template, before.source)
    return (
        now is not None
        and now.shared == len(now.prompt)
        and all(one[now.shared :].strip() for one in now.whole)
        and not _loses_more(template, now, before)
    )


def _loses_more(template: ChatTemplate, now: RenderedText, before: RenderedText) -> bool:
    found = content_findings(template, [(now.source, now.shared, now.whole)])
    return bool(found) and len(now.whole[0]) < len(before.whole[0])


def _depends_on_time(template: ChatTemplate, text: TrainedText) -> bool:
    if not any("strftime_now" in source for source in template.sources):
        return False
    one, other = (_rendered(template.at(time), text) for time in _TIMES)
    return one is not None and other is not None and (one.prompt, one.whole) != (other.prompt, other.whole)
