"""What the files of a tokenizer and its model say of special tokens, without transformers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dpo_tui.errors import ConfigError, DataError
from dpo_tui.text.whole_file import MOST_OF_A_MODEL, read_whole

if TYPE_CHECKING:  # `inspect` starts without pydantic
    from dpo_tui.config.schema import Config

Result = TypeVar("Result")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Classes without special tokens of their own: what their files do not name is not there.
_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """The settings of a run that change what its chat template writes.

    Args:
        file: a template to use instead of the model's own; None for that one.
        defaults: ``chat_template_kwargs``.
        eos_token: the end-of-text token, if not the tokenizer's.
    """

    file: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    eos_token: str | None = None

    @classmethod
    def of(cls, config: "Config") -> "TemplateSettings":
        """Return those of a config."""
        return cls(config.chat_template, config.chat_template_kwargs, config.eos_token)


def _or_refuse(read: Callable[["TokenizerSettings"], Result]) -> Callable[["TokenizerSettings"], Result]:
    """Have a reader of a tokenizer's files name them where they hold something else than the libraries write."""

    @wraps(read)
    def checked(settings: "TokenizerSettings") -> Result:
        try:
            return read(settings)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                f"{settings.folder}: the tokenizer's files are damaged: {type(error).__name__}: {error}",
                hint="Download the model's tokenizer again.",
            ) from error

    return checked


class TokenizerSettings:
    """The settings of a tokenizer in a model's folder; the vocabulary is read when it is asked for.

    Args:
        folder: of the model.
        settings: of the run.
    """

    def __init__(self, folder: Path, settings: TemplateSettings | None = None) -> None:
        self.folder = folder
        self._eos_token = settings.eos_token if settings else None
        self._config = read_object(folder / "tokenizer_config.json")

    @cached_property
    @_or_refuse
    def special_tokens(self) -> dict[str, str]:
        """The special tokens by name, from tokenizer_config.json and the older special_tokens_map.json."""
        named: dict[str, str] = {}
        for settings in (read_object(self.folder / "special_tokens_map.json"), self._config):
            for name in _SPECIAL:
                value = settings.get(name)
                value = value.get("content") if isinstance(value, dict) else value
                if isinstance(value, str):
                    named[name] = value
        return named | ({"eos_token": self._eos_token} if self._eos_token else {})

    @property
    def lacks_padding(self) -> bool:
        """Whether the tokenizer has neither a padding token nor an end-of-text token to pad with."""
        return self._lacks({"pad_token", "eos_token"})

    @property
    def lacks_end(self) -> bool:
        """Whether the tokenizer has no end-of-text token."""
        return self._lacks({"eos_token"})

    def _lacks(self, needed: set[str]) -> bool:
        if self.special_tokens.keys() & needed:
            return False
        # Other classes have defaults for what their files leave out, and none for what these set to null.
        return self._config.get("tokenizer_class") in _PLAIN_CLASSES or needed <= self._config.keys()

    @cached_property
    @_or_refuse
    def added_tokens(self) -> dict[int, str]:
        """The tokens that text is split at before anything else, by id, special ones first."""
        entries = self._config.get("added_tokens_decoder")
        if isinstance(entries, dict) and entries:
            known = [(int(number), entry) for number, entry in entries.items() if isinstance(entry, dict)]
        else:
            known = [(_number(entry["id"]), entry) for entry in self._tokenizer.get("added_tokens") or ()]
        known.sort(key=lambda item: not item[1].get("special"))
        return {number: _text(entry["content"]) for number, entry in known}

    @cached_property
    @_or_refuse
    def stop_tokens(self) -> tuple[str, ...]:
        """The texts of the tokens that end generation by the model's own settings; empty where they name none."""
        found = read_object(self.folder / "generation_config.json").get("eos_token_id")
        if found is None:
            model = read_object(self.folder / "config.json")
            text = model.get("text_config")
            found = model.get("eos_token_id", text.get("eos_token_id") if isinstance(text, dict) else None)
        numbers = found if isinstance(found, list) else [] if found is None else [found]
        return tuple(text for number in numbers if (text := self._text_of(number)) is not None)

    def has_token(self, text: str) -> bool:
        """Whether a text is one token of the vocabulary; True where there is no vocabulary to look into."""
        return text in self.added_tokens.values() or not self._tokenizer or text in self._vocabulary

    def id_of(self, text: str | None) -> int | None:
        """Return the id of a token; None where there is no such token."""
        added = next((number for number, one in self.added_tokens.items() if one == text), None)
        return added if added is not None or text is None else self._vocabulary.get(text)

    def _text_of(self, number: int) -> str | None:
        if number in self.added_tokens:
            return self.added_tokens[number]
        return next((text for text, other in self._vocabulary.items() if other == number), None)

    @cached_property
    @_or_refuse
    def _vocabulary(self) -> dict[str, int]:
        vocabulary = (self._tokenizer.get("model") or {}).get("vocab")
        if isinstance(vocabulary, dict):
            return {text: _number(number) for text, number in vocabulary.items()}
        if isinstance(vocabulary, list):  # of a unigram model: pairs of text and score
            return {_text(entry[0]): number for number, entry in enumerate(vocabulary)}
        return {}

    @cached_property
    def _tokenizer(self) -> dict[str, Any]:
        return read_object(self.folder / "tokenizer.json")


