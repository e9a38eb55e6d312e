"""SFT on answers alone, packing and NEFTune: exact against TRL, and refused where they cannot be."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_tui.config.files import from_values, load
from dpo_tui.config.schema import Config
from dpo_tui.errors import ConfigError, DataError, DpoTuiError
from dpo_tui.runs import store
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.start.prepare import prepare
from tests.support.tiny import WORDS
from tests.support.trained_both_ways import Trained, ours
from tests.support.training import make_config, make_run, train

STEPS = 12
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def marked_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, its template with markers around answers."""
    folder = tmp_path_factory.mktemp("marked") / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(MARKED)
    return folder


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of two and four turns, of many lengths."""
    shuffle = random.Random(11)

    def turn(role: str, most: int) -> dict[str, str]:
        return {"role": role, "content": " ".join(shuffle.choices(WORDS, k=shuffle.randint(2, most)))}

    path = tmp_path_factory.mktemp("conversations") / "chats.jsonl"
    rows = []
    for number in range(30):
        turns = [turn("user", 9), turn("assistant", 14)] * (1 + number % 2)
        rows.append({"messages": [{**one, "content": f"{one['content']} {number}"} for one in turns]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sft(model: Path, data: Path, **changes: Any) -> Config:
    values = {
        "strategy": "sft", "max_steps": STEPS, "max_seq_length": 96, "learning_rate": 5e-3, "eval_split": 0.0,
        "sample_prompts": 0, "kl_prompts": 0, "save_steps": 1000,
    }  # fmt: skip
    return make_config(model, data, **(values | changes))


def plain_trl(config: Config, rows: list[dict[str, Any]], **options: Any) -> Trained:
    """TRL's SFTTrainer with arguments that are written out here."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer, lora_config

    arguments = SFTConfig(
        output_dir=str(make_run(config).checkpoints),
        max_steps=STEPS,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_ratio,
        max_length=config.max_seq_length,
        logging_steps=1,
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        bf16=False,
        use_cpu=True,
        **options,
    )
    set_seed(config.seed)
    return Trained(
        SFTTrainer(
            model=load_model(config, choose_device(config)),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_tokenizer(config)[0],
            peft_config=lora_config(config),
        )
    )


