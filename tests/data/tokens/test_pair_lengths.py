"""Tokens are counted as TRL counts them, so what the report promises is what training does."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.load_pairs import load_pairs
from dpo_tui.data.pairs.pair import Pair
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.data.tokens.chat_template import ChatTemplate, Unrenderable
from dpo_tui.data.tokens.load_template import load_template
from dpo_tui.data.tokens.pair_lengths import Length, TokenCounter, is_kept, truncated_answers
from dpo_tui.errors import DataError
from tests.support.data_files import assistant, row, user, write_lines

TEMPLATES = {
    "plain": "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}",
    "whitespace control": "{%- for m in messages %}\n    {%- if m.role == 'user' %}\n        {{- 'U: ' + m.content }}\n"
    "    {% else %}\n        {{- 'A: ' + m['content'] }}\n    {% endif %}\n{%- endfor %}",
    "tools": "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ messages[-1].content }}"
    "{% if tools is not none and tools[0].function.name == 'clock' %}!{% endif %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "loop control": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "namespace and dict": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{{ dict(a=bos_token).a }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content or '' }}{{ m.thinking }}{{ m.content }}{% endfor %}",
    "date": "{{ strftime_now('%Y') }}{{ messages[0].content }}",
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief.  "},
    {"role": "user", "content": "<b>“Wo?”</b>\n"},
    {"role": "assistant", "content": "Là-bas", "thinking": "hm", "name": None},
]
TOOLS = [{"type": "function", "function": {"name": "clock", "description": "é <", "parameters": {}}}]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("generate", [False, True])
def test_a_template_renders_as_transformers_renders_it(tokenizer: Any, name: str, generate: bool) -> None:
    template = ChatTemplate(TEMPLATES[name], tokenizer.special_tokens_map)
    ours = template.render(MESSAGES, tools=TOOLS, add_generation_prompt=generate)
    theirs = tokenizer.apply_chat_template(
        MESSAGES, tools=TOOLS, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=generate
    )
    assert ours == theirs


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    """Chat templates come from strangers."""
    import jinja2

    for hostile in ("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ cycler.__init__.__globals__ }}"):
        template = ChatTemplate(hostile, {})
        with pytest.raises(jinja2.TemplateError):
            template.render([user("a")])


def pairs() -> list[Pair]:
    texts = [
        "",
        " ",
        "How do I reset my password?",
        "<|im_end|> typed in",
        "naïve 日本 🙂",
        "two\n\nlines  ",
        "a" * 300,
    ]
    found = []
    for number, text in enumerate(texts):
        prompt = [{"role": "system", "content": text}, user(texts[number - 1])] if number % 2 else [user(text)]
        found.append(Pair(number, prompt, [assistant(f"{text} yes")], [assistant(texts[number - 2] + "no")]))
        found.append(Pair(number, [user(text), assistant("b"), user("c")], [assistant(text)], [assistant("d")]))
    return found


def by_trl(tokenizer: Any, pair: Pair) -> Length:
    """What DPOTrainer._prepare_dataset does, with TRL's own functions."""
    from trl.data_utils import _tokenize, common_prefix_length

    prompt = _tokenize(tokenizer, pair.prompt, add_generation_prompt=True, tools=pair.tools)["input_ids"]
    chosen = _tokenize(tokenizer, pair.prompt + pair.chosen, tools=pair.tools)["input_ids"]
    rejected = _tokenize(tokenizer, pair.prompt + pair.rejected, tools=pair.tools)["input_ids"]
    shared = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
    return Length(shared, len(chosen) - shared, len(rejected) - shared)


def test_lengths_are_those_of_trl(tiny_model: Path, tokenizer: Any) -> None:
    assert TokenCounter.from_folder(tiny_model).lengths(pairs()) == [by_trl(tokenizer, pair) for pair in pairs()]


def test_lengths_are_those_of_trl_when_the_prompt_is_rendered_differently_before_an_answer(
    tiny_model: Path, tokenizer: Any
) -> None:
    """Some templates end the generation prompt with words that the whole conversation lacks."""
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n(thinking off){% endif %}"
    )
    tokenizer.chat_template = source
    counter = TokenCounter(tokenizer.backend_tokenizer, ChatTemplate(source, tokenizer.special_tokens_map))
    assert counter.lengths(pairs()) == [by_trl(tokenizer, pair) for pair in pairs()]


