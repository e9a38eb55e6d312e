"""A chat template that raises an error for system messages and repeated roles, and conversations to render with it."""

from typing import Any

from tests.support.data_files import assistant, row, user

# As Gemma's and Mistral's templates do.
STRICT = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def conversation(prompt: list[dict[str, str]], number: int) -> dict[str, Any]:
    good = row(number)
    return {"prompt": prompt, "chosen": [assistant(good["chosen"])], "rejected": [assistant(good["rejected"])]}


def with_system(number: int) -> dict[str, Any]:
    return conversation([{"role": "system", "content": "Be brief."}, user(f"question {number}")], number)
