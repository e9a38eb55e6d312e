"""Recipes of further labelled runs: other losses, weak labels, few held-out pairs, broken bases; on two models.

The labels follow from what was done, and were written before a rule had seen the runs. Runs of the second model
(`advice_second_model.py`) have a seed that nobody looked at: the rules are only scored on them.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from advice_recipes import Change, Recipe, Row, flipped, noisy, small_and_noisy, swapped, trivial

FIRST_SEED, SECOND_SEED, THIRD_SEED, FOURTH_SEED = 5, 8, 13, 17
"""Seeds of the runs of the demo's model, of the second model, and of the second model at other rates, twice."""
_BETA_5 = {"loss_type": ["sigmoid_norm"], "beta": 5.0}
_MPO = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 0.1]}
_ROBUST = {"loss_type": ["robust"], "label_smoothing": 0.1}
_EXO = {"loss_type": ["exo_pair"], "label_smoothing": 0.01}
_SMOOTH_AOT = {"loss_type": ["aot"], "label_smoothing": 0.1}
_FILLER = " Please note that we are always glad to help you."


def _loss(name: str, **settings: Any) -> dict[str, Any]:
    return {"loss_type": [name], **settings}


def held_out(count: int, share: float, held_out_share: float | None = None) -> Change:
    """Hold out few pairs, or none; flip a share of the labels."""

    def change(train: list[Row], kept: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        few = rng.sample(kept, count)
        return flipped(train, share, rng), flipped(few, share if held_out_share is None else held_out_share, rng)

    return change


def longer_is_better(train: list[Row], kept: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Make every chosen answer the rejected one with a filler sentence: only the length differs."""

    def padded(row: Row) -> Row:
        return {**row, "chosen": row["rejected"] + _FILLER * rng.randint(1, 2)}

    return [padded(row) for row in train], [padded(row) for row in kept]


def prefix_is_worse(train: list[Row], kept: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Cut every rejected answer out of the chosen one's first words."""

    def cut(row: Row) -> Row:
        return {**row, "rejected": " ".join(row["chosen"].split()[: rng.randint(2, 4)])}

    return [cut(row) for row in train], [cut(row) for row in kept]


def demonstrations(count: int | None = None) -> Change:
    """Make demonstrations of the chosen answers."""

    def change(train: list[Row], kept: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        rows = rng.sample(train, count) if count else train
        return _demonstrations(rows), _demonstrations(kept)

    return change


def _demonstrations(rows: list[Row]) -> list[Row]:
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]


def nan_layer(folder: Path) -> None:
    """Make the norm of the second layer NaN."""
    _edit(folder, "model.layers.1.input_layernorm.weight", lambda weight: weight * float("nan"))


def nan_element(folder: Path) -> None:
    """Make one element of a matrix NaN."""

    def change(weight: Any) -> Any:
        weight[3, 5] = float("nan")
        return weight

    _edit(folder, "model.layers.0.mlp.down_proj.weight", change)


def overflow_mlp(folder: Path) -> None:
    """Scale a matrix so that the squares of the hidden states overflow: the last norm makes zeros of them."""
    _edit(folder, "model.layers.0.mlp.down_proj.weight", lambda weight: weight * 1e25)


def overflow_attention(folder: Path) -> None:
    """The same in the attention of the last layer but one."""
    _edit(folder, "model.layers.1.self_attn.o_proj.weight", lambda weight: weight * 1e25)


def other_ids(folder: Path) -> None:
    """Exchange the rows of the embedding, as if the tokenizer were that of another model."""

    def change(weight: Any) -> Any:
        import torch

        order = torch.randperm(len(weight) - 8, generator=torch.Generator().manual_seed(4)) + 8
        return torch.cat([weight[:8], weight[order]])

    _edit(folder, "model.embed_tokens.weight", change)


def shifted_ids(folder: Path) -> None:
    """Shift the rows of the embedding by one, as if the tokenizer had one special token more."""

    def change(weight: Any) -> Any:
        import torch

        return torch.cat([weight[:8], weight[8:].roll(1, dims=0)])

    _edit(folder, "model.embed_tokens.weight", change)


def _edit(folder: Path, name: str, change: Any) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name].to(torch.float32)).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _first(name: str, right: str, made: str, settings: dict[str, Any], change: Change, **more: Any) -> Recipe:
    common = {"max_steps": 56, "learning_rate": 1e-3, "eval_steps": 14}
    return Recipe(name, tuple(right.split()), made, common | settings, change, seed=FIRST_SEED, **more)


def _second(name: str, right: str, made: str, settings: dict[str, Any], change: Change, **more: Any) -> Recipe:
    common = {"max_steps": 60, "learning_rate": 2e-3, "eval_steps": 15}
    return Recipe(
        f"second-{name}",
        tuple(right.split()),
        made,
        common | settings,
        change,
        model="second",
        seed=SECOND_SEED,
        **more,
    )


