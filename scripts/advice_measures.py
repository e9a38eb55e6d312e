"""What is measured of a labelled run without the advice: does the run show the fault that its label names?

The policy and the model it started from score pairs with transformers and PEFT alone. `holds` has one criterion for
each kind of label; a run that does not meet it is no run of that kind, and is left out of the set before it is scored.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from advice_recipes import Row

NOT_MEASURED: dict[str, float] = {
    "pool": 1, "pool_accuracy": math.nan, "trained_accuracy": math.nan, "margin_nats": math.nan,
    "nll_before": math.nan, "nll_after": math.nan, "ended": math.nan,
}  # fmt: skip
"""Of a run without a result."""
_BATCH = 16
_MOST_TRAINED = 48


def measure(
    base: Path, result: Path, pool: Sequence[Row], trained: Sequence[Row], length_normalised: bool
) -> dict[str, Any]:
    """Score the pairs of ``pool``, all labelled right, and the first of the training data as labelled there.

    Args:
        base: folder of the model that the run started from.
        result: folder of the run's adapter, or of its model.
        pool: pairs that the run has not seen.
        trained: pairs that it was trained on.
        length_normalised: compare log-probabilities a token, as ``sigmoid_norm`` does, and not of whole answers.

    Returns:
        Shares and nats: accuracies of the implicit rewards, mean absolute margin (of whole answers), negative
        log-likelihood a token of the chosen answers before and after, and share of answers that end with an
        end-of-text token.
    """
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    before = AutoModelForCausalLM.from_pretrained(base, dtype="float32").eval()
    is_adapter = (result / "adapter_config.json").is_file()
    kind = AutoPeftModelForCausalLM if is_adapter else AutoModelForCausalLM
    after = kind.from_pretrained(result, dtype="float32").eval()
    rows = [*pool, *(row for row in trained[:_MOST_TRAINED] if "rejected" in row)]
    texts = [_tokens(tokenizer, row, which) for row in rows for which in ("chosen", "rejected")]
    old, new = _log_probabilities(before, texts), _log_probabilities(after, texts)
    counts = [len(answer) for _, answer in texts]
    gains = [(a - b) / (count if length_normalised else 1) for a, b, count in zip(new, old, counts, strict=True)]
    right = [float(chosen > rejected) for chosen, rejected in zip(gains[::2], gains[1::2], strict=True)]
    nats = [abs((new[i] - old[i]) - (new[i + 1] - old[i + 1])) for i in range(0, 2 * len(pool), 2)]
    chosen_tokens = sum(counts[: 2 * len(pool) : 2])
    ends = tokenizer.eos_token_id
    return {
        "pool": len(pool),
        "pool_accuracy": round(fmean(right[: len(pool)]), 4),
        "trained_accuracy": round(fmean(right[len(pool) :] or [math.nan]), 4),
        "margin_nats": _rounded(fmean(nats)),
        "nll_before": _rounded(-sum(old[: 2 * len(pool) : 2]) / chosen_tokens),
        "nll_after": _rounded(-sum(new[: 2 * len(pool) : 2]) / chosen_tokens),
        "ended": round(fmean(float(ends in answer) for _, answer in texts), 4),
    }


def base_nll(base: Path, pool: Sequence[Row]) -> float:
    """The negative log-likelihood a token of the chosen answers under a model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [_tokens(tokenizer, row, "chosen") for row in pool]
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32").eval()
    return _rounded(-sum(_log_probabilities(model, texts)) / sum(len(answer) for _, answer in texts))


