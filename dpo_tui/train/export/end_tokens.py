"""Tokens at which generation ends, in the generation_config.json of an export.

The answers were trained with the end that the chat template writes and with the tokenizer's end-of-text token; a base
model's own settings may name neither. transformers and vLLM read the settings of the *base* of an adapter: the file
beside an adapter has to be named to them (``GenerationConfig.from_pretrained``, ``vllm serve --generation-config``).
"""

from pathlib import Path
from typing import Any

from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.template_probes import closing
from dpo_tui.data.tokens.tokenizer_settings import TokenizerSettings
from dpo_tui.errors import DataError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic

GENERATION_CONFIG = "generation_config.json"
_CONVERSATION = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is."}]


def add_end_tokens(target: Path, base: Path) -> bool:
    """Write the generation settings of a base into an export, with the ends that the answers were trained with.

    Args:
        target: the export, with its tokenizer.
        base: a folder with the generation_config.json, or else the config.json, of the model; may be the same.

    Returns:
        Whether that names a token that the base's settings do not; where it is False nothing was written.
    """
    generation = read_json(base / GENERATION_CONFIG)
    if generation is None:
        model = read_json(base / "config.json")
        if model is None:
            return False  # nothing to compare with
        inner = model.get("text_config") or {}
        generation = {"eos_token_id": model.get("eos_token_id", inner.get("eos_token_id"))}
    named = generation.get("eos_token_id")
    numbers = named if isinstance(named, list) else [] if named is None else [named]
    missing = [number for number in end_tokens(target) if number not in numbers]
    if missing:
        write_json_atomic(target / GENERATION_CONFIG, {**generation, "eos_token_id": [*missing, *numbers]})
    return bool(missing)


def end_tokens(folder: Path) -> list[int]:
    """The ids of the tokenizer's end-of-text token and of the first token that the template writes after an answer."""
    tokenizer = TokenizerSettings(folder)
    found: dict[int, Any] = {}
    try:
        template, is_own = load_template(folder)
    except DataError:
        is_own = False
    ending = closing(template, _CONVERSATION, None) if is_own else None
    if ending:
        places = {ending.find(text): number for number, text in tokenizer.added_tokens.items() if text in ending}
        found |= {places[min(places)]: None} if places else {}
    number = tokenizer.id_of(tokenizer.special_tokens.get("eos_token"))
    return list(found | ({number: None} if number is not None else {}))
