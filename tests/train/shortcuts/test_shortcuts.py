"""The check at the start: a shortcut that a model does not stand is off, and the run says why."""

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dpo_tui.errors import TrainingError
from tests.support.training import lines, losses, make_config, train

HAS_FUSED_HEAD = importlib.metadata.version("trl") >= "1.16"
OFF = {"on": False, "why": "", "tokens": 0, "tokens_plain": 0, "saved": 0.0}


def quick(model: Path, pairs: Path, **changes: Any) -> Any:
    values = {"sample_prompts": 0, "kl_prompts": 0, "max_steps": 3, "eval_split": 0.0, "save_steps": 1000}
    return make_config(model, pairs, **(values | changes))


def shortcuts(folder: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.receipt.read_text())["shortcuts"]
    return found


def notes(folder: Any, kind: str) -> str:
    return "\n".join(event["message"] for event in lines(folder.events) if event["kind"] == kind)


def _counts_positions_itself(forward: Any) -> Any:
    """A model that takes positions and ignores them, as some remote code does."""

    def changed(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    return changed


def _wants_a_flat_mask(forward: Any) -> Any:
    def changed(*args: Any, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        rows, length = attention_mask.shape
        return forward(*args, attention_mask=attention_mask.reshape(rows, length), **kwargs)

    return changed


@pytest.fixture
def odd_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the worker load a model whose backbone is changed so."""

    def use(change: Any) -> None:
        from dpo_tui.train import run_training
        from dpo_tui.train.model import load as loading

        def load(config: Any, device: Any, **options: Any) -> Any:
            made = loading.load_model(config, device, **options)
            made.model.forward = change(made.model.forward)
            return made

        monkeypatch.setattr(run_training, "load_model", load)

    return use


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_counts_positions_itself, r"scores of a real batch differ by [\d.]+ a token"),
        (_wants_a_flat_mask, "the model refuses it: ValueError: too many values"),
    ],
    ids=["positions ignored", "flat mask"],
)
def test_a_model_that_sharing_would_change_trains_without_it(
    home: Path, tiny_model: Path, tiny_pairs: Path, odd_model: Any, *, change: Any, reason: str
) -> None:
    """Never another training; the run goes on, plainly, and says why."""
    odd_model(change)
    folder = train(quick(tiny_model, tiny_pairs))
    assert re.search(reason, notes(folder, "warning"))
    report = shortcuts(folder)
    assert not report["share_prefix"]["on"]
    assert re.search(reason, report["share_prefix"]["why"])
    assert report["share_prefix"]["tokens"] == 0
    assert report["labelled_head"]["on"] is HAS_FUSED_HEAD
    plain = train(quick(tiny_model, tiny_pairs, share_prefix="off"))
    assert losses(folder) == losses(plain)


def test_on_refuses_a_model_that_cannot(home: Path, tiny_model: Path, tiny_pairs: Path, odd_model: Any) -> None:
    odd_model(_counts_positions_itself)
    with pytest.raises(TrainingError, match='share_prefix = "on": scores of a real batch differ'):
        train(quick(tiny_model, tiny_pairs, share_prefix="on"))


def test_dropout_leaves_sharing_off(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    folder = train(quick(tiny_model, tiny_pairs, disable_dropout=False, lora_dropout=0.1))
    assert "dropout is on" in shortcuts(folder)["share_prefix"]["why"]
    assert "dropout is on" in notes(folder, "note")


def test_pairs_that_begin_differently_share_nothing(home: Path, tiny_model: Path, tmp_path: Path) -> None:
    """keep_end cuts as much of the prompt as the answer needs: another beginning for each answer."""
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n} abcdefghijklmnopqrstuvwxyz", "chosen": "thanks!", "rejected": "late"} for n in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = train(quick(tiny_model, data, truncation_mode="keep_end", max_seq_length=16))
    assert shortcuts(folder)["share_prefix"] | {"why": ""} == OFF
    assert "the pairs have no common prompt" in notes(folder, "note")


def test_the_receipt_says_what_was_saved(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    """Which shortcuts were on, and the tokens that nobody had to compute."""
    report = shortcuts(train(quick(tiny_model, tiny_pairs)))
    assert report["share_prefix"]["on"]
    assert 0 < report["share_prefix"]["tokens"] < report["share_prefix"]["tokens_plain"]
    saved = 1 - report["share_prefix"]["tokens"] / report["share_prefix"]["tokens_plain"]
    assert report["share_prefix"]["saved"] == pytest.approx(saved, abs=1e-4)
    if HAS_FUSED_HEAD:
        assert 0 < report["labelled_head"]["positions"] < report["labelled_head"]["positions_plain"]
    else:
        assert report["labelled_head"]["why"] == "this TRL scores every position"


def test_off_is_off(home: Path, tiny_model: Path, tiny_pairs: Path) -> None:
    report = shortcuts(train(quick(tiny_model, tiny_pairs, share_prefix="off")))
    assert report["share_prefix"] == OFF | {"why": 'share_prefix = "off"'}


@pytest.mark.skipif(not HAS_FUSED_HEAD, reason="this TRL has no fused head")
def test_the_models_own_forward_is_not_taken_for_the_fused_one(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from dpo_tui.train.shortcuts.sparse_lm_head import has_fused_head

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert not has_fused_head(model)
    add_fused_lm_head(model)
    assert has_fused_head(model)