def holds(kind: str, measured: Mapping[str, Any], run: Path) -> str:
    """Return what speaks against the label, or an empty text.

    Args:
        kind: of the label, a key of the criteria below.
        measured: of the run, by `measure`.
        run: folder with the run's metrics and receipt, for what the run itself counted.
    """
    measured = {key: math.nan if value is None else value for key, value in measured.items()}
    measured.setdefault("nll_whole", math.nan)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    data = json.loads((run / "receipt.json").read_text())["data"]
    evaluations = [line for line in lines if "eval_loss" in line]
    accuracy = next(
        (line["eval_rewards/accuracies"] for line in reversed(evaluations) if "eval_rewards/accuracies" in line), None
    )
    low, high = wilson(accuracy, data["held_out"]) if accuracy is not None and data["held_out"] else (0.0, 1.0)
    pool_low, pool_high = wilson(measured["pool_accuracy"], measured["pool"])
    rise = measured["nll_after"] - measured["nll_before"]
    first, last = (evaluations[0]["eval_loss"], evaluations[-1]["eval_loss"]) if evaluations else (math.nan, math.nan)
    margin = abs(evaluations[0].get("eval_rewards/margins", 0)) if evaluations else 0.0
    steps = max((line["step"] for line in lines), default=0)
    numbers = [line[key] for line in lines for key in ("loss", "grad_norm", "eval_loss") if key in line]
    criteria: dict[str, tuple[bool, str]] = {
        "healthy": (
            pool_low > 0.5 and low > 0.5 and last < first and rise < 0.5,
            "accuracy on the pool and on the run's own held-out pairs above 0.5, both by the 95 % interval, "
            "held-out loss below its start, chosen answers less than 0.5 nats a token less likely",
        ),
        "healthy-sft": (last < 0.95 * first and rise < 0, "held-out loss 5 % lower, chosen answers more likely"),
        "noise": (low <= 0.5, "accuracy on the run's own held-out pairs not above chance"),
        "noise-unseen": (pool_low <= 0.5, "accuracy on the pool not above chance"),
        "partly-swapped": (low <= 0.5 or pool_low > 0.5, "no more on its own pairs than on the pool"),
        "swapped": (pool_high < 0.45, "accuracy on the pool below 0.45"),
        "few": (data["held_out"] < 10 and pool_low > 0.5, "fewer than 10 pairs held out, and it learns"),
        "learning": (data["held_out"] == 0 and pool_low > 0.5, "nothing held out, and it learns"),
        "nan": (any(not math.isfinite(value) for value in numbers), "a number of the run is not finite"),
        "rate-high": (not rise < 1, "chosen answers a nat a token less likely, or not a number"),
        "rate-low": (measured["margin_nats"] < 0.5, "margins below half a nat an answer"),
        "beta-low": (measured["margin_nats"] > 30, "margins above 30 nats an answer"),
        "beta-high": (measured["margin_nats"] < 3, "margins below 3 nats an answer"),
        "trivial": (measured["trained_accuracy"] >= 0.99 and (accuracy or 0) >= 0.99, "all pairs told apart"),
        "leak": (measured["leaked"] >= 0.1, "a tenth of the held-out prompts is trained on"),
        "broken": (measured["nll_before"] > 1.5 * measured["nll_whole"], "the base half as bad again as undamaged"),
        "no-end": (measured["ended"] == 0, "no answer ends with an end-of-text token"),
        "over-fitting": (
            last > min((line["eval_loss"] for line in evaluations), default=math.inf) + 0.05
            and measured["trained_accuracy"] > high,
            "held-out loss 0.05 above its best, trained pairs above the interval of held-out accuracy",
        ),
        "duplicates": (measured["copies"] >= 0.3, "three training pairs in ten are copies"),
        "too-short": (steps <= 15 and pool_low < 0.75, "at most 15 steps"),
        "wrong-reference": (margin > 1e-3, "margins before step 1"),
        "answers-cut": (data["answers_cut"] >= 0.3 * data["train"], "three answers in ten are cut"),
    }  # fmt: skip
    met, criterion = criteria[kind]
    return "" if met else f"not met: {criterion}"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson for a share of ``count``."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def _tokens(tokenizer: Any, row: Row, which: str) -> tuple[list[int], list[int]]:
    prompt = [{"role": "user", "content": row["prompt"]}]
    answer = [{"role": "assistant", "content": row[which]}]
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*prompt, *answer], tokenize=True, return_dict=False)
    return start, whole[len(start) :]


def _log_probabilities(model: Any, texts: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    import torch

    sums: list[float] = []
    for begin in range(0, len(texts), _BATCH):
        batch = texts[begin : begin + _BATCH]
        width = max(len(prompt) + len(answer) for prompt, answer in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        weights = torch.zeros(len(batch), width - 1)
        for index, (prompt, answer) in enumerate(batch):
            tokens = prompt + answer
            ids[index, : len(tokens)] = torch.tensor(tokens)
            mask[index, : len(tokens)] = 1
            weights[index, len(prompt) - 1 : len(tokens) - 1] = 1
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        taken = logits.gather(2, ids[:, 1:, None])[..., 0]
        sums += [float(value) for value in torch.where(weights > 0, taken, 0.0).sum(1)]
    return sums


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