def _real(name: str, right: str, made: str, settings: dict[str, Any], change: Change, **more: Any) -> Recipe:
    common = {"max_steps": 36, "learning_rate": 2e-4, "eval_steps": 18, "max_seq_length": 96, "looks_share": 0.02}
    return Recipe(
        f"real-{name}",
        tuple(right.split()),
        made,
        common | settings,
        change,
        model="real",
        seed=SECOND_SEED,
        **more,
    )


ON_DEMO_MODEL: tuple[Recipe, ...] = (
    _first("noise-short", "weak-signal", "labels by tossing a coin, 32 steps", {"max_steps": 32}, noisy(0.5)),
    _first(
        "noise-short-slow",
        "weak-signal",
        "labels by tossing a coin, 36 steps, rate 6e-4",
        {"max_steps": 36, "learning_rate": 6e-4},
        noisy(0.5),
    ),
    _first("noise-hinge", "weak-signal", "labels by tossing a coin, hinge", _loss("hinge"), noisy(0.5)),
    _first("noise-norm", "weak-signal", "labels by tossing a coin, sigmoid_norm, beta 5", _BETA_5, noisy(0.5)),
    _first(
        "noise-no-held-out", "weak-signal", "labels by tossing a coin, none held out", {}, held_out(0, 0.5)
    ),
    _first(
        "noise-epochs",
        "weak-signal over-fitting",
        "labels of 64 pairs by tossing a coin, 6 epochs",
        {"max_steps": None, "num_train_epochs": 6, "eval_steps": 24},
        small_and_noisy(64, 0.5),
    ),
    _first("swap-40", "weak-signal", "40 % of the labels swapped, 40 steps", {"max_steps": 40}, noisy(0.4)),
    _first("swap-40-apo", "weak-signal", "40 % swapped, apo_zero", _loss("apo_zero", max_steps=44), noisy(0.4)),
    _first(
        "swap-30-short",
        "weak-signal unclear",
        "30 % swapped, 30 steps, rate 3e-4: too few for a result",
        {"max_steps": 30, "learning_rate": 3e-4, "eval_steps": 10},
        noisy(0.3),
    ),
    _first("fine-hinge", "healthy", "hinge, one label in ten wrong", _loss("hinge"), noisy(0.1)),
    _first("fine-apo", "healthy", "apo_zero, one label in ten wrong", _loss("apo_zero"), noisy(0.1)),
    _first("fine-norm", "healthy", "sigmoid_norm, beta 5, one label in ten wrong", _BETA_5, noisy(0.1)),
    _first("fine-robust", "healthy", "robust, one label in ten wrong", _ROBUST, noisy(0.1)),
    _first("fine-exo", "healthy", "exo_pair, one label in ten wrong", _EXO, noisy(0.1)),
    _first("fine-mpo", "healthy", "sigmoid + bco_pair + sft, one label in ten wrong", _MPO, noisy(0.1)),
    _first("fine-ipo", "healthy", "ipo, beta 0.5, one label in ten wrong", _loss("ipo", beta=0.5), noisy(0.1)),
    _first("still-hinge", "rate-low", "hinge, rate 1e-6", _loss("hinge", learning_rate=1e-6), noisy(0.1)),
    _first("still-norm", "rate-low", "sigmoid_norm, beta 5, rate 1e-6", _BETA_5 | {"learning_rate": 1e-6}, noisy(0.1)),
    _first("still-ipo", "rate-low", "ipo, rate 1e-6", _loss("ipo", learning_rate=1e-6), noisy(0.1)),
    _first("wild-hinge", "rate-high", "hinge, rate 0.05", _loss("hinge", learning_rate=5e-2), noisy(0.1)),
    _first("wild-norm", "rate-high", "sigmoid_norm, rate 0.05", _BETA_5 | {"learning_rate": 5e-2}, noisy(0.1)),
    _first(
        "wild-apo",
        "rate-high chosen-falls kl",
        "apo_zero, rate 0.05",
        _loss("apo_zero", learning_rate=5e-2),
        noisy(0.1),
    ),
    _first("swapped-hinge", "swapped", "hinge, labels of the training data swapped", _loss("hinge"), swapped),
    _first("swapped-norm", "swapped", "sigmoid_norm, labels of the training data swapped", _BETA_5, swapped),
    _first("trivial-hinge", "trivial", "hinge, every rejected answer is xx xx", _loss("hinge"), trivial),
    _first("beta-norm", "beta", "sigmoid_norm with beta 0.1, right for sigmoid", _BETA_5 | {"beta": 0.1}, noisy(0.1)),
    _first("few-3", "few-held-out", "3 pairs held out", {}, held_out(3, 0.1)),
    _first("few-6-hinge", "few-held-out", "6 pairs held out, hinge", _loss("hinge"), held_out(6, 0.1)),
    _first("none-held-out", "learning", "nothing held out", {}, held_out(0, 0.1)),
    _first("few-noise", "weak-signal", "6 pairs held out, labels by tossing a coin", {}, held_out(6, 0.5)),
    _first("nan-base", "nan", "NaN in a norm of the base, no KL", {"kl_prompts": 0}, noisy(0.1), damage=nan_layer),
    _first("overflow-base", "broken-base", "hidden states of the base overflow", {}, noisy(0.1), damage=overflow_mlp),
    _first("length", "trivial", "chosen is rejected and a filler sentence", {}, longer_is_better),
    _first("other-tokenizer", "broken-base", "token ids of another tokenizer", {}, noisy(0.1), damage=other_ids),
    _first(
        "fine-sft",
        "healthy",
        "demonstrations, strategy sft",
        {"strategy": "sft", "kl_prompts": 0},
        demonstrations(),
    ),
)  # fmt: skip

