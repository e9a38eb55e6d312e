"""Scores for answers: a reward model's, or a run's own DPO reward. More is better.

Requests, by ``do``:

    load-reward  model      a sequence classifier with one output; result: device
    load-run     run        policy and reference of a run; result: device
    score        items (id, messages, answer)
                            tells {"kind": "score", "id", "answer", "value"}; result: count
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dpo_tui.config.files import from_values
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.evaluation.generation import SampledAnswer, eos_token_ids, prompt_token_ids
from dpo_tui.train.evaluation.kl import answer_logps
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.trained import Trained, config_of, load_trained
from dpo_tui.train.tools.json_service import Tell, serve

_LONGEST = 4096


class Scorer:
    """Holds what was loaded last."""

    def __init__(self) -> None:
        self.trained: Trained | None = None
        self.reward: tuple[Any, Any] | None = None
        self.beta = 0.1

    def work(self, request: dict[str, Any], tell: Tell) -> dict[str, Any]:
        """Do what a request asks.

        Raises:
            TrainingError: nothing is loaded, the model gives no single score, or nobody knows the request.
        """
        if request["do"] == "load-run":
            folder = RunFolder(Path(request["run"]))
            self.trained, self.beta = load_trained(folder), config_of(folder).beta
            return {"device": self.trained.device.words}
        if request["do"] == "load-reward":
            return self._load_reward(str(request["model"]))
        if request["do"] != "score" or (self.trained is None and self.reward is None):
            raise TrainingError(f"nothing is loaded that could {request['do']}")
        for item in request["items"]:
            value = self._own(item) if self.trained is not None else self._reward(item)
            tell("score", {"id": item["id"], "answer": item["answer"], "value": value})
        return {"count": len(request["items"])}

    def _load_reward(self, name: str) -> dict[str, Any]:
        device = choose_device(from_values({"model_name": name, "dataset": "-"}))
        options = {"device_map": {"": 0}} if device.kind == "cuda" else {}
        model = AutoModelForSequenceClassification.from_pretrained(name, dtype=device.dtype, **options)
        if model.config.num_labels != 1:
            raise TrainingError(
                f"{name} gives {model.config.num_labels} numbers, a reward model gives one",
                hint="name a reward model, or use --judge-model for a model that talks",
            )
        self.reward = (model.eval(), AutoTokenizer.from_pretrained(name))
        return {"device": device.words}

    def _own(self, item: dict[str, Any]) -> float:
        """β (log π − log π_ref) of the answer: the reward that DPO has trained (arXiv 2305.18290, equation 5)."""
        trained = self.trained
        assert trained is not None  # noqa: S101 (looked at by the caller)
        tokens = trained.tokenizer(item["answer"], add_special_tokens=False)["input_ids"]
        ends = eos_token_ids(trained.policy, trained.tokenizer)[:1]
        sampled = [SampledAnswer(prompt_token_ids(trained.tokenizer, item["messages"]), [*tokens, *ends])]
        with trained.active_model("tuned") as policy:
            (ours,) = answer_logps(policy, sampled)
        with trained.active_model("base") as base:
            (theirs,) = answer_logps(base, sampled)
        return float(self.beta * (ours - theirs))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _reward(self, item: dict[str, Any]) -> float:
        assert self.reward is not None  # noqa: S101 (looked at by the caller)
        model, tokenizer = self.reward
        talk = [*item["messages"], {"role": "assistant", "content": item["answer"]}]
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(talk, tokenize=False)
        else:
            text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in talk)
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=_LONGEST).to(model.device)
        return float(model(**inputs).logits[0, 0])


if __name__ == "__main__":
    sys.exit(serve(Scorer().work))