def require_special_tokens(tokenizer: TokenizerSettings, config: "Config", *, ends_text: bool = False) -> None:
    """Refuse a tokenizer with which training cannot start.

    Args:
        tokenizer: of the model.
        config: of the run.
        ends_text: whether rows are plain text, which TRL ends with the end-of-text token.

    Raises:
        ConfigError: ``eos_token`` or ``[trl] pad_token`` is not a token, or there is nothing to pad batches or to end
            texts with.
    """
    for name, token in chosen_tokens(config).items():
        if not tokenizer.has_token(token):
            raise unknown_token(config, name, token, tokenizer.added_tokens.values())
    if tokenizer.lacks_padding:
        raise no_padding_token(config, tokenizer.added_tokens.values())
    if ends_text and tokenizer.lacks_end:
        raise ConfigError(
            f"the tokenizer of {config.model_name} has no end-of-text token to end plain text with",
            hint=f'Name one: eos_token = "…". Its special tokens are: {_some(tokenizer.added_tokens.values())}',
        )


def chosen_tokens(config: "Config") -> dict[str, str]:
    """The tokens that a config chooses in the place of the tokenizer's, by the name of the setting."""
    chosen = {"eos_token": config.eos_token, "[trl] pad_token": config.trl.get("pad_token")}
    return {name: str(token) for name, token in chosen.items() if token}


def unknown_token(config: "Config", name: str, token: str, known: Any) -> ConfigError:
    """The error for a chosen token that is no token of the model; ``known`` are some that are."""
    return ConfigError(
        f"{name} = {token!r}: is no token of {config.model_name}",
        hint=f"Its special tokens are: {_some(known)}",
    )


def no_padding_token(config: "Config", known: Any) -> ConfigError:
    """The error for a tokenizer that has neither a padding nor an end-of-text token."""
    return ConfigError(
        f"the tokenizer of {config.model_name} has no padding token, and no end-of-text token to use as one",
        hint=f'Name the token that ends an answer: eos_token = "…". Its special tokens are: {_some(known)}',
    )


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is no such file, or it holds something else.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        loaded = json.loads(read_whole(path, MOST_OF_A_MODEL))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="Download the model's tokenizer again.") from error
    return loaded if isinstance(loaded, dict) else {}


def _number(value: Any) -> int:
    """Return the id of a token; what is no number would be compared with ids, or written as one, later."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a token's id is of the type {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    """Return the text of a token."""
    if not isinstance(value, str):
        raise TypeError(f"a token's text is of the type {type(value).__name__}")
    return value


def _some(tokens: Any) -> str:
    shown = list(tokens)[:12]
    return ", ".join(shown) + (", …" if len(tokens) > len(shown) else "") if shown else "none"
