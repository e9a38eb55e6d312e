"""The text that is trained is the text in the file: every row's tokens are those of the chat template on the row."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer
from trl import DPOTrainer

from dpo_tui.config.schema import Config
from dpo_tui.data.pairs.pair import Message
from dpo_tui.data.scan.scan_process import ScanRequest
from dpo_tui.data.scan.scanner import scan
from dpo_tui.data.source.source import Source
from dpo_tui.train.trainer import token_cache
from dpo_tui.train.trainer.run_datasets import load_datasets
from tests.support.data_files import assistant, user, write_lines
from tests.support.training import losses, make_config, train

pytestmark = pytest.mark.usefixtures("home")

# As many published templates do: arguments are encoded, and null content is another thing than empty content.
TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.content is defined else '(no content)' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ ARGUMENTS }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENCODES = TEMPLATE.replace("ARGUMENTS", "call.function.arguments | tojson")
TAKES_BOTH = TEMPLATE.replace(
    "ARGUMENTS", "call.function.arguments if call.function.arguments is string else call.function.arguments | tojson"
)
TAKES_TEXT = TEMPLATE.replace("ARGUMENTS", "'' ~ ('json ' + call.function.arguments)")
ARGUMENTS: list[Any] = [
    {"city": "Graz"},
    {"room": "r1", "level": 1},
    {"level": 0.1234567890123456, "city": None, "at": {"b": 1, "a": [1, "x", None]}},
    {"city": ["Graz", 2], "level": "high"},
    {},
]


def call(arguments: Any, content: str | None = None) -> Message:
    function = {"name": "act", "arguments": arguments}
    return {"role": "assistant", "content": content, "tool_calls": [{"type": "function", "function": function}]}


def tool_row(number: int, arguments: Any) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": "act", "parameters": {f"p{number}": {"type": "string"}}}}]
    prompt = [{"role": "system", "content": None if number % 2 else "Act."}, user(f"do {number}")]
    return {"tools": tools, "prompt": prompt, "chosen": [call(arguments)], "rejected": [assistant(f"No {number}.")]}


def model_with(template: str, model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def config_of(model: Path, data: Path, **changes: Any) -> Config:
    return make_config(model, data, eval_split=0.0, max_seq_length=512, **changes)


def trained_texts(config: Config, processes: int | None = None) -> list[tuple[str, str, str]]:
    """What TRL tokenises of each row of a run: prompt, chosen, rejected."""
    tokenizer = AutoTokenizer.from_pretrained(config.model_name)
    arguments = SimpleNamespace(dataset_num_proc=processes, max_length=512, truncation_mode="keep_start")
    this = SimpleNamespace(_tokenizer=tokenizer)
    rows = DPOTrainer._prepare_dataset(this, load_datasets(config).train, tokenizer, arguments, "train")
    return [
        (
            tokenizer.decode(one["prompt_ids"]),
            tokenizer.decode(one["prompt_ids"] + one["chosen_ids"]),
            tokenizer.decode(one["prompt_ids"] + one["rejected_ids"]),
        )
        for one in rows
    ]


def texts_of(model: Path, rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The same from the rows of the file themselves."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def rendered(row: dict[str, Any], answer: list[Message], *, asks: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            row["prompt"] + answer, tools=row.get("tools"), tokenize=False, add_generation_prompt=asks
        )
        return text

    return [
        (rendered(row, [], asks=True), rendered(row, row["chosen"]), rendered(row, row["rejected"])) for row in rows
    ]


@pytest.fixture
def encoding_model(tiny_model: Path, tmp_path: Path) -> Path:
    return model_with(ENCODES, tiny_model, tmp_path / "model")


@pytest.mark.parametrize("processes", [None, 2])
def test_arguments_are_trained_as_the_file_has_them(
    tmp_path: Path, encoding_model: Path, processes: int | None
) -> None:
    rows = [tool_row(number, arguments) for number, arguments in enumerate(ARGUMENTS)]
    data = write_lines(tmp_path / "tools.jsonl", rows)
    found = trained_texts(config_of(encoding_model, data), processes)
    assert found == texts_of(encoding_model, rows)
    assert '{"city": "Graz"}' in found[0][1]
    assert '"level": 0.1234567890123456, "city": null' in found[2][1]


@pytest.mark.parametrize("strategy", ["dpo", "sft"])
def test_arguments_of_mixed_types_train(tmp_path: Path, encoding_model: Path, strategy: str) -> None:
    """A real run: arguments of other types in every row."""
    rows = [tool_row(number, ARGUMENTS[number % len(ARGUMENTS)]) for number in range(10)]
    data = write_lines(tmp_path / "tools.jsonl", rows)
    config = config_of(encoding_model, data, strategy=strategy, max_steps=2, sample_prompts=1)
    assert len(load_datasets(config).train) == 10
    assert sorted(losses(train(config))) == [1, 2]


def test_a_parquet_file_trains_as_the_rows_it_was_written_from(tmp_path: Path, encoding_model: Path) -> None:
    rows = [tool_row(number, arguments) for number, arguments in enumerate(ARGUMENTS[:2])]
    rows[0]["prompt"] += [call({"room": "r"}), {"role": "tool", "content": "ok"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tools.parquet")
    found = trained_texts(config_of(encoding_model, tmp_path / "tools.parquet"))
    assert found == texts_of(encoding_model, rows)


def test_messages_survive_every_step_of_a_preparation(tmp_path: Path, encoding_model: Path) -> None:
    """Other trainers of TRL map several times, return the row itself, and render messages to text in their column."""
    rows = [tool_row(number, arguments) for number, arguments in enumerate(ARGUMENTS)]
    made: Any = load_datasets(config_of(encoding_model, write_lines(tmp_path / "tools.jsonl", rows))).train
    for step in (lambda row: row, lambda row: {"asked": len(row["prompt"])}, lambda row: {"rejected": "12"}):
        made = made.map(step)
    made = made.filter(lambda row: row["asked"] == 2).map(lambda batch: {"n": [1] * len(batch["chosen"])}, batched=True)
    made = made.filter(lambda row: "1" not in row["prompt"][1]["content"]).map(lambda row: None)
    assert [one["chosen"] for one in made] == [row["chosen"] for number, row in enumerate(rows) if number != 1]
    assert set(made["rejected"]) == {"12"}
    assert "prompt" not in made.map(lambda row: {"n": len(row["prompt"])}, remove_columns="prompt").column_names


@pytest.mark.parametrize("template", [TAKES_BOTH, TAKES_TEXT], ids=["both", "text"])
def test_arguments_in_json_text_stay_text_where_the_template_takes_it(
    tmp_path: Path, tiny_model: Path, template: str
) -> None:
    model = model_with(template, tiny_model, tmp_path / "model")
    rows = [tool_row(number, json.dumps(one, separators=(",", ":"))) for number, one in enumerate(ARGUMENTS[:2])]
    data = write_lines(tmp_path / "tools.jsonl", rows)
    assert trained_texts(config_of(model, data)) == texts_of(model, rows)


def test_arguments_in_json_text_are_not_encoded_twice(tmp_path: Path, encoding_model: Path) -> None:
    texts, objects = (
        [tool_row(number, form(arguments)) for number, arguments in enumerate(ARGUMENTS[:3])]
        for form in (json.dumps, lambda arguments: arguments)
    )
    data = write_lines(tmp_path / "tools.jsonl", texts)
    assert trained_texts(config_of(encoding_model, data)) == texts_of(encoding_model, objects)
    counted = [
        scan(ScanRequest(Source(str(file)), str(encoding_model), 512, workers=1), lambda _event: None).lengths
        for file in (data, write_lines(tmp_path / "objects.jsonl", objects))
    ]
    assert counted[0] == counted[1] is not None
    conversations = write_lines(tmp_path / "sft.jsonl", [{"messages": one["prompt"] + one["chosen"]} for one in texts])
    kept = load_datasets(config_of(encoding_model, conversations, strategy="sft")).train["messages"]
    assert [one[-1]["tool_calls"][0]["function"]["arguments"] for one in kept] == ARGUMENTS[:3]


def test_turns_of_sharegpt_that_call_functions_are_tool_calls(tmp_path: Path, encoding_model: Path) -> None:
    asked, made, said = (
        {"from": "human", "value": "Weather?"},
        call(ARGUMENTS[0]),
        {"from": "observation", "value": "3"},
    )
    called = {"from": "function_call", "value": json.dumps({"name": "act", "arguments": ARGUMENTS[0]})}
    answers = {"chosen": {"from": "gpt", "value": "Cold."}, "rejected": {"from": "gpt", "value": "Hot."}}
    prompt = [user("Weather?"), made, {"role": "tool", "content": "3"}]
    tools = tool_row(0, {})["tools"]
    record = {"conversations": [asked, called, said], "tools": json.dumps(tools), **answers}
    plain = [{"from": "function_call", "value": "act(city)"}]
    data = write_lines(tmp_path / "a.jsonl", [record, record | {"conversations": [asked, *plain]}])
    rows = load_datasets(config_of(encoding_model, data))
    expected = {"prompt": prompt, "chosen": [assistant("Cold.")], "rejected": [assistant("Hot.")], "tools": tools}
    assert trained_texts(config_of(encoding_model, data)) == texts_of(encoding_model, [expected])
    assert [(one.row, "function call" in one.message) for one in rows.dropped] == [(2, True)]
    demonstrations = write_lines(tmp_path / "b.jsonl", [{k: record[k] for k in ("conversations", "tools")}])
    (kept,) = load_datasets(config_of(encoding_model, demonstrations, strategy="sft")).train
    assert (kept["messages"], json.loads(kept["tools"])) == (prompt, tools)


def test_demonstrations_that_the_template_refuses_are_left_out_and_named(tmp_path: Path, tiny_model: Path) -> None:
    """ChatML as many write it fails on a call without content; training would end there."""
    joins = "{% for m in messages %}{{ '<|im_start|>' + m.role + m.content + '<|im_end|>' }}{% endfor %}"
    model = model_with(joins, tiny_model, tmp_path / "model")
    rows = [{"messages": [user(f"do {number}"), assistant("Done.")]} for number in range(6)]
    rows[3]["messages"][1] = call({"city": "Graz"})
    data = write_lines(tmp_path / "data.jsonl", [*rows, {"text": "Once upon a time"}])
    found = load_datasets(config_of(model, data, strategy="sft"))
    assert [problem.row for problem in found.dropped] == [4]
    assert "the model's chat template refuses it" in found.dropped[0].message
    assert len(found.train) == 6


SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [SYSTEM, user("Hi"), assistant("Hello"), user("Why?")]


@pytest.mark.parametrize(
    ("beside", "chosen", "rejected"),
    [
        ([*EARLIER, assistant("Good.")], [*EARLIER, assistant("Good.")], [*EARLIER, assistant("Bad.")]),
        ([*EARLIER, assistant("Another.")], [*EARLIER, assistant("Good.")], [*EARLIER, assistant("Bad.")]),
        ([*EARLIER, assistant("Good.")], [assistant("Good.")], [assistant("Bad.")]),
        ([*EARLIER, assistant("Good.")], "Good.", "Bad."),
        (EARLIER, [*EARLIER, assistant("Good.")], [*EARLIER, assistant("Bad.")]),
        (EARLIER[1:], [*EARLIER, assistant("Good.")], [*EARLIER, assistant("Bad.")]),
        ([SYSTEM, user("Hi ")], [*EARLIER, assistant("Good.")], [*EARLIER, assistant("Bad.")]),
        (EARLIER, [assistant("Good.")], [assistant("Bad.")]),
    ],
)
def test_the_prompt_never_holds_the_good_answer(
    tmp_path: Path, tiny_model: Path, beside: Any, chosen: Any, rejected: Any
) -> None:
    record = {"messages": beside, "chosen": chosen, "rejected": rejected, "score_chosen": 8.0, "score_rejected": 5.0}
    data = write_lines(tmp_path / "data.jsonl", [record])
    expected = {"prompt": EARLIER, "chosen": [assistant("Good.")], "rejected": [assistant("Bad.")]}
    assert trained_texts(config_of(tiny_model, data)) == texts_of(tiny_model, [expected])


def test_messages_in_json_text_are_messages_in_every_kind_of_file(tmp_path: Path, tiny_model: Path) -> None:
    rows = [
        {"prompt": [user(f"Why {number}?")], "chosen": [assistant("Good.")], "rejected": [assistant("Bad.")]}
        for number in range(3)
    ]
    cells = [{key: json.dumps(value) for key, value in row.items()} for row in rows]
    write_lines(tmp_path / "cells.jsonl", cells)
    pq.write_table(pa.Table.from_pylist(cells), tmp_path / "cells.parquet")
    for name in ("cells.jsonl", "cells.parquet"):
        assert trained_texts(config_of(tiny_model, tmp_path / name)) == texts_of(tiny_model, rows)
    turns = [row["prompt"] + row["chosen"] for row in rows]
    data = write_lines(tmp_path / "sft.jsonl", [{"messages": json.dumps(one)} for one in turns])
    assert load_datasets(config_of(tiny_model, data, strategy="sft")).train["messages"][:] == turns


def test_rows_whose_arguments_differ_in_order_are_other_rows_to_the_token_cache(
    tmp_path: Path, encoding_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoding_model)
    arguments = SimpleNamespace(max_length=512, truncation_mode="keep_start")
    keys = set()
    for order in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        rows = load_datasets(config_of(encoding_model, write_lines(tmp_path / "a.jsonl", [tool_row(0, order)]))).train
        keys.add(token_cache.key_of(rows, tokenizer, arguments))
        token_cache.store("saved", rows)
        kept = token_cache.load("saved")
        assert kept is not None
        assert kept[:] == rows[:]
        token_cache.shutil.rmtree(token_cache.folder() / "saved")
    assert len(keys) == 2
