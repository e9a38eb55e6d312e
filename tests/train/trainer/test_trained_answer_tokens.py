"""Which tokens stage one trains, of several turns, with tool calls, cut and packed: those that TRL trains."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trained_both_ways import ours
from tests.train.trainer.test_sft_options import answered, plain_trl, sft

pytestmark = pytest.mark.slow

WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}"
    "<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOL = {
    "type": "function",
    "function": {
        "name": "refund",
        "description": "refund an order",
        "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}},
    },
}


def row(number: int) -> dict[str, Any]:
    """A question, a call, its result, an answer, and one more turn."""
    call = {"type": "function", "function": {"name": "refund", "arguments": {"order": number}}}
    return {
        "messages": [
            {"role": "user", "content": f"please refund order {number}"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "thank you"},
            {"role": "assistant", "content": "the refund is open " + "please ask support " * (number % 5)},
            {"role": "user", "content": "thank you how late is it"},
            {"role": "assistant", "content": f"the order {number} is late " + "help with an order " * (number % 3)},
        ],
        "tools": [TOOL],
    }


@pytest.fixture(scope="module")
def tool_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools") / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    return folder


@pytest.fixture(scope="module")
def tool_chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(12)))
    return path


def batches(trainer: Any) -> list[dict[str, list[Any]]]:
    """Each row of the prepared data as the collator hands it to the model."""
    collated = [trainer.data_collator([one]) for one in trainer.train_dataset]
    return [{name: value.tolist() for name, value in batch.items() if torch.is_tensor(value)} for batch in collated]


CASES: dict[str, tuple[dict[str, Any], int]] = {
    "answers": ({"assistant_only_loss": True}, 512),
    "answers, cut within one": ({"assistant_only_loss": True}, 204),
    "last answer": ({"completion_only_loss": True}, 512),
    "last answer, cut within it": ({"completion_only_loss": True}, 234),
    "packed answers": ({"packing": True, "assistant_only_loss": True}, 500),
    "packed answers, cut within one": ({"packing": True, "assistant_only_loss": True}, 204),
    "everything, packed": ({"packing": True}, 500),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", CASES)
def test_the_tokens_and_labels_are_trls(tool_model: Path, tool_chats: Path, name: str) -> None:
    options, length = CASES[name]
    config = sft(tool_model, tool_chats, max_steps=1, max_seq_length=length, **options)
    read = [json.loads(line) for line in tool_chats.read_text().splitlines()]
    if "completion_only_loss" in options:
        read = [pair | {"tools": one["tools"]} for pair, one in zip(answered(tool_chats), read, strict=True)]
    plain, mine = batches(plain_trl(config, read, **options).trainer), batches(ours(config).trainer)
    assert mine == plain
    labels = [one for batch in mine for one in batch["labels"]]
    trained = [[token for token in one if token != -100] for one in labels]
    assert any(trained)
    if "cut" in name:
        tokenizer = ours(config).trainer.processing_class
        ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert any(one[-1] not in (-100, ends) for one in labels), "a row ends in the middle of an answer"


@pytest.mark.usefixtures("home")
def test_a_call_is_trained_and_its_result_is_not(tool_model: Path, tool_chats: Path) -> None:
    trainer = ours(sft(tool_model, tool_chats, max_steps=1, max_seq_length=512, assistant_only_loss=True)).trainer
    labels = batches(trainer)[3]["labels"][0]
    text = trainer.processing_class.decode([token for token in labels if token != -100])
    assert text == (
        'refund({"order": 3})<|im_end|>the refund is open please ask support please ask support please ask support '
        "<|im_end|>the order 3 is late <|im_end|>"
    )
