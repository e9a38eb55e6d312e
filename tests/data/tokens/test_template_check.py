"""What is said before a start of the text that a chat template makes of the data, and of no well-known family."""

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.config.files import LoadedConfig, from_values
from dpo_tui.data.load_demonstrations import Demonstration
from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.template_check import check_config, check_rows
from dpo_tui.data.tokens.template_date import clock_texts
from dpo_tui.data.tokens.template_findings import TemplateFinding
from dpo_tui.data.tokens.tokenizer_settings import TemplateSettings
from dpo_tui.demo import assets
from dpo_tui.start.prepare import prepare
from tests.support.chat_families import (
    CHATML,
    FAMILIES,
    LLAMA3,
    MISTRAL,
    QWEN25,
    R1_DISTILL,
    REASONER,
    Family,
    write_family,
)
from tests.support.data_files import assistant, rows, user, write_lines

SYSTEM = {"role": "system", "content": "Be brief."}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "of a town", "parameters": {}}}]
QWEN = FAMILIES["qwen-2.5"]


def call(name: str = "weather") -> dict[str, Any]:
    function = {"name": name, "arguments": {"city": "Graz"}}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "a12345678", "type": "function", "function": function}],
    }


def pairs(*prompt: Any, good: Any = None, tools: Any = None, count: int = 6) -> list[Pair]:
    return [
        Pair(number, list(prompt) or [user(f"Why {number}?")], [good or assistant("So.")], [assistant("Hm.")], tools)
        for number in range(1, count + 1)
    ]


