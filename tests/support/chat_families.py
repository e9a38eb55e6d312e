"""Chat templates written after those of well-known families, with their special tokens, and folders that have them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """One family.

    Args:
        template: the jinja text.
        eos: the tokenizer's end-of-text token.
        stop: the tokens in generation_config.json.
        added: further special tokens.
        takes_system: whether the template takes system messages.
    """

    template: str
    eos: str | None
    stop: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    takes_system: bool = True
    bos: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


CHATML = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{% set date_string = strftime_now("%d %b %Y") %}
    {%- else %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set opening = messages[0]['content'] | trim %}{% set messages = messages[1:] %}
{%- else %}{% set opening = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n' }}
{%- if tools is not none and tools %}
    {%- for t in tools %}{{ t | tojson(indent=4) }}{{ '\\n\\n' }}{% endfor %}
{%- endif %}
{{- opening + '<|eot_id|>' }}
{%- for m in messages %}
    {%- if m.role == 'ipython' or m.role == 'tool' or 'tool_calls' in m %}
        {%- if 'tool_calls' in m %}
            {%- set call = m.tool_calls[0].function %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
            {{- '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}{{ '}<|eot_id|>' }}
        {%- else %}
            {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m.content + '<|eot_id|>' }}
        {%- endif %}
    {%- else %}
        {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""
LLAMA3_PLAIN = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n'"
    " + m.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n<tools>' }}{% for t in tools %}{{ '\\n' }}{{ t | tojson }}{% endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}{{ DEFAULT }}{% endif %}
{%- set ns = namespace(last=messages | length - 1, open=true) %}
{%- for m in messages[::-1] %}
    {%- if ns.open and m.role == 'user' and not m.content.startswith('<tool_response>') %}
        {%- set ns.open = false %}{% set ns.last = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        BODY
        {%- for call in m.tool_calls or [] %}
            {%- if call.function %}{% set call = call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {%- if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson }}{% endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}END{% endif %}
"""
QWEN25 = (
    QWEN_TOOLS.replace("DEFAULT", "'<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n'")
    .replace("BODY", "{{- m.content or '' }}")
    .replace("END", "")
)
QWEN3 = (
    QWEN_TOOLS.replace("DEFAULT", "''")
    .replace(
        "BODY",
        """{%- set content = m.content or '' %}{% set thought = '' %}
        {%- if m.reasoning_content is string %}{% set thought = m.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}{{ content }}{% endif %}""",
    )
    .replace(
        "END",
        "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
    )
)
# What a family of reasoning models does: generation begins with a thought, and trained answers do not.
REASONER = QWEN25.replace(
    "{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is not defined or enable_thinking %}{{ '<think>\\n' }}"
    "{% endif %}{% endif %}",
)
R1_DISTILL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}"
    "{% if m.role == 'user' %}{{ '<|User|>' + m.content }}{% endif %}{% if m.role == 'assistant' %}"
    "{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}
{%- set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}
{%- for m in loop_messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {%- set role = 'model' if m.role == 'assistant' else m.role %}
    {{- '<start_of_turn>' + role + '\\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""
GEMMA2 = GEMMA.replace("{% set first = messages[0].content + '\\n\\n' %}", "{{ raise_exception('no system role') }}")
MISTRAL = """{{- bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}
{%- set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{%- for m in rest %}
    {%- if m.role == 'user' %}{{ '[INST] ' + (first if loop.first else '') + m.content + '[/INST]' }}
    {%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
    {%- else %}{{ raise_exception('only user and assistant') }}{% endif %}
{%- endfor %}
"""
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
SMOLLM = CHATML.replace(
    "{{ '<|im_start|>' + m.role",
    "{% if loop.first and m.role != 'system' %}{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role",
)
GPT_OSS = (
    "{% for m in messages %}{{ '<|start|>' + m.role }}{% if m.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}"
    "{{ '<|message|>' + m.content }}{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}\n{% endfor %}"
)

FAMILIES = {
    "llama-3": Family(
        LLAMA3_PLAIN, "<|eot_id|>", ("<|end_of_text|>", "<|eot_id|>"), ("<|start_header_id|>",), bos="<b>"
    ),
    "llama-3.2": Family(LLAMA3, "<|eot_id|>", ("<|end_of_text|>", "<|eot_id|>"), bos="<b>"),
    "qwen-2.5": Family(QWEN25, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), ("<|im_start|>", "<tool_call>")),
    "qwen-3": Family(QWEN3, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), ("<|im_start|>", "<think>", "</think>")),
    "gemma-2": Family(GEMMA2, "<eos>", ("<eos>", "<end_of_turn>"), takes_system=False, bos="<bos>"),
    "gemma-3": Family(GEMMA, "<eos>", ("<eos>", "<end_of_turn>"), ("<start_of_turn>",), bos="<bos>"),
    "mistral": Family(MISTRAL, "</s>", ("</s>",), ("[INST]", "[/INST]"), bos="<s>"),
    "phi-3": Family(PHI3, "<|endoftext|>", ("<|endoftext|>", "<|end|>"), ("<|user|>", "<|assistant|>")),
    "smollm-2": Family(SMOLLM, "<|im_end|>", ("<|im_end|>",), ("<|im_start|>",)),
    "chatml": Family(CHATML, "<|im_end|>", (), ("<|im_start|>",)),
    "gpt-oss": Family(GPT_OSS, "<|return|>", ("<|return|>", "<|call|>"), ("<|start|>", "<|message|>", "<|end|>")),
    "zephyr": Family(ZEPHYR, "</s>", ("</s>",), ("<s>",)),
}


def write_family(folder: Path, family: Family) -> Path:
    """Write the files of a tokenizer that the checks read; its vocabulary has the special tokens alone."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"eos_token": family.eos, "bos_token": family.bos}
    tokens = list(dict.fromkeys([t for t in (*named.values(), *family.stop, *family.added) if t]))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": family.template,
        "added_tokens_decoder": {str(n): {"content": token, "special": True} for n, token in enumerate(tokens)},
        **named,
        **family.config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if family.stop:
        stop = [tokens.index(token) for token in family.stop]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}), encoding="utf-8")
    return folder
