"""Checks of what a pair contains: echoed prompts, template tokens, control characters, scripts, the order of roles."""

import re
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from dpo_tui.data.checks.pair_columns import PairColumns
from dpo_tui.data.checks.registry import pair_check
from dpo_tui.data.pairs.pair import Message, Turns

# Characters. Shorter prompts ("hi") occur in answers by chance.
SHORTEST_PROMPT = 20
# UTF-8 continuation bytes for each character, below which a text is Latin with some accents, dashes and quotes.
FOREIGN_BYTES = 0.2

TEMPLATE_TOKEN = re.compile(
    r"<\|[a-zA-Z_]{2,30}\|>"  # ChatML, Llama 3, Phi, Qwen
    r"|\[/?INST\]|<</?SYS>>"  # Llama 2, Mistral
    r"|<(?:start_of_turn|end_of_turn|bos|eos|pad|unk)>"  # Gemma
    r"|</?s>(?!\w)"  # SentencePiece; <s> in HTML is struck-out text and is followed by it
    r"|<｜[^｜<>\n]{2,30}｜>"  # DeepSeek
    r"|<\|(?:START|END)_OF_TURN_TOKEN\|>"
    r"|<extra_id_\d+>"  # Nemotron; HelpSteer 2 has them in its longer prompts
)
# Terminal escapes and invisible characters: C0 but tab, newline and carriage return, DEL, C1, bidirectional overrides.
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
_SAMPLED_CHARACTERS = 4000
_BEFORE_ANSWER = frozenset({"user", "tool"})


@pair_check(
    "prompt-in-answer",
    "warning",
    bit=7,
    title="an answer repeats the whole prompt",
    explanation="The model learns to echo the question; often the prompt was left in the answer by a script.",
    remedy="Cut the prompt off the answers, or drop the rows.",
)
def prompt_in_answer(batch: PairColumns) -> Iterable[int]:
    """An answer contains the whole prompt verbatim, if that is at least SHORTEST_PROMPT characters long."""
    longest = np.maximum(batch.chosen_lengths, batch.rejected_lengths)
    possible = (batch.prompt_lengths >= SHORTEST_PROMPT) & (batch.prompt_lengths <= longest)
    prompts, chosens, rejecteds = batch.prompts, batch.chosens, batch.rejecteds
    for index in np.flatnonzero(possible).tolist():
        beginning = prompts[index][:SHORTEST_PROMPT]  # a short needle is found fast, and is there in few answers
        if (beginning in chosens[index] or beginning in rejecteds[index]) and (
            prompts[index] in chosens[index] or prompts[index] in rejecteds[index]
        ):
            yield index


@pair_check(
    "template-tokens",
    "warning",
    bit=8,
    title="special tokens are typed into the text",
    explanation="The tokenizer takes them for real turns, so another conversation is trained than is meant.",
    remedy="Remove them from the text; the chat template adds its own.",
)
def template_tokens(batch: PairColumns) -> Iterable[int]:
    """Markers of chat templates such as ``<|im_end|>``, ``[INST]`` or ``</s>``."""
    for index in batch.candidates("tokens"):
        if any(("<" in text or "[" in text) and TEMPLATE_TOKEN.search(text) for text in batch.texts_at(index)):
            yield index


@pair_check(
    "control-characters",
    "warning",
    bit=9,
    title="there are control characters in the text",
    explanation="Escape sequences and invisible characters become tokens; they come from logs or broken copies.",
    remedy="Clean the text, or drop the rows.",
)
def control_characters(batch: PairColumns) -> Iterable[int]:
    """C0 and C1 controls and bidirectional overrides; tab, newline and carriage return are fine."""
    for index in batch.candidates("controls"):
        if any(CONTROL.search(text) for text in batch.texts_at(index)):
            yield index


@pair_check(
    "mixed-language",
    "info",
    bit=10,
    title="prompt and answers are in different scripts",
    explanation="Unless translation is the task, the model learns to change the language.",
    remedy="Look at them; drop them if the task is not translation.",
)
def mixed_language(batch: PairColumns) -> Iterable[int]:
    """The script most used in one answer differs from that of the other, or from the prompt's.

    Only scripts are compared: German and English are the same to this check. Japanese mixes its own with Chinese.
    """
    for index in batch.candidates("foreign"):
        texts = batch.texts_at(index)
        if not any(_is_foreign(text) for text in texts):
            continue
        scripts = {script for script in map(_script, texts) if script}
        if len(scripts) > 1 and scripts != {"Japanese", "Chinese"}:
            yield index


def _is_foreign(text: str) -> bool:
    return not text.isascii() and len(text.encode("utf-8", "replace")) > len(text) * (1 + FOREIGN_BYTES)


def _script(text: str) -> str | None:
    head = text[:_SAMPLED_CHARACTERS]
    counts = [(len(pattern.findall(head)), name) for name, pattern in _SCRIPTS] if not head.isascii() else []
    counts.append((len(_LATIN.findall(head)) // 2, "Latin"))  # a Latin word takes more letters than a Chinese one
    count, name = max(counts)
    return name if count >= _FEWEST_LETTERS // 2 else None


@pair_check(
    "role-order",
    "warning",
    bit=11,
    title="the turns are not in order",
    explanation="Many chat templates refuse such conversations; others render them wrongly.",
    remedy="Look at the rows: a prompt ends with the user, an answer begins with the assistant.",
)
def role_order(batch: PairColumns) -> Iterable[int]:
    """A system message that is not first, a role twice in a row, or a prompt that does not end with the user."""
    return [index for index, turns in batch.turns.items() if _is_out_of_order(turns)]


def _is_out_of_order(turns: Turns) -> bool:
    prompt = turns.prompt if isinstance(turns.prompt, list) else [{"role": "user", "content": turns.prompt}]
    if not prompt or prompt[-1]["role"] not in _BEFORE_ANSWER:
        return True
    answers = [answer for answer in (turns.chosen, turns.rejected) if isinstance(answer, list)]
    if any(not answer or answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant" for answer in answers):
        return True
    return any(_repeats_a_role(prompt + answer) for answer in answers or [[]])


def _repeats_a_role(messages: list[Message]) -> bool:
    """Whether a role occurs twice in a row (several tool results may), or a system message after the first turn."""
    roles = [message["role"] for message in messages]
    while roles and roles[0] in {"system", "developer"}:
        roles.pop(0)
    if "system" in roles or "developer" in roles:
        return True
    return any(role == following and role != "tool" for role, following in pairwise(roles))