def found(folder: Path, family: Family, data: Any = None, **settings: Any) -> dict[str, TemplateFinding]:
    findings = check_rows(write_family(folder, family), data or pairs(), TemplateSettings(**settings))
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_well_known_family_is_warned_of(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    data = [
        *pairs(),
        *pairs(user("a"), assistant("b"), user("c")),
        *pairs(good=assistant("<think>\nhm\n</think>\n\nSo.")),
        *(pairs(SYSTEM, user("a")) if family.takes_system else []),
    ]
    assert [one.check for one in found(tmp_path, family, data).values() if one.severity == "warning"] == []


def test_the_demo_is_not_warned_of() -> None:
    assert check_rows(assets.model_dir(), load_pairs(Source(str(assets.pairs_file()))).pairs) == []


@pytest.mark.parametrize("name", ["qwen-2.5", "qwen-3"])
def test_families_that_write_tools_are_not_warned_of_tool_rows(tmp_path: Path, name: str) -> None:
    asked = [user("Rain?"), call(), {"role": "tool", "name": "weather", "content": "No."}]
    data = [*pairs(good=call(), tools=TOOLS), *pairs(*asked, tools=TOOLS)]
    assert found(tmp_path, FAMILIES[name], data) == {}


def test_demonstrations_are_checked_as_pairs_are(tmp_path: Path) -> None:
    data = [Demonstration(n, [user("Why?"), assistant("So.")]) for n in range(4)]
    assert found(tmp_path, QWEN, data) == {}
    assert set(found(tmp_path, replace(QWEN, template=CHATML.replace("<|im_end|>", "")), data)) == {"no-end-token"}
    assert found(tmp_path, QWEN, [Demonstration(1, [], "plain text")]) == {}


def test_a_template_that_never_ends_an_answer_is_named(tmp_path: Path) -> None:
    for template in (CHATML.replace("<|im_end|>", ""), CHATML.replace("<|im_end|>", "<|fin|>")):
        finding = found(tmp_path, Family(template, "</s>", ("</s>",)))["no-end-token"]
        assert "no answer of the data ends with an end-of-text token" in finding.message
        assert "{{ eos_token }}" in finding.remedy


def test_an_end_that_the_data_itself_has_counts(tmp_path: Path) -> None:
    bare = replace(QWEN, template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    ended = [Pair(1, [user("Why?")], [assistant("So.<|im_end|>")], [assistant("Hm.<|im_end|>")])]
    assert "no-end-token" in found(tmp_path, bare)
    assert "no-end-token" not in found(tmp_path, bare, ended)


def test_the_end_of_only_some_answers_is_counted(tmp_path: Path) -> None:
    """No end after a call: a template that writes it in the branch of plain answers alone."""
    template = CHATML.replace("'<|im_end|>\\n'", "('' if m.tool_calls else '<|im_end|>') + m.tool_calls | string")
    finding = found(tmp_path, replace(QWEN, template=template), pairs(good=call()))["no-end-token"]
    assert finding.message.startswith("6 of 12 sampled answers do not end")


def test_an_end_at_which_generation_does_not_stop_is_named_and_the_setting_cures_it(tmp_path: Path) -> None:
    family = Family(CHATML, "<|endoftext|>", ("<|endoftext|>",), ("<|im_start|>", "<|im_end|>"))
    finding = found(tmp_path, family)["other-end-token"]
    assert "all 12 sampled answers end with <|im_end|>, but generation ends at <|endoftext|>" in finding.message
    assert 'eos_token = "<|im_end|>"' in finding.remedy
    cured = found(tmp_path, family, eos_token="<|im_end|>")
    assert [one.severity for one in cured.values()] == ["info"]  # the base's own settings do not know it


def test_the_model_s_settings_may_name_the_end_that_the_tokenizer_does_not(tmp_path: Path) -> None:
    family = Family(CHATML, "<|endoftext|>", ("<|endoftext|>", "<|im_end|>"), ("<|im_start|>",))
    assert found(tmp_path, family) == {}


def test_a_generation_prompt_that_is_not_trained_is_named_with_the_variable_that_cures_it(tmp_path: Path) -> None:
    family = replace(QWEN, template=REASONER)
    finding = found(tmp_path, family)["generation-prompt"]
    assert '"<think>\\n"' in finding.message
    assert finding.remedy == "Set chat_template_kwargs = { enable_thinking = false }"
    assert found(tmp_path, family, defaults={"enable_thinking": False}) == {}


def test_answers_that_begin_as_the_generation_prompt_does_are_not_warned_of(tmp_path: Path) -> None:
    family = Family(R1_DISTILL.replace(".split('</think>')[-1]", ""), "</s>", ("</s>",), ("<|User|>", "<|Assistant|>"))
    thinking = [Pair(1, [user("a")], [assistant("<think>\nb</think>c")], [assistant("<think>\nd</think>e")])]
    assert found(tmp_path, family, thinking) == {}
    assert "chat_template = FILE" in found(tmp_path, family)["generation-prompt"].remedy


def test_a_prompt_that_is_written_otherwise_before_an_answer_is_named(tmp_path: Path) -> None:
    late = MISTRAL.replace("(first if loop.first else '')", "(first if loop.last else '')")
    data = pairs(SYSTEM, user("Why?"))
    assert set(found(tmp_path, replace(FAMILIES["mistral"], template=late), data)) == {
        "prompt-rewritten",
        "content-dropped",
    }
    assert found(tmp_path, replace(FAMILIES["mistral"], template=late)) == {}


def test_ignored_calls_are_named_with_the_answers_that_they_leave_empty(tmp_path: Path) -> None:
    every = found(tmp_path, FAMILIES["chatml"], pairs(good=call(), tools=TOOLS))
    assert set(every) == {"tool-calls-ignored", "tools-ignored"}
    assert "6 of them are trained as empty answers" in every["tool-calls-ignored"].message
    in_history = pairs(user("Rain?"), call(), {"role": "tool", "content": "No."})
    assert "empty" not in found(tmp_path, FAMILIES["chatml"], in_history)["tool-calls-ignored"].message


def test_pairs_that_differ_only_in_ignored_calls_come_out_alike(tmp_path: Path) -> None:
    data = [Pair(1, [user("Rain?")], [call()], [call("time")])]
    assert "alike-when-rendered" in found(tmp_path, FAMILIES["chatml"], data)
    assert "alike-when-rendered" not in found(tmp_path, QWEN, data)


@pytest.mark.parametrize(
    ("role", "data"),
    [
        ("system", pairs(SYSTEM, user("Why?"))),
        ("tool", pairs(user("Rain?"), call(), {"role": "tool", "content": "No."})),
        ("developer", pairs({"role": "developer", "content": "Be brief."}, user("Why?"))),
    ],
)
def test_turns_that_a_template_leaves_out_are_named_by_role(tmp_path: Path, role: str, data: Any) -> None:
    deaf = CHATML.replace("{%- for m in messages -%}", f"{{%- for m in messages if m.role != '{role}' -%}}")
    assert (
        f"the text of {role} messages" in found(tmp_path, replace(QWEN, template=deaf), data)["content-dropped"].message
    )


def test_thoughts_that_a_template_takes_out_of_answers_are_named(tmp_path: Path) -> None:
    family = Family(R1_DISTILL, "</s>", ("</s>",), ("<|User|>", "<|Assistant|>"))
    thought = found(tmp_path, family, pairs(good=assistant("<think>\nhm\n</think>\n\nSo.")))
    assert "6 of 12 sampled answers" in thought["answer-changed"].message
    assert "answer-changed" not in found(tmp_path, family)


def test_a_date_is_named_with_the_variable_that_fixes_it(tmp_path: Path) -> None:
    finding = found(tmp_path, FAMILIES["llama-3.2"])["template-date"]
    assert finding.remedy == 'To fix it, set chat_template_kwargs = { date_string = "26 Jul 2024" }'
    assert found(tmp_path, FAMILIES["llama-3.2"], defaults={"date_string": "26 Jul 2024"}) == {}


def test_what_a_template_writes_of_the_time_is_known_or_nothing_is_cached() -> None:
    now = datetime(2031, 5, 6, 7, 8, 9)
    assert clock_texts([CHATML, MISTRAL, QWEN25], lambda: now) == []
    assert clock_texts([LLAMA3], lambda: now) == ["06 May 2031"]
    assert clock_texts(["{{ strftime_now('%H') }}{{ strftime_now('%M') }}"], lambda: now) == ["07", "08"]
    for unknown in (
        "{{ strftime_now(form) }}",
        "{% set clock = strftime_now %}{{ clock('%Y') }}",
        "{{ '%Y' | map(strftime_now) }}",
        "{{ lipsum() }}",
        "{% broken",
    ):
        assert clock_texts([CHATML, unknown], lambda: now) is None


def test_a_variable_that_the_template_does_not_have_is_named(tmp_path: Path) -> None:
    finding = found(tmp_path, FAMILIES["qwen-3"], defaults={"enable_thinkin": False})["template-variable"]
    assert "sets enable_thinkin" in finding.message
    assert "enable_thinking" in finding.remedy


def test_the_template_for_tools_is_the_one_that_is_checked(tmp_path: Path) -> None:
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": QWEN25}]
    family = replace(QWEN, config={"chat_template": named})
    assert found(tmp_path, family, pairs(good=call(), tools=TOOLS)) == {}
    assert "tool-calls-ignored" in found(tmp_path, family, pairs(good=call()))


def test_what_cannot_be_rendered_is_said(tmp_path: Path) -> None:
    broken = replace(QWEN, template="{{ raise_exception('no') }}")
    assert set(found(tmp_path, broken)) == {"template-not-checked"}
    elsewhere = from_values({"model_name": str(tmp_path / "nowhere"), "dataset": "-"})
    (finding,) = check_config(elsewhere, pairs())
    assert "is not checked before training begins" in finding.message


def test_variables_are_defaults_that_a_caller_can_replace(tmp_path: Path) -> None:
    values = {"a": "quote \" ' \\ \n 🙂 {% endif %} }}", "b": [1, True, {"c": 2.5}]}
    family = replace(QWEN, template="\n{{ a }}|{{ b | tojson }}|{% macro m() %}{{ a }}{% endmacro %}{{ m() }}")
    template = load_template(write_family(tmp_path, family), TemplateSettings(defaults=values))[0]
    text = template.render([user("x")])
    assert text == f'\n{values["a"]}|[1, true, {{"c": 2.5}}]|{values["a"]}'
    again = template.with_defaults(values)
    assert again.source == template.source
    assert template.with_defaults({"a": "z"}).render([user("x")]).startswith("\nz|")


@pytest.mark.usefixtures("home")
def test_the_check_before_a_start_and_inspect_say_the_same(tmp_path: Path, tiny_model: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", rows(12))
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(REASONER.replace("'<|im_end|>\\n'", "'\\n'"), encoding="utf-8")
    config = from_values({"model_name": str(folder), "dataset": str(data), "gpus": "none", "profile": "none"})
    prepared = prepare(LoadedConfig(config, None, {}))
    report = scan(ScanRequest(Source(str(data)), str(folder), 512, workers=1), lambda _event: None)
    mine = {finding.check: finding.remedy for finding in prepared.template}
    assert set(mine) == {"no-end-token", "generation-prompt"}
    assert mine.items() <= {problem.check: problem.remedy for problem in report.problems}.items()
    assert "no-end-token" in report.verdict
