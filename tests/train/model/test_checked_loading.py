"""Full fine-tuning of families whose weights have other names in files; and folders of which a part is missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.worker.checkpoints import mark_complete
from tests.support.families import build
from tests.support.training import finished_run, lines, losses, make_config, make_run, train

FULL = {"use_lora": False, "learning_rate": 3e-3, "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
QUICK = ("gemma3-wrapper", "gpt-neox", "mixtral")
SLOW = (
    "gemma3-text", "olmoe", "qwen2-moe", "qwen3-moe", "qwen3-next", "deepseek-v2", "deepseek-v3", "glm4-moe",
    "qwen3.5-wrapper",
)  # fmt: skip
FAMILIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
"""Families whose weights have other names, or other shapes, in files than in memory."""


@pytest.fixture(scope="module")
def family_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a model of a family."""
    folder = tmp_path_factory.mktemp("families")
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            made[name] = build(name, folder / name, tiny_model)
        return made[name]

    return model


def edit(folder: Path, change: Callable[[dict[str, Any]], object], name: str = "model.safetensors") -> Path:
    """Change the tensors of a file."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})
    return folder


def drop(part: str) -> Callable[[dict[str, Any]], object]:
    """Removes the first tensor whose name has this part."""
    return lambda weights: weights.pop(next(name for name in weights if part in name))


def evaluated(folder: RunFolder) -> dict[str, Any]:
    from dpo_tui.train.tools.evaluate_run import evaluate

    request = {"run": str(folder.path), "data": None, "kl_prompts": 0}
    metrics: dict[str, Any] = evaluate(request, lambda *_: None)["metrics"]
    return metrics


def own_loss(base: Path, result: Path, folder: RunFolder) -> float:
    """The mean DPO loss of the held-out pairs, from log-probabilities summed by hand, one sequence at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dpo_tui.config.files import load
    from dpo_tui.data.load_split import split_version
    from dpo_tui.runs.atomic_files import read_json
    from dpo_tui.train.trainer.run_datasets import load_datasets

    config = load(folder.config).config
    rows = load_datasets(config, version=split_version(read_json(folder.receipt))).held_out
    tokenizer = AutoTokenizer.from_pretrained(result)
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (result, base)
    )

    @torch.no_grad()
    def logp(model: Any, row: Any, answer: str) -> Any:
        def ids(messages: Any, **options: bool) -> list[int]:
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        prompt = ids(row["prompt"], add_generation_prompt=True)
        whole = ids(row["prompt"] + row[answer])
        scores = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
        chosen = scores.gather(1, torch.tensor(whole[1:])[:, None])[:, 0]
        return chosen[len(prompt) - 1 :].sum()

    total = 0.0
    for row in rows:
        better, worse = (logp(policy, row, name) - logp(reference, row, name) for name in ("chosen", "rejected"))
        total -= float(torch.nn.functional.logsigmoid(config.beta * (better - worse)))
    return total / len(rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_eval_of_full_fine_tuning_is_the_loss_of_the_model_that_was_saved(
    home: Path, family_model: Callable[[str], Path], tiny_pairs: Path, name: str
) -> None:
    from transformers import AutoConfig

    base = family_model(name)
    folder = finished_run(base, tiny_pairs, **FULL, eval_split=0.2, per_device_eval_batch_size=1)
    expected = own_loss(base, folder.merged, folder)
    assert expected < 0.69, "the run must have learnt something, or this proves nothing"
    rate = getattr(AutoConfig.from_pretrained(base).get_text_config(), "router_aux_loss_coef", 0.0)
    last = [line for line in lines(folder.metrics) if "eval_loss" in line][-1]
    for metrics in (evaluated(folder), last):
        # TRL adds the loss that balances the experts.
        preference_loss = metrics["eval_loss"] - rate * metrics.get("eval_aux_loss", 0.0)
        assert preference_loss == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_full_fine_tuning_resumed_is_full_fine_tuning_undisturbed(
    home: Path, family_model: Callable[[str], Path], tiny_pairs: Path, name: str
) -> None:
    from safetensors.torch import load_file

    config = make_config(
        family_model(name), tiny_pairs, **FULL, max_steps=4, save_total_limit=5, eval_split=0.0, sample_prompts=0
    )
    whole = train(config)
    folder = make_run(config)
    shutil.copytree(whole.checkpoints / "checkpoint-2", folder.checkpoints / "checkpoint-2")
    train(config, folder)
    expected = losses(whole)
    assert losses(folder) == {step: expected[step] for step in (3, 4)}
    found, weights = (load_file(each.merged / "model.safetensors") for each in (folder, whole))
    assert found.keys() == weights.keys()
    assert all(found[key].equal(weights[key]) for key in weights)


DAMAGE = {
    "a layer of gemma3": ("gemma3-wrapper", drop("q_proj"), "are in none of its files"),
    "the embedding of gemma3": ("gemma3-wrapper", drop("embed_tokens"), "are in none of its files"),
    "the head of gpt_neox": ("gpt-neox", drop("embed_out"), "lm_head.weight"),
    "one expert": ("mixtral", drop("experts.2.w1"), "cannot convert them"),
    "one side of an expert": ("mixtral", drop("experts.3.w2"), "have another shape"),
    "a weight too many": ("gpt-neox", lambda weights: weights.update(new=weights["embed_out.weight"] * 1), "(new)"),
    "another shape": (
        "gpt-neox",
        lambda weights: weights.update({"embed_out.weight": weights["embed_out.weight"][:-1].clone()}),
        "have another shape",
    ),
}


# One of each kind: a tensor in no file, experts that cannot be converted, a weight too many, and one of another shape.
QUICK_DAMAGE = ("a layer of gemma3", "one expert", "a weight too many", "another shape")


@pytest.mark.parametrize(
    "damage", [name if name in QUICK_DAMAGE else pytest.param(name, marks=pytest.mark.slow) for name in sorted(DAMAGE)]
)
def test_a_result_that_is_not_whole_is_neither_resumed_nor_evaluated_nor_talked_to(
    home: Path, family_model: Callable[[str], Path], tiny_pairs: Path, damage: str
) -> None:
    from dpo_tui.train.model.loaded_run import load_run

    name, change, said = DAMAGE[damage]
    config = make_config(family_model(name), tiny_pairs, **FULL, max_steps=2, eval_split=0.2, sample_prompts=0)
    folder = train(config)
    checkpoint = edit(folder.checkpoints / "checkpoint-2", change)
    mark_complete(checkpoint)
    edit(folder.merged, change)
    for load in (lambda: train(config, folder), lambda: evaluated(folder), lambda: load_run(folder)):
        with pytest.raises(TrainingError) as caught:
            load()
        assert said in caught.value.message
        assert caught.value.hint


def test_a_base_model_of_which_a_weight_is_missing_is_refused_and_one_too_many_is_named(
    home: Path, tiny_model: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    """The next stage of a chain starts from such a folder, too."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    edit(base, lambda weights: weights.update(vision=weights["model.norm.weight"] * 1))
    config = make_config(base, tiny_pairs, max_steps=1, eval_split=0.0, sample_prompts=0)
    folder = train(config)
    warnings = [event["message"] for event in lines(folder.events) if event["kind"] == "warning"]
    assert any("1 weights that the model does not have (vision); they are not loaded" in text for text in warnings)
    edit(base, drop("layers.1.mlp.up_proj"))
    with pytest.raises(TrainingError, match=r"model\.layers\.1\.mlp\.up_proj\.weight.* would be random numbers"):
        train(config)


ADAPTER_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a matrix too few": (drop("lora_B"), "are not in its file"),
    "a layer too many": (
        lambda weights: weights.update({"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": _any(weights)}),
        "for layers that the model does not adapt",
    ),
    "another rank": (
        lambda weights: weights.update({name: weight[:2].clone() for name, weight in weights.items() if "A" in name}),
        "its adapter is not",
    ),
    "the whole module gone": (drop("embed_tokens"), "its adapter is not"),
}


def _any(weights: dict[str, Any]) -> Any:
    return next(iter(weights.values())).clone()


@pytest.mark.parametrize("damage", sorted(ADAPTER_DAMAGE))
def test_an_adapter_that_is_not_whole_is_neither_resumed_nor_evaluated_nor_talked_to(
    home: Path, tiny_model: Path, tiny_pairs: Path, damage: str
) -> None:
    from dpo_tui.train.model.loaded_run import load_run

    change, said = ADAPTER_DAMAGE[damage]
    config = make_config(
        tiny_model, tiny_pairs, max_steps=2, eval_split=0.2, sample_prompts=0, modules_to_save=["embed_tokens"]
    )
    folder = train(config)
    checkpoint = edit(folder.checkpoints / "checkpoint-2", change, "adapter_model.safetensors")
    mark_complete(checkpoint)
    edit(folder.adapter, change, "adapter_model.safetensors")
    for load in (lambda: train(config, folder), lambda: evaluated(folder), lambda: load_run(folder)):
        with pytest.raises(TrainingError) as caught:
            load()
        assert said in caught.value.message


def test_the_best_checkpoint_is_loaded_in_the_same_way(
    home: Path, family_model: Callable[[str], Path], tiny_pairs: Path
) -> None:
    """Trainer's own loading at the end of training reads files by name, too."""
    from dpo_tui.train.trainer import trainer_registry

    trainers: list[Any] = []
    config = make_config(
        family_model("mixtral"), tiny_pairs, **FULL, max_steps=4, save_total_limit=5, eval_split=0.0, sample_prompts=0
    )
    check = trainer_registry.check_checkpoint_loading
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_registry, "check_checkpoint_loading", lambda made: (trainers.append(made), check(made)))
        folder = train(config)
    (trainer,) = trainers
    name = "model.layers.0.mlp.experts.down_proj"
    last = trainer.model.state_dict()[name].clone()
    trainer.state.best_model_checkpoint = str(folder.checkpoints / "checkpoint-2")
    trainer._load_best_model()
    best = trainer.model.state_dict()[name]
    assert not best.equal(last)
    from safetensors import safe_open

    with safe_open(folder.checkpoints / "checkpoint-2" / "model.safetensors", "pt") as stored:
        expert = stored.get_tensor("model.layers.0.block_sparse_moe.experts.3.w2.weight")
    assert best[3].equal(expert)


def test_an_adapter_on_renamed_weights_is_loaded_whole(
    home: Path, family_model: Callable[[str], Path], tiny_pairs: Path
) -> None:
    from dpo_tui.train.model.loaded_run import load_run

    folder = finished_run(family_model("mixtral"), tiny_pairs, eval_split=0.2)
    measured = [line["eval_loss"] for line in lines(folder.metrics) if "eval_loss" in line][-1]
    assert evaluated(folder)["eval_loss"] == pytest.approx(measured, abs=1e-5)
    load_run(folder)
    assert json.loads((folder.adapter / "adapter_config.json").read_text())["target_parameters"] is not None
