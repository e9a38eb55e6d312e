"""ORPO, CPO and SimPO in real runs: the text that they train on, resume, merge, evaluation and card."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import TrainingError
from tests.support.data_files import assistant, user, write_lines
from tests.support.training import finished_run, lines, losses, make_config, make_run, train

STRATEGIES = ["orpo", "simpo", "cpo"]
ARGUMENTS: list[Any] = [{"level": 0.1234567890123456, "city": None}, {"level": "high"}, {}]
# As in ChatML, messages end with a newline after their end token; tool calls and absent content have their own text.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.content is defined else '(no content)' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.arguments | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

pytestmark = pytest.mark.usefixtures("home")


def called(arguments: Any) -> Message:
    function = {"name": "act", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}


def trainer_of(config: Any) -> Any:
    """The trainer of a run, built as the worker builds it, and its journal's events."""
    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.callbacks import RunCallback
    from dpo_tui.train.trainer.run_datasets import load_datasets
    from dpo_tui.train.trainer.trainer_registry import build_trainer
    from dpo_tui.train.worker.journal import Journal
    from dpo_tui.train.worker.stop_requests import StopRequests

    folder = make_run(config)
    device = choose_device(config)
    return build_trainer(
        config, folder, device, model=load_model(config, device), tokenizer=load_tokenizer(config)[0],
        rows=load_datasets(config), callback=RunCallback(Journal(folder), StopRequests(folder), None), resumes=False,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_trained_tokens_are_those_of_the_chat_template_on_the_row(
    tmp_path: Path, tiny_model: Path, strategy: str
) -> None:
    """TRL's own tokenising would append the end token behind the template's newline, and refuse arguments."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    rows = [
        {"prompt": [user(f"do {number}")], "chosen": [called(given)], "rejected": [assistant("No.")]}
        for number, given in enumerate(ARGUMENTS)
    ]
    trainer = trainer_of(
        make_config(model, write_lines(tmp_path / "rows.jsonl", rows), strategy=strategy, eval_split=0.0)
    )
    tokenizer = trainer.processing_class
    found = [trainer.data_collator([row]) for row in trainer.train_dataset]
    assert len(found) == len(rows)
    for row, batch in zip(rows, found, strict=True):
        for index, name in enumerate(("chosen", "rejected")):
            ids = batch["input_ids"][index][batch["attention_mask"][index] == 1].tolist()
            assert ids == tokenizer.apply_chat_template(row["prompt"] + row[name], tokenize=True)["input_ids"]
            answer = tokenizer.decode(batch["input_ids"][index][batch["completion_mask"][index] == 1])
            assert answer.endswith("<|im_end|>\n")
    assert '"level": 0.1234567890123456, "city": null' in tokenizer.decode(found[0]["input_ids"][0])


def test_trls_own_tokenising_is_another_one(tmp_path: Path, tiny_model: Path) -> None:
    """What our replacement is for; where this fails, TRL has mended it."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    from dpo_tui.train.model.device import choose_device
    from dpo_tui.train.model.load import load_model, load_tokenizer
    from dpo_tui.train.trainer.run_datasets import load_datasets

    rows = [{"prompt": "a b c", "chosen": "d e", "rejected": "f"}] * 4
    config = make_config(tiny_model, write_lines(tmp_path / "rows.jsonl", rows), eval_split=0.0)
    tokenizer = load_tokenizer(config)[0]
    trainer = ORPOTrainer(
        model=load_model(config, choose_device(config)),
        args=ORPOConfig(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False),
        train_dataset=load_datasets(config).train,
        processing_class=tokenizer,
    )
    ids = trainer.train_dataset[0]["chosen_input_ids"]
    assert tokenizer.decode(ids).endswith("<|im_end|>\n</s>")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_prompt_that_fills_the_length_is_dropped_and_counted(tmp_path: Path, tiny_model: Path, strategy: str) -> None:
    """TRL's own would train on an answer of no tokens, whose mean is not a number."""
    rows = [{"prompt": f"{n} a", "chosen": "b c", "rejected": "d"} for n in range(6)]
    rows.append({"prompt": " ".join(["please reset my password"] * 40), "chosen": "b", "rejected": "d"})
    pairs = write_lines(tmp_path / "pairs.jsonl", rows)
    folder = train(make_config(tiny_model, pairs, strategy=strategy, max_seq_length=48, eval_split=0.0, max_steps=7))
    assert all(loss == loss for loss in losses(folder).values())  # noqa: PLR0124 - only NaN differs from itself
    receipt = json.loads(folder.receipt.read_text())
    assert receipt["data"]["too_long"] == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stopped_run_resumes_with_the_losses_it_would_have_had(
    tiny_model: Path, tiny_pairs: Path, strategy: str
) -> None:
    config = make_config(
        tiny_model, tiny_pairs, strategy=strategy, max_steps=8, save_steps=4, save_total_limit=9, sample_prompts=0,
        eval_steps=4, logging_steps=1,
    )  # fmt: skip
    whole, resumed = train(config), make_run(config, name="resumed")
    shutil.copytree(whole.checkpoints / "checkpoint-4", resumed.checkpoints / "checkpoint-4")
    train(config, resumed)
    expected, found = losses(whole), losses(resumed)
    assert found.keys() == {5, 6, 7, 8}
    assert max(abs(found[step] - expected[step]) for step in found) <= 1e-5
    written = lines(whole.metrics)
    assert all("tokens_per_second" in line for line in written if "loss" in line and line["step"] > 1)
    evaluated = [line for line in written if "eval_loss" in line]
    assert evaluated and all("eval_rewards/accuracies" in line and "eval_entropy" in line for line in evaluated)


@pytest.mark.parametrize(("strategy", "summary"), [("orpo", "λ 0.2"), ("simpo", "β 2 · γ 1"), ("cpo", "β 0.1 · loss")])
def test_a_run_is_merged_evaluated_and_described(
    tiny_model: Path, tiny_pairs: Path, tmp_path: Path, strategy: str, summary: str
) -> None:
    from dpo_tui.judging.run_prompts import run_prompts
    from dpo_tui.train.tools.evaluate_run import evaluate
    from dpo_tui.train.tools.export_run import export

    changes = {"beta": 0.2} if strategy == "orpo" else {}
    folder = finished_run(tiny_model, tiny_pairs, strategy=strategy, **changes)
    request = {"run": str(folder.path), "target": str(tmp_path / "merged"), "merge": True, "precision": "fp32"}
    assert "logits differ by at most" in export(request, lambda *_: None)["check"]
    measured = evaluate({"run": str(folder.path), "data": None, "kl_prompts": 4}, lambda *_: None)
    assert 0 <= measured["metrics"]["eval_rewards/accuracies"] <= 1
    assert "eval_kl" not in measured["metrics"], "there is no reference"
    card = folder.model_card.read_text()
    assert summary in card
    assert run_prompts(folder, 2).held_out
    receipt = json.loads(folder.receipt.read_text())
    assert receipt["shortcuts"]["reference_once"] == {"on": False, "why": "this strategy has no reference"}


def test_a_pair_with_an_answer_of_no_tokens_is_left_out_and_said(tmp_path: Path, tiny_model: Path) -> None:
    """A template without an end token, and an answer without text: its mean log-probability is not a number."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    rows = [{"prompt": [user("a b")], "chosen": [assistant("c d")], "rejected": [assistant("e")]}] * 3
    rows.append({"prompt": [user("a b")], "chosen": [assistant("c")], "rejected": [assistant("")]})
    pairs = write_lines(tmp_path / "pairs.jsonl", rows)
    trainer = trainer_of(make_config(model, pairs, strategy="simpo", eval_split=0.0))
    assert len(trainer.train_dataset) == 3


def test_a_weight_of_a_loss_that_the_model_does_not_have_is_refused(tiny_model: Path, tiny_pairs: Path) -> None:
    with pytest.raises(TrainingError, match="no mixture of experts"):
        trainer_of(make_config(tiny_model, tiny_pairs, strategy="orpo", router_aux_loss_coef=0.1))


def test_activations_wait_in_main_memory_where_that_is_set(
    tiny_model: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's experimental trainers have no such argument."""
    from dpo_tui.train.trainer import reference_free_trainers

    entered: list[str] = []

    class Offloading:
        def __enter__(self) -> None:
            entered.append("step")

        def __exit__(self, *error: object) -> None:
            return None

    monkeypatch.setattr(reference_free_trainers, "get_act_offloading_ctx_manager", lambda model: Offloading())
    config = make_config(
        tiny_model, tiny_pairs, strategy="orpo", activation_offloading=True, max_steps=3, sample_prompts=0
    )
    train(config)
    assert len(entered) == config.max_steps
