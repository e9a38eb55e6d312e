"""Recipes of the fifth set of labelled runs: a GPT-NeoX and a GPT-2, and pairs that differ by degrees.

Written, and their labels fixed, before any rule was read or changed for them. `advice_measures.py` has the criterion
by which a run counts as one of its kind; runs that did not meet it were left out before the rules saw any.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advice_graded_pairs import graded_pairs
from advice_recipes import Change, Recipe, Row, flipped
from advice_recipes_by_loss import demonstrations

NEOX_SEED, GPT2_SEED = 29, 31
_TRAIN, _HELD_OUT = 640, 64
_FILLERS = (" Please note that we are always glad to help you.", " We value every message that we get from you.")


@dataclass(frozen=True)
class MeasuredRecipe(Recipe):
    """A recipe whose run is measured before its label counts.

    Attributes:
        kind: of the fault, a criterion of `advice_measures.holds`.
        graded: the pairs are graded ones, and else the demo's.
    """

    kind: str = "healthy"
    graded: bool = True


def graded(change: Change = lambda train, kept, _: (train, kept), train: int = _TRAIN, kept: int = _HELD_OUT) -> Change:
    """Take graded pairs in place of the demo's, and change them."""

    def make(_: list[Row], __: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
        rows, held_out = graded_pairs(train, rng, heldout=False), graded_pairs(kept, rng, heldout=True)
        return change(rows, held_out, rng)

    return make


def flips(train_share: float, kept_share: float | None = None) -> Change:
    """Swap a share of the labels, by chance."""
    shares = train_share, train_share if kept_share is None else kept_share
    return lambda train, kept, rng: (flipped(train, shares[0], rng), flipped(kept, shares[1], rng))


def copies(different: int) -> Change:
    """Repeat a few pairs until there are as many as before."""
    return lambda train, kept, rng: ([train[number % different] for number in range(len(train))], kept)


def seen_prompts(share: float) -> Change:
    """Put training pairs in place of a share of the held-out ones."""
    return lambda train, kept, rng: (
        train,
        rng.sample(train, round(share * len(kept))) + kept[round(share * len(kept)) :],
    )


def refusals(text: str) -> Change:
    """Make every rejected answer the same sentence."""
    return lambda train, kept, _: tuple([{**row, "rejected": text} for row in rows] for rows in (train, kept))  # type: ignore[return-value]


def padded(train: list[Row], kept: list[Row], rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Make every chosen answer the rejected one and filler sentences: only the length is rewarded."""

    def longer(row: Row) -> Row:
        return {**row, "chosen": row["rejected"] + "".join(rng.choices(_FILLERS, k=rng.randint(1, 3)))}

    return [longer(row) for row in train], [longer(row) for row in kept]


def no_end_token(folder: Path) -> None:
    """Take the end-of-text token out of the chat template."""
    for file in (folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        if file.is_file():
            file.write_text(file.read_text().replace("<|end|>' }}", "' }}").replace(" + '<|end|>'", ""))


def nan_weight(name: str) -> Callable[[Path], None]:
    """Make one number of a weight NaN."""

    def damage(weight: Any) -> Any:
        weight.view(-1)[7] = float("nan")
        return weight

    return lambda folder: _edit(folder, name, damage)


def permuted_ids(name: str) -> Callable[[Path], None]:
    """Give the tokens each other's rows of the embedding, as if the tokenizer were another model's."""

    def change(weight: Any) -> Any:
        import torch

        order = torch.randperm(len(weight) - 5, generator=torch.Generator().manual_seed(11)) + 5
        return torch.cat([weight[:5], weight[order]])

    return lambda folder: _edit(folder, name, change)


def moved_ids(name: str) -> Callable[[Path], None]:
    """Move the rows of the embedding by three, as if the tokenizer had three added tokens more."""

    def change(weight: Any) -> Any:
        import torch

        return torch.cat([weight[:5], weight[5:].roll(3, dims=0)])

    return lambda folder: _edit(folder, name, change)


def _edit(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name].to(torch.float32)).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _recipe(  # noqa: PLR0917 - the columns of the tables below
    model: str, kind: str, name: str, right: str, made: str, change: Change | None = None, **more: Any
) -> MeasuredRecipe:
    steps, every = (48, 16) if kind.startswith("healthy") else (40, 20)
    common: dict[str, Any] = {"max_steps": steps, "eval_steps": every, "per_device_train_batch_size": 8}
    common |= {"learning_rate": 1e-3 if model == "gpt_neox" else 2e-3, "max_seq_length": 200}
    options = {key: more.pop(key) for key in ("damage", "wrong_reference", "graded") if key in more}
    if change is None:
        change = graded()
    return MeasuredRecipe(
        f"{model.replace('_', '-').removeprefix('gpt-')}-{name}",
        tuple(right.split()),
        made,
        common | more,
        change,
        model=model,  # type: ignore[arg-type]
        seed=NEOX_SEED if model == "gpt_neox" else GPT2_SEED,
        kind=kind,
        **options,
    )


def _neox(kind: str, name: str, right: str, made: str, change: Change | None = None, **more: Any) -> MeasuredRecipe:
    return _recipe("gpt_neox", kind, name, right, made, change, **more)


def _gpt2(kind: str, name: str, right: str, made: str, change: Change | None = None, **more: Any) -> MeasuredRecipe:
    return _recipe("gpt2", kind, name, right, made, change, **more)


def _loss(name: str, **settings: Any) -> dict[str, Any]:
    return {"loss_type": [name], **settings}


_NORM = {"loss_type": ["sigmoid_norm"], "beta": 5.0}
_MIXED = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
_ROBUST = {"loss_type": ["robust"], "label_smoothing": 0.1}

HEALTHY: tuple[MeasuredRecipe, ...] = (
    _neox("healthy", "fine", "healthy", "sigmoid"),
    _neox("healthy", "fine-hinge", "healthy", "hinge", **_loss("hinge")),
    _neox("healthy", "fine-ipo", "healthy", "ipo, beta 0.5", **_loss("ipo", beta=0.5)),
    _neox("healthy", "fine-apo", "healthy", "apo_zero", **_loss("apo_zero")),
    _neox("healthy", "fine-norm", "healthy", "sigmoid_norm, beta 5", **_NORM | {"learning_rate": 4e-4}),
    _neox("healthy", "fine-robust", "healthy", "robust, label smoothing 0.1", **_ROBUST),
    _neox("healthy", "fine-full", "healthy", "all weights", use_lora=False, learning_rate=1e-4),
    _neox("healthy", "fine-epochs", "healthy", "two passes", graded(train=256), max_steps=None, num_train_epochs=2),
    _neox("healthy", "fine-firm", "healthy", "beta 0.3, cosine", beta=0.3, lr_scheduler_type="cosine"),
    _neox("healthy", "fine-demo", "healthy", "the demo's pairs, one label in eight wrong", flips(0.125), graded=False),
    _gpt2("healthy", "fine", "healthy", "sigmoid"),
    _gpt2("healthy", "fine-long", "healthy", "160 steps of 4 pairs", max_steps=160, per_device_train_batch_size=4),
    _gpt2("healthy", "fine-hinge", "healthy", "hinge, beta 0.2", **_loss("hinge", beta=0.2)),
    _gpt2("healthy", "fine-apo", "healthy", "apo_zero, beta 0.2", **_loss("apo_zero", beta=0.2)),
    _gpt2("healthy", "fine-nca", "healthy", "nca_pair", **_loss("nca_pair")),
    _gpt2("healthy", "fine-mixed", "healthy", "sigmoid + sft", **_MIXED),
    _gpt2("healthy", "fine-norm", "healthy", "sigmoid_norm, beta 3", **_NORM | {"beta": 3.0, "learning_rate": 1e-3}),
    _gpt2("healthy", "fine-rank", "healthy", "rank 4, rate 4e-3", lora_r=4, lora_alpha=8, learning_rate=4e-3),
    _gpt2("healthy", "fine-smooth", "healthy", "label smoothing 0.15", label_smoothing=0.15),
    _gpt2("healthy", "fine-demo", "healthy", "the demo's pairs, one label in six wrong", flips(0.167), graded=False),
    _gpt2(
        "healthy-sft", "fine-sft", "healthy", "demonstrations, strategy sft", graded(demonstrations()),
        strategy="sft", kl_prompts=0,
    ),
)  # fmt: skip

FAULTS: tuple[MeasuredRecipe, ...] = (
    _neox("noise", "noise", "weak-signal", "labels by tossing a coin", graded(flips(0.5))),
    _neox("noise", "noise-hinge", "weak-signal", "labels by tossing a coin, hinge", graded(flips(0.5)),
          **_loss("hinge")),
    _neox(
        "noise-unseen", "noise-none", "weak-signal", "labels by tossing a coin, none held out",
        graded(flips(0.5), kept=0),
    ),
    _gpt2("noise", "noise", "weak-signal", "labels by tossing a coin", graded(flips(0.5))),
    _gpt2(
        "noise", "noise-epochs", "weak-signal over-fitting", "labels by tossing a coin, 5 epochs of 128 pairs",
        graded(flips(0.5), train=128), max_steps=None, num_train_epochs=5,
    ),
    _gpt2(
        "noise", "noise-robust", "weak-signal", "labels by tossing a coin, robust", graded(flips(0.5)), **_ROBUST
    ),
    _neox("partly-swapped", "swap-40", "weak-signal unclear", "40 % swapped", graded(flips(0.4))),
    _gpt2("partly-swapped", "swap-40-ipo", "weak-signal unclear", "40 % swapped, ipo", graded(flips(0.4)),
          **_loss("ipo", beta=0.5)),
    _neox(
        "partly-swapped", "swap-25", "weak-signal healthy", "25 % of the demo's labels swapped", flips(0.25),
        graded=False,
    ),
    _gpt2("partly-swapped", "swap-25-apo", "weak-signal unclear healthy", "25 % swapped, apo_zero",
          graded(flips(0.25)), **_loss("apo_zero")),
    _neox("swapped", "swapped-apo", "swapped", "labels of the training data swapped, apo_zero",
          graded(flips(1.0, 0.0)), **_loss("apo_zero")),
    _gpt2("swapped", "swapped-norm", "swapped", "nine labels in ten swapped, sigmoid_norm", graded(flips(0.9, 0.0)),
          **_NORM | {"learning_rate": 1e-3}),
    _neox("few", "few-3", "few-held-out", "3 pairs held out", graded(kept=3)),
    _gpt2("few", "few-5-hinge", "few-held-out", "5 pairs held out, hinge", graded(kept=5), **_loss("hinge")),
    _neox("few", "few-8-norm", "few-held-out", "8 pairs held out, sigmoid_norm", graded(kept=8),
          **_NORM | {"learning_rate": 4e-4}),
    _gpt2("learning", "none-held-out", "learning", "nothing held out", graded(kept=0)),
    _gpt2("nan", "nan-base", "nan", "one NaN in a norm of the base", kl_prompts=0,
          damage=nan_weight("transformer.h.1.ln_1.weight")),
    _neox("nan", "nan-base", "nan", "one NaN in the attention of the base", **_loss("apo_zero"),
          damage=nan_weight("gpt_neox.layers.2.attention.dense.weight")),
    _neox("rate-high", "wild", "rate-high", "rate 0.05", learning_rate=5e-2),
    _gpt2("rate-high", "wild-hinge", "rate-high", "hinge, rate 0.2", **_loss("hinge", learning_rate=0.2)),
    _gpt2("rate-high", "wild-apo", "rate-high kl chosen-falls", "apo_zero, rate 0.1",
          **_loss("apo_zero", learning_rate=0.1)),
    _neox("rate-high", "wild-full", "rate-high", "all weights, rate 0.02", use_lora=False, learning_rate=2e-2),
    _neox("rate-low", "still", "rate-low", "rate 5e-7", learning_rate=5e-7),
    _gpt2("rate-low", "still-norm", "rate-low", "sigmoid_norm, rate 5e-7", **_NORM | {"learning_rate": 5e-7}),
    _gpt2("rate-low", "still-apo", "rate-low", "apo_zero, rate 2e-6", **_loss("apo_zero", learning_rate=2e-6)),
    _neox("rate-low", "still-ipo", "rate-low", "ipo, rate 2e-6", **_loss("ipo", learning_rate=2e-6)),
    _neox("beta-low", "beta-low", "beta", "beta 0.001", beta=0.001),
    _gpt2("beta-high", "beta-hinge", "beta", "hinge, beta 30", **_loss("hinge", beta=30.0)),
    _neox("beta-high", "beta-high", "beta", "beta 20", beta=20.0),
    _gpt2("beta-low", "beta-norm", "beta", "sigmoid_norm with beta 0.05", **_NORM | {"beta": 0.05}),
    _neox("trivial", "length", "trivial", "chosen is rejected and filler sentences", graded(padded)),
    _gpt2("trivial", "length-hinge", "trivial", "chosen is rejected and filler sentences, hinge", graded(padded),
          **_loss("hinge")),
    _gpt2("trivial", "refusal", "trivial", "every rejected answer is one refusal",
          graded(refusals("I cannot help with that."))),
    _neox("leak", "leak", "leak", "half of the held-out pairs are trained on", graded(seen_prompts(0.5))),
    _gpt2("leak", "leak-ipo", "leak", "all held-out pairs are trained on, ipo", graded(seen_prompts(1.0)),
          **_loss("ipo", beta=0.5)),
    _neox("broken", "other-tokenizer", "broken-base", "token ids of another tokenizer",
          damage=permuted_ids("gpt_neox.embed_in.weight")),
    _gpt2("broken", "other-tokenizer", "broken-base", "token ids off by three",
          damage=moved_ids("transformer.wte.weight")),
    _neox("no-end", "no-end", "no-end-token", "a template without end-of-text token", damage=no_end_token),
    _gpt2("no-end", "no-end-hinge", "no-end-token", "a template without end-of-text token, hinge", damage=no_end_token,
          **_loss("hinge")),
    _neox("over-fitting", "memorised", "over-fitting", "40 pairs, 20 epochs, one label in four wrong",
          graded(flips(0.25), train=40), max_steps=None, num_train_epochs=20, eval_steps=20),
    _gpt2("over-fitting", "memorised-hinge", "over-fitting", "hinge, 56 pairs, 16 epochs, one label in four wrong",
          graded(flips(0.25), train=56), max_steps=None, num_train_epochs=16, eval_steps=16, **_loss("hinge")),
    _gpt2("duplicates", "copies", "duplicates", "80 pairs, again and again", graded(copies(80))),
    _neox("too-short", "short", "too-short", "8 steps", max_steps=8, eval_steps=4),
    _gpt2("too-short", "short-apo", "too-short", "12 steps, apo_zero", **_loss("apo_zero", max_steps=12, eval_steps=6)),
    _neox("wrong-reference", "other-start", "wrong-reference", "starts from an adapter the reference lacks",
          wrong_reference=True),
    _gpt2("wrong-reference", "other-start-hinge", "wrong-reference", "the same with hinge",
          wrong_reference=True, **_loss("hinge")),
    _neox("answers-cut", "cut", "answers-cut", "most answers are cut", max_seq_length=48),
    _gpt2("answers-cut", "cut-ipo", "answers-cut", "most answers are cut, ipo", max_seq_length=56,
          **_loss("ipo", beta=0.5)),
)  # fmt: skip

FIFTH: tuple[MeasuredRecipe, ...] = (*HEALTHY, *FAULTS)