ON_SECOND_MODEL: tuple[Recipe, ...] = (
    _second("noise-short", "weak-signal", "labels by tossing a coin, 34 steps", {"max_steps": 34}, noisy(0.5)),
    _second("noise-ipo", "weak-signal", "labels by tossing a coin, ipo", _loss("ipo"), noisy(0.5)),
    _second("noise-robust", "weak-signal", "labels by tossing a coin, robust", _ROBUST, noisy(0.5)),
    _second(
        "noise-no-held-out",
        "weak-signal",
        "labels by tossing a coin, apo_zero, none held out",
        _loss("apo_zero"),
        held_out(0, 0.5),
    ),
    _second("swap-40", "weak-signal", "40 % of the labels swapped, 44 steps", {"max_steps": 44}, noisy(0.4)),
    _second("swap-40-norm", "weak-signal", "40 % swapped, sigmoid_norm, beta 5", _BETA_5, noisy(0.4)),
    _second(
        "swap-30",
        "healthy",
        "30 % swapped, 110 steps, all held-out pairs",
        {"max_steps": 110, "eval_steps": 22},
        noisy(0.3),
        held_out_pairs=87,
    ),
    _second("fine", "healthy", "sigmoid, one label in ten wrong", {}, noisy(0.1)),
    _second("fine-hinge", "healthy", "hinge, one label in ten wrong", _loss("hinge"), noisy(0.1)),
    _second("fine-ipo", "healthy", "ipo, one label in ten wrong", _loss("ipo"), noisy(0.1)),
    _second("fine-apo", "healthy", "apo_zero, one label in eight wrong", _loss("apo_zero"), noisy(0.12)),
    _second("fine-norm", "healthy", "sigmoid_norm, beta 5, one label in ten wrong", _BETA_5, noisy(0.1)),
    _second("fine-nca", "healthy", "nca_pair, one label in ten wrong", _loss("nca_pair"), noisy(0.1)),
    _second("fine-bco", "healthy", "bco_pair, one label in ten wrong", _loss("bco_pair"), noisy(0.1)),
    _second("fine-aot", "healthy", "aot with label smoothing, one label in ten wrong", _SMOOTH_AOT, noisy(0.1)),
    _second("fine-discopop", "healthy", "discopop, one label in ten wrong", _loss("discopop", beta=0.05), noisy(0.1)),
    _second(
        "fine-sft-loss",
        "healthy",
        "sigmoid + sft, one label in ten wrong",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        noisy(0.1),
    ),
    _second(
        "fine-full",
        "healthy",
        "all weights, one label in ten wrong",
        {"use_lora": False, "learning_rate": 2e-4, "kl_prompts": 0},
        noisy(0.1),
    ),
    _second("still-hinge", "rate-low", "hinge, rate 2e-6", _loss("hinge", learning_rate=2e-6), noisy(0.1)),
    _second("still-apo", "rate-low", "apo_zero, rate 2e-6", _loss("apo_zero", learning_rate=2e-6), noisy(0.1)),
    _second("wild-ipo", "rate-high kl", "ipo, rate 0.1", _loss("ipo", learning_rate=0.1), noisy(0.1)),
    _second("wild-robust", "rate-high", "robust, rate 0.1", _ROBUST | {"learning_rate": 0.1}, noisy(0.1)),
    _second("swapped-apo", "swapped", "apo_zero, labels of the training data swapped", _loss("apo_zero"), swapped),
    _second("swapped-ipo", "swapped", "ipo, labels of the training data swapped", _loss("ipo"), swapped),
    _second("trivial-norm", "trivial", "sigmoid_norm, every rejected answer is xx xx", _BETA_5, trivial),
    _second("beta-hinge", "beta", "hinge, beta 30", _loss("hinge", beta=30.0), noisy(0.1)),
    _second("few-4", "few-held-out", "4 pairs held out", {}, held_out(4, 0.1)),
    _second("few-7-norm", "few-held-out", "7 pairs held out, sigmoid_norm", _BETA_5, held_out(7, 0.1)),
    _second("none-held-out", "learning", "nothing held out, apo_zero", _loss("apo_zero"), held_out(0, 0.1)),
    _second("nan-base", "nan", "one NaN in a matrix of the base", {}, noisy(0.1), damage=nan_element),
    _second(
        "nan-base-hinge",
        "nan",
        "one NaN in a matrix of the base, hinge, nothing held out",
        _loss("hinge", kl_prompts=0),
        held_out(0, 0.1),
        damage=nan_element,
    ),
    _second("overflow-base", "broken-base", "attention overflows", {}, noisy(0.1), damage=overflow_attention),
    _second("prefix", "trivial", "rejected is the beginning of chosen", {}, prefix_is_worse),
    _second("other-tokenizer", "broken-base", "token ids off by one", {}, noisy(0.1), damage=shifted_ids),
    _second(
        "memorised-hinge",
        "over-fitting",
        "hinge, 48 pairs, 16 epochs, one label in four wrong",
        _loss("hinge", max_steps=None, num_train_epochs=16, eval_steps=32),
        small_and_noisy(48, 0.25),
    ),
    _second(
        "fine-sft",
        "healthy",
        "demonstrations, strategy sft",
        {"strategy": "sft", "kl_prompts": 0},
        demonstrations(),
    ),
    _second(
        "memorised-sft",
        "over-fitting",
        "16 demonstrations, 24 epochs, strategy sft, rate 5e-3",
        {
            "strategy": "sft", "kl_prompts": 0, "max_steps": None, "num_train_epochs": 24, "eval_steps": 16,
            "learning_rate": 5e-3,
        },
        demonstrations(16),
    ),
)  # fmt: skip

