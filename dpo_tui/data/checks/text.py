"""Checks of what stands in the texts: leftovers of templates, control characters, other alphabets, the prompt again."""

import re
from collections.abc import Iterable

import numpy as np

from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import pair

# Shorter prompts ("hi") occur in answers by chance.
SHORTEST_PROMPT = 20
# Below this share of bytes beyond the first of each character a text is mostly ASCII letters: accents, dashes, quotes.
FOREIGN_BYTES = 0.2

TEMPLATE_TOKEN = re.compile(
    r"<\|[a-zA-Z_]{2,30}\|>"  # ChatML, Llama 3, Phi, Qwen
    r"|\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|<(?:start_of_turn|end_of_turn|bos|eos|pad|unk)>"  # Gemma
    r"|</?s>(?!\w)"  # SentencePiece; <s> in HTML is struck-out text and is followed by it
    r"|<｜[^｜<>\n]{2,30}｜>"  # DeepSeek
    r"|<\|(?:START|END)_OF_TURN_TOKEN\|>"
)
# What a terminal obeys or nobody sees: C0 but tab, newline and carriage return, DEL, C1, bidirectional overrides.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SCRIPTS = (
    ("Greek", re.compile("[\u0370-\u03ff]")),
    ("Cyrillic", re.compile("[\u0400-\u052f]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Arabic", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("Indic", re.compile("[\u0900-\u0dff]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
    ("Korean", re.compile("[\u1100-\u11ff\uac00-\ud7af]")),
    ("Japanese", re.compile("[\u3040-\u30ff]")),
    ("Chinese", re.compile("[\u4e00-\u9fff]")),
)
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_FEWEST_LETTERS = 8


@pair(
    "prompt-in-answer",
    "warning",
    title="an answer repeats the whole prompt",
    explanation="The model learns to echo the question; often the prompt was left in the answer by a script.",
    remedy="Cut the prompt off the answers, or drop the rows.",
)
def prompt_in_answer(batch: PairColumns) -> Iterable[int]:
    """The prompt, if it is at least SHORTEST_PROMPT characters long, stands in an answer word for word."""
    longest = np.maximum(batch.chosen_lengths, batch.rejected_lengths)
    possible = (batch.prompt_lengths >= SHORTEST_PROMPT) & (batch.prompt_lengths <= longest)
    prompts, chosens, rejecteds = batch.prompts, batch.chosens, batch.rejecteds
    for at in np.flatnonzero(possible).tolist():
        beginning = prompts[at][:SHORTEST_PROMPT]  # a short needle is found fast, and is there in few answers
        if (beginning in chosens[at] or beginning in rejecteds[at]) and (
            prompts[at] in chosens[at] or prompts[at] in rejecteds[at]
        ):
            yield at


@pair(
    "template-tokens",
    "warning",
    title="special tokens are typed into the text",
    explanation="The tokenizer takes them for real turns, so another conversation is trained than is meant.",
    remedy="Remove them from the text; the chat template adds its own.",
)
def template_tokens(batch: PairColumns) -> Iterable[int]:
    """Markers of chat templates such as ``<|im_end|>``, ``[INST]`` or ``</s>``."""
    for at in batch.suspected("tokens"):
        if any(("<" in text or "[" in text) and TEMPLATE_TOKEN.search(text) for text in batch.texts(at)):
            yield at


@pair(
    "control-characters",
    "warning",
    title="there are control characters in the text",
    explanation="Escape sequences and invisible characters become tokens; they come from logs or broken copies.",
    remedy="Clean the text, or drop the rows.",
)
def control_characters(batch: PairColumns) -> Iterable[int]:
    """C0 and C1 controls and bidirectional overrides; tab, newline and carriage return are fine."""
    for at in batch.suspected("controls"):
        if any(CONTROL.search(text) for text in batch.texts(at)):
            yield at


@pair(
    "mixed-language",
    "info",
    title="prompt and answers are in different scripts",
    explanation="Unless translation is the task, the model learns to change the language.",
    remedy="Look at them; drop them if the task is not translation.",
)
def mixed_language(batch: PairColumns) -> Iterable[int]:
    """The alphabet most used in one answer differs from that of the other, or from the prompt's.

    Only scripts are told apart: German and English look alike to this check.
    """
    for at in batch.suspected("foreign"):
        texts = batch.texts(at)
        if not any(_is_foreign(text) for text in texts):
            continue
        scripts = {script for script in map(_script, texts) if script}
        if len(scripts) > 1 and scripts != {"Japanese", "Chinese"}:
            yield at


def _is_foreign(text: str) -> bool:
    return not text.isascii() and len(text.encode("utf-8", "replace")) > len(text) * (1 + FOREIGN_BYTES)


def _script(text: str) -> str | None:
    head = text[:4000]
    counts = [(len(pattern.findall(head)), name) for name, pattern in _SCRIPTS] if not head.isascii() else []
    counts.append((len(_LATIN.findall(head)) // 2, "Latin"))  # a Latin word takes more letters than a Chinese one
    count, name = max(counts)
    return name if count >= _FEWEST_LETTERS // 2 else None