def test_a_tokenizer_that_swallows_blanks_around_its_tokens_is_counted_whole() -> None:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    bpe = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(" abc<>x")}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    bpe.add_special_tokens([AddedToken("<x>", lstrip=True, rstrip=True)])
    template = ChatTemplate("{% for m in messages %}a <x> {{ m.content }} <x> b{% endfor %}", {})
    pair = Pair(1, [user("a b")], [assistant(" c ")], [assistant("a")])
    text = template.render(pair.prompt + pair.chosen)
    (length,) = TokenCounter(bpe, template).lengths([pair])
    assert isinstance(length, Length)
    assert length.prompt + length.chosen == len(bpe.encode(text, add_special_tokens=False).ids)


def test_a_pair_that_the_template_refuses_is_named_not_raised(tiny_model: Path) -> None:
    counter = TokenCounter.from_folder(tiny_model)
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('System role not supported') }}{% endif %}x"
    counter = TokenCounter(counter._tokenizer, ChatTemplate(strict, {}))
    found = counter.lengths(
        [Pair(1, [{"role": "system", "content": "s"}, user("a")], [assistant("b")], [assistant("c")])]
    )
    assert found == [Unrenderable("System role not supported")]


def test_a_model_without_a_template_gets_chatml_as_in_training(tmp_path: Path) -> None:
    template, own = load_template(tmp_path)
    assert not own
    assert template.render([user("a")], add_generation_prompt=True) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_folder_without_a_tokenizer_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        TokenCounter.from_folder(tmp_path)


@pytest.mark.parametrize(("prompt", "stays"), [(99, True), (100, False), (101, False)])
def test_a_prompt_that_fills_max_length_is_dropped(prompt: int, stays: bool) -> None:
    """TRL drops such rows without a word; with keep_end, or without a limit, it does not."""
    assert is_kept(prompt, 100) is stays
    assert is_kept(prompt, None)
    assert is_kept(prompt, 100, "keep_end")


def test_answers_that_reach_beyond_max_length_are_cut() -> None:
    assert truncated_answers(Length(60, 40, 41), 100) == 1
    assert truncated_answers(Length(60, 41, 41), 100) == 2
    assert truncated_answers(Length(60, 41, 41), None) == 0


def lengthening(count: int) -> list[dict[str, str]]:
    found = []
    for number in range(count):
        found.append(row(number) | {"prompt": "reset my password please " * (number + 1)})
    return found


@pytest.mark.usefixtures("home")
def test_training_uses_exactly_the_rows_that_the_report_promises(tmp_path: Path, tiny_model: Path) -> None:
    """Rows used in the receipt = rows promised."""
    from tests.support.training import make_config, train

    records: list[Any] = [*lengthening(30), row(40) | {"chosen": ""}, row(41) | {"rejected": None}]
    path = write_lines(tmp_path / "pairs.jsonl", records)
    report = scan(ScanRequest(Source(str(path)), str(tiny_model), 96, workers=1), lambda _event: None)
    assert (report.rows, report.usable) == (32, 30)
    assert report.will_drop is not None
    assert 0 < report.will_drop < 30
    folder = train(make_config(tiny_model, path, max_seq_length=96, max_steps=1, sample_prompts=0))
    data = json.loads((folder.path / "receipt.json").read_text())["data"]
    assert data["train"] + data["held_out"] == report.usable - report.will_drop
    assert (data["rows"], data["unusable"], data["too_long"]) == (32, 2, report.will_drop)


@pytest.mark.usefixtures("home")
def test_the_report_names_the_lengths_that_keep_pairs_whole(tmp_path: Path, tiny_model: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", lengthening(100))
    request = ScanRequest(Source(str(path)), str(tiny_model), 128, workers=1)
    report = scan(request, lambda _event: None)
    counted = TokenCounter.from_folder(tiny_model).lengths(load_pairs(request.source).pairs)
    longest = sorted(one.prompt + max(one.chosen, one.rejected) for one in counted if isinstance(one, Length))
    assert report.keeps == {"95": longest[94], "99": longest[98], "100": longest[99]}
    prompts = [one.prompt for one in counted if isinstance(one, Length)]
    assert report.will_drop == sum(prompt >= 128 for prompt in prompts)
    assert report.lengths["tokens"]["exact"]


@pytest.mark.usefixtures("home")
def test_a_large_dataset_is_estimated_from_a_sample_first(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpo_tui.data.tokens import count_tokens

    monkeypatch.setattr(count_tokens, "SAMPLED", 50)
    monkeypatch.setattr(count_tokens, "SAMPLE_CHUNK_BYTES", 1 << 10)
    path = write_lines(tmp_path / "pairs.jsonl", [row(number) for number in range(500)])
    source = Source(str(path))
    from dpo_tui.data.source.locate import locate

    figures = list(count_tokens.count_tokens(locate(source), source, str(tiny_model), 64, usable=500, workers=1))
    assert not figures[0].exact
    assert 20 <= figures[0].counted < 200
    assert figures[-1].exact
    assert figures[-1].counted == 500
