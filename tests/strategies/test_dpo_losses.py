"""The table of losses holds what TRL's own code computes."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_tui.config.sections.dpo_loss import Loss
from dpo_tui.strategies.dpo_losses import DPO_LOSSES, betas_of, loss_scale, with_sft_loss

TOKENS = 4
VARIANTS: list[dict[str, Any]] = [
    *({"loss_type": [name], "label_smoothing": 0.1 if name == "exo_pair" else 0.0} for name in DPO_LOSSES),
    *({"loss_type": [name], "label_smoothing": 0.2} for name in ("robust", "aot", "aot_unpaired", "exo_pair")),
    *({"loss_type": [name], "beta": 0.7} for name in ("ipo", "sppo_hard", "sigmoid_norm", "apo_zero")),
    {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.3]},
    {"loss_type": ["sigmoid"], "f_divergence_type": "js_divergence"},
    {"loss_type": ["hinge"], "f_divergence_type": "alpha_divergence"},
]


def trl_loss(settings: dict[str, Any], chosen: float, rejected: float) -> float:
    """The loss of one pair by DPOTrainer's own code, for log-ratios of whole answers of four tokens."""
    import torch
    from trl import DPOTrainer

    ids = torch.ones(2, 1 + TOKENS, dtype=torch.long)
    mask = torch.tensor([[0] + [1] * TOKENS] * 2)
    ratios = torch.tensor([chosen, rejected])
    zeros = torch.zeros(2, TOKENS)
    outputs = SimpleNamespace(
        log_probs=(ratios / TOKENS)[:, None].expand(2, TOKENS) - 1.0, entropy=zeros, mean_logits=zeros,
        is_top1=zeros.bool(), log_sum_sq_probs=zeros, loss=torch.tensor(0.0),
    )  # fmt: skip
    names = settings["loss_type"]

    class Model:
        training = True

        def __call__(self, **_: Any) -> Any:
            return outputs

    metrics: Any = {mode: {name: [] for name in METRICS} for mode in ("train", "eval")}
    trainer = SimpleNamespace(
        model=Model(), accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True, use_weighting=False,
        beta=settings.get("beta", 0.1),
        f_divergence_type=settings.get("f_divergence_type", "reverse_kl"), f_alpha_divergence_coef=0.5,
        label_smoothing=settings.get("label_smoothing", 0.0), loss_types=names,
        loss_weights=settings.get("loss_weights") or [1.0] * len(names), args=SimpleNamespace(discopop_tau=0.05),
        _metrics=metrics, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    reference = torch.full((1,), -float(TOKENS))
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask,
        "ref_chosen_logps": reference, "ref_rejected_logps": reference,
    }  # fmt: skip
    return float(DPOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False))


METRICS = (
    "entropy", "num_tokens", "logits/chosen", "logits/rejected", "mean_token_accuracy", "rewards/chosen",
    "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected",
)  # fmt: skip


def test_every_loss_of_the_schema_is_in_the_table() -> None:
    assert set(DPO_LOSSES) == set(Loss.__args__)


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_loss_starts_where_trl_starts_it_and_falls_as_low_as_trl_lets_it(settings: dict[str, Any]) -> None:
    scale = loss_scale(settings)
    if settings["loss_type"] == ["sft"]:
        assert scale is None, "it depends on the model"
        return
    assert scale is not None and scale.start is not None
    assert scale.start == pytest.approx(trl_loss(settings, 0.0, 0.0), rel=1e-5)
    assert scale.unit == pytest.approx((scale.start - scale.floor) / math.log(2))
    steps = [0.0, *(sign * 1.3**power for power in range(-10, 26) for sign in (1, -1))]
    lowest = min(trl_loss(settings, chosen, rejected) for chosen in steps for rejected in steps[::3])
    if settings["loss_type"] != ["robust"]:  # it has no lower bound
        share = (lowest - scale.floor) / (scale.start - scale.floor)
        assert -1e-5 <= share < 0.2, (lowest, scale)


def test_a_part_that_depends_on_the_model_has_no_start_but_the_rest_has_a_scale() -> None:
    scale = loss_scale({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]})
    assert scale is not None and scale.start is None and scale.unit == pytest.approx(1.0)
    weighted = loss_scale({"loss_type": ["sigmoid"], "use_weighting": True})
    assert weighted is not None and weighted.start is None


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": ["of tomorrow"]}, {"loss_type": ["exo_pair"]}, {"loss_type": ["ipo"], "beta": 0},
        {"loss_type": ["sigmoid"], "loss_weights": [1.0, 2.0]}, {"loss_type": ["sigmoid"], "loss_weights": "x"},
        {"loss_type": [{"a": 1}]},
    ],
)  # fmt: skip
def test_what_is_unknown_or_damaged_has_no_scale(settings: dict[str, Any]) -> None:
    assert loss_scale(settings) is None


@pytest.mark.parametrize(
    ("losses", "low", "high", "usual"),
    [
        (["sigmoid"], 0.01, 2.0, 0.1),
        (["sigmoid_norm"], 1.0, 20.0, 5.0),
        (["sigmoid", "bco_pair", "sft"], 0.01, 2.0, 0.1),
    ],
)
def test_each_loss_has_its_usual_beta(losses: list[str], low: float, high: float, usual: float) -> None:
    betas = betas_of({"loss_type": losses})
    assert betas is not None and (betas.low, betas.high, betas.usual) == (low, high, usual)


def test_losses_of_different_betas_and_sft_alone_have_none() -> None:
    assert betas_of({"loss_type": ["sigmoid", "sigmoid_norm"]}) is None
    assert betas_of({"loss_type": ["sft"]}) is None


def test_the_sft_loss_is_added_to_the_losses_that_a_run_has() -> None:
    assert with_sft_loss({}) == {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    mixed = {"loss_type": ["ipo", "hinge"], "loss_weights": [0.5, 0.7]}
    assert with_sft_loss(mixed) == {"loss_type": ["ipo", "hinge", "sft"], "loss_weights": [0.5, 0.7, 0.2]}
    assert with_sft_loss({"loss_type": ["sigmoid", "sft"]}) == {}