ON_REAL_MODEL: tuple[Recipe, ...] = (
    _real("fine", "healthy", "sigmoid, one label in ten wrong", {}, noisy(0.1), held_out_pairs=32),
    _real("noise", "weak-signal", "labels by tossing a coin", {}, noisy(0.5), held_out_pairs=32),
    _real(
        "other-tokenizer", "broken-base", "token ids off by one", {}, noisy(0.1), held_out_pairs=32, damage=shifted_ids
    ),
    _real(
        "fine-norm", "healthy", "sigmoid_norm, beta 5, one label in ten wrong", _BETA_5, noisy(0.1), held_out_pairs=32
    ),
)


def _third(recipe: Recipe) -> Recipe:
    """The same fault with other pairs, another seed, another length and, where it is not the fault, a lower rate."""
    rate = recipe.settings["learning_rate"]
    steps = recipe.settings["max_steps"]
    changed = {
        "learning_rate": 8e-4 if rate == 2e-3 else rate,
        "max_steps": steps + 6 if steps else steps,
    }
    name = recipe.name.replace("second-", "third-")
    return replace(recipe, name=name, seed=THIRD_SEED, settings={**recipe.settings, **changed})


AT_ANOTHER_RATE: tuple[Recipe, ...] = tuple(map(_third, ON_SECOND_MODEL))
"""Made after the rules had been changed for what the second model's runs showed, and scored once."""


def _fourth(recipe: Recipe) -> Recipe:
    """The third set with other pairs, and with settings that suit the loss where the label says healthy."""
    # With β 0.1 ipo aims at 5 nats a token, sigmoid_norm with β 5 multiplies the rate, and discopop has a minimum on
    # the wrong side: those runs were no healthy ones.
    suited = {
        "third-fine-ipo": {"beta": 0.5, "learning_rate": 4e-4},
        "third-fine-norm": {"learning_rate": 2e-4},
        "third-swap-40-norm": {"learning_rate": 2e-4},
        "third-few-7-norm": {"learning_rate": 2e-4},
        "third-fine-discopop": {"loss_type": ["robust"], "label_smoothing": 0.1, "beta": 0.1},
    }
    name = recipe.name.replace("third-", "fourth-")
    return replace(recipe, name=name, seed=FOURTH_SEED, settings={**recipe.settings, **suited.get(recipe.name, {})})


AT_SUITED_SETTINGS: tuple[Recipe, ...] = tuple(map(_fourth, AT_ANOTHER_RATE))
"""Made after the rules had been changed for what the third set showed, and scored once."""
