"""Check of the tokenizer: its files, a default chat template, and an embedding for every token that a run will meet."""

from collections.abc import Iterator
from typing import Any

from dpo_tui.config.schema import Config
from dpo_tui.start.model_checks.input_embeddings import input_embeddings
from dpo_tui.start.model_checks.model_folder import ModelFolder

_VOCABULARIES = ("tokenizer.json", "*.model", "vocab*", "merges.txt", "*.tiktoken", "tekken.json", "tokenizer.*")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def check_tokenizer(folder: ModelFolder, config: Config) -> list[str]:
    """Check the tokenizer's files.

    Returns:
        What may go wrong, in sentences.

    Raises:
        ConfigError: there is no tokenizer, a file is damaged, there are only named chat templates, or tokens that every
            conversation has lie outside the embedding.
    """
    settings = folder.read_object("tokenizer_config.json") or {}
    tokenizer = folder.read_object("tokenizer.json")
    if tokenizer is None and not any(_vocabulary_files(folder)):
        raise folder.error(
            "the folder has no tokenizer (tokenizer.json)",
            "copy the tokenizer's files of the model into the folder: tokenizer.json and tokenizer_config.json",
        )
    template = _chat_template(folder, settings, config)
    return _tokens_without_embedding(folder, tokenizer or {}, settings, template)


def _vocabulary_files(folder: ModelFolder) -> Iterator[str]:
    for pattern in _VOCABULARIES:
        yield from (path.name for path in folder.path.glob(pattern))


def _chat_template(folder: ModelFolder, settings: dict[str, Any], config: Config) -> str:
    """Return the text of the chat template that a run uses; empty where there is none.

    Raises:
        ConfigError: there are several with names, and no default.
    """
    if config.chat_template:
        return ""
    file = folder.path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    template = settings.get("chat_template")
    named: dict[str, Any] = {}
    if isinstance(template, list):
        named = {str(one.get("name")): one.get("template") for one in template if isinstance(one, dict)}
    elif isinstance(template, str):
        named = {"default": template}
    named |= {path.stem: "" for path in folder.path.glob("additional_chat_templates/*.jinja") if template is None}
    if named and "default" not in named:
        raise folder.error(
            f"the tokenizer has chat templates named {', '.join(sorted(named))}, and none is the default",
            'choose one: write its text into a file, and set chat_template = "FILE.jinja"',
        )
    return str(named.get("default") or "")


def _tokens_without_embedding(
    folder: ModelFolder, tokenizer: dict[str, Any], settings: dict[str, Any], template: str
) -> list[str]:
    """Compare token ids with the rows of the embedding in the files, which may have more rows than the vocabulary."""
    rows = max((shape[0] for shape in input_embeddings(folder)), default=0)
    ids = token_ids(tokenizer)
    outside = {token: number for token, number in ids.items() if number >= rows}
    if not rows or not outside:
        return []
    first = min(outside, key=lambda token: outside[token])
    what = f"the embedding has {rows:,} rows, and the tokenizer gives {first!r} the id {outside[first]:,}" + (
        f" and {len(outside) - 1:,} more tokens ids beyond it" if len(outside) > 1 else ""
    )
    specials = {_content(settings.get(name)) for name in _SPECIAL}
    ordinary = outside.keys() - added_tokens(tokenizer).keys()
    used = sorted(token for token in outside if token in specials or (len(token) > 1 and token in template))
    if ordinary or used:
        raise folder.error(
            f"{what}: {(used or sorted(ordinary))[0]!r} is in what will be trained, and has no weights",
            "use the tokenizer that belongs to the model, or add rows to it once: "
            "model.resize_token_embeddings(len(tokenizer)), then save_pretrained of both",
        )
    # Gemma 3 1B has the image token of its larger sisters, and no row for it.
    return [f"{what[0].upper()}{what[1:]}: a text that has it ends the run"]


def token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Return the id of every token in a ``tokenizer.json``; those without a usable one are left out."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    found: dict[str, Any] = {}
    if isinstance(vocabulary, dict):
        found = vocabulary
    elif isinstance(vocabulary, list):  # Unigram: pairs of a token and its score, in the order of the ids
        found = {str(entry[0]): number for number, entry in enumerate(vocabulary) if isinstance(entry, list) and entry}
    return {token: number for token, number in (found | added_tokens(tokenizer)).items() if isinstance(number, int)}


def added_tokens(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return the id of every token that was added to the vocabulary in a ``tokenizer.json``."""
    added = tokenizer.get("added_tokens")
    entries = added if isinstance(added, list) else []
    return {str(one.get("content")): one.get("id") for one in entries if isinstance(one, dict)}


def _content(value: Any) -> str:
    return str(value.get("content")) if isinstance(value, dict) else str(value)