def messages(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answered(path: Path) -> list[dict[str, Any]]:
    return [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in messages(path)]


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "everything": ({}, {}),
    "last-answer": ({"completion_only_loss": True}, {"completion_only_loss": True}),
    "answers": ({"assistant_only_loss": True}, {"assistant_only_loss": True}),
    "packed": ({"packing": True}, {"packing": True}),
    "packed-answers": ({"packing": True, "assistant_only_loss": True}, {"packing": True, "assistant_only_loss": True}),
    "wrapped": (
        {"packing": True, "trl": {"packing_strategy": "wrapped"}},
        {"packing": True, "packing_strategy": "wrapped"},
    ),
    "noise": ({"trl": {"neftune_noise_alpha": 5}}, {"neftune_noise_alpha": 5}),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", OPTIONS)
def test_every_step_is_trls(marked_model: Path, conversations: Path, name: str) -> None:
    """≤ 1e-4 apart over 12 steps in fp32."""
    settings, options = OPTIONS[name]
    config = sft(marked_model, conversations, **settings)
    rows = answered(conversations) if "completion_only_loss" in options else messages(conversations)
    plain, mine = plain_trl(config, rows, **options), ours(config)
    assert len(plain.log) == len(mine.log) == STEPS
    for one, other in zip(plain.log, mine.log, strict=True):
        for metric in ("loss", "grad_norm", "mean_token_accuracy", "num_tokens", "learning_rate"):
            assert other[metric] == pytest.approx(one[metric], abs=1e-4), (name, metric)
    assert torch.cosine_similarity(plain.weights, mine.weights, dim=0) >= 0.9999


@pytest.mark.usefixtures("home")
def test_the_three_losses_are_of_other_tokens(marked_model: Path, conversations: Path) -> None:
    """Counted in the batch: all of them, those of answers, those of the last answer."""
    counts = []
    for settings in ({}, {"assistant_only_loss": True}, {"completion_only_loss": True}):
        trainer = ours(sft(marked_model, conversations, max_steps=1, **settings)).trainer
        batch = trainer.data_collator([trainer.train_dataset[1]])
        counts.append(int((batch["labels"] != -100).sum()))
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.usefixtures("home")
def test_packed_conversations_do_not_see_each_other(marked_model: Path, conversations: Path) -> None:
    """The loss of a packed sequence is that of its conversations, each computed alone."""
    config = sft(marked_model, conversations, max_steps=1, packing=True, use_lora=False, max_seq_length=256)
    trainer = ours(config).trainer
    model = trainer.model.eval()
    row = trainer.train_dataset[0]
    batch = trainer.data_collator([row])
    with torch.no_grad():
        packed = model(**{name: value for name, value in batch.items() if name != "labels"}).logits[0]
    start, lengths = 0, row["seq_lengths"]
    assert len(lengths) > 1
    for length in lengths:
        ids = torch.tensor([row["input_ids"][start : start + length]])
        with torch.no_grad():
            alone = model(input_ids=ids).logits[0]
        assert torch.allclose(packed[start : start + length], alone, atol=1e-4)
        start += length


def test_packing_is_not_counted_as_rows_that_were_too_long(home: Path, marked_model: Path, conversations: Path) -> None:
    folder = train(sft(marked_model, conversations, max_steps=1, packing=True, eval_split=0.2))
    data = (read_json(folder.receipt) or {})["data"]
    assert data["too_long"] == 0 and data["train"] < data["rows"]
    assert "dropped" not in folder.events.read_text()


def refused(folder: Path, model: Path, data: Path, **settings: Any) -> DpoTuiError:
    path = folder / "sft.toml"
    values = {"model_name": str(model), "dataset": str(data), "strategy": "sft", "gpus": "none", **settings}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    with pytest.raises(DpoTuiError) as found:
        prepare(load(path))
    assert found.value.exit_code == 2 and store.all_runs() == []
    return found.value


def test_what_has_no_marked_answers_is_refused_before_the_start(
    home: Path, tmp_path: Path, tiny_model: Path, conversations: Path
) -> None:
    error = refused(tmp_path, tiny_model, conversations, assistant_only_loss=True)
    assert isinstance(error, ConfigError) and "does not say which tokens are answers" in error.message
    assert "{% generation %}" in (error.hint or "")

    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps({"text": f"some text {n}"}) + "\n" for n in range(20)))
    for name in ("assistant_only_loss", "completion_only_loss"):
        error = refused(tmp_path, tiny_model, plain, **{name: True})
        assert isinstance(error, DataError) and "plain text" in error.message and name in error.message

    open_ended = tmp_path / "open.jsonl"
    rows = [*messages(conversations)[:9], {"messages": [{"role": "user", "content": "a question without answer"}]}]
    rows.append({"messages": [*rows[0]["messages"], {"role": "user", "content": "and?"}]})
    open_ended.write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = refused(tmp_path, tiny_model, open_ended, completion_only_loss=True, eval_split=0.0)
    assert "do not end with an answer" in error.message


def test_a_template_that_trl_knows_needs_no_markers(
    home: Path, tmp_path: Path, tiny_model: Path, conversations: Path
) -> None:
    from importlib.util import find_spec

    root = Path((find_spec("trl").submodule_search_locations or [""])[0])  # type: ignore[union-attr]
    model = shutil.copytree(tiny_model, tmp_path / "qwen")
    shutil.copyfile(root / "chat_templates" / "qwen2_5.jinja", model / "chat_template.jinja")
    values = {"model_name": str(model), "dataset": str(conversations), "strategy": "sft", "gpus": "none"}
    path = tmp_path / "run.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    assert prepare(load(path, {"assistant_only_loss": True})).config.assistant_only_loss


@pytest.mark.parametrize("name", ["completion_only_loss", "assistant_only_loss", "packing"])
def test_preference_strategies_refuse_them(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*does nothing with strategy = dpo"):
        from_values({"model_name": "m", "dataset": "d", name: True})


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_noise_after_an_evaluation_before_the_first_step_is_that_of_trl_with_one(
    tiny_model: Path, tiny_pairs: Path
) -> None:
    """That evaluation draws a number for its loader: without one, the noise of every step is another."""
    from tests.support.trained_both_ways import plain_trl_evaluating

    values = {"eval_split": 0.2, "eval_steps": 100, "sample_prompts": 0, "kl_prompts": 0, "max_steps": 4}
    config = make_config(tiny_model, tiny_pairs, **values, trl={"neftune_noise_alpha": 5.0})
    with_one, without = (plain_trl_evaluating(config, on_start=on_start) for on_start in (True, False))
    mine = ours(config)
    for one, other, third in zip(with_one.log, mine.log, without.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert other["loss"] != pytest.approx(third["loss"], abs=1e-3)
