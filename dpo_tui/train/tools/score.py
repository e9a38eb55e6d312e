"""Child that scores answers, by a reward model or by the DPO reward of a run. Higher is better.

Requests, by ``do``:

    load-reward  model      a sequence classifier with one output; result: device
    load-run     run        policy and reference of a run; result: device
    score        items (id, messages, answer)
                            sends {"kind": "score", "id", "answer", "value"}; result: count
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dpo_tui.config.files import from_values
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.evaluation.generation import GeneratedAnswer, eos_token_ids, prompt_token_ids
from dpo_tui.train.evaluation.kl import answer_logps
from dpo_tui.train.model.checked_loading import load_checked
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.limited_rendering import limit_rendering
from dpo_tui.train.model.loaded_run import LoadedRun, config_of, load_run
from dpo_tui.train.tools.json_service import Send, serve

_UNLIMITED = 10**9
"""A tokenizer whose files name no longest text says 10**30."""


class Scorer:
    """Holds the models that were loaded, and handles the requests above. A run takes precedence over a reward model."""

    def __init__(self) -> None:
        self.loaded: LoadedRun | None = None
        self.reward_model: tuple[Any, Any] | None = None
        self.beta = 0.1

    def work(self, request: dict[str, Any], send: Send) -> dict[str, Any]:
        """Handle a request.

        Raises:
            TrainingError: nothing is loaded yet, the model has more than one output, or the request is unknown.
        """
        if request["do"] == "load-run":
            folder = RunFolder(Path(request["run"]))
            self.loaded, self.beta = load_run(folder), config_of(folder).beta
            return {"device": self.loaded.device.description}
        if request["do"] == "load-reward":
            return self._load_reward_model(str(request["model"]))
        if request["do"] != "score":
            raise TrainingError(f"unknown request: {request['do']}")
        score = self._score_function()
        for item in request["items"]:
            send("score", {"id": item["id"], "answer": item["answer"], "value": score(item)})
        return {"count": len(request["items"])}

    def _score_function(self) -> Callable[[dict[str, Any]], float]:
        if self.loaded is not None:
            return partial(_dpo_reward, self.loaded, self.beta)
        if self.reward_model is not None:
            return partial(_reward_model_score, self.reward_model)
        raise TrainingError("no run and no reward model is loaded yet: send load-run or load-reward first")

    def _load_reward_model(self, name: str) -> dict[str, Any]:
        device = choose_device(from_values({"model_name": name, "dataset": "-"}))
        options = {"device_map": {"": 0}} if device.kind == "cuda" else {}
        try:
            # A causal model loads as a classifier too, with a head of random numbers.
            model = load_checked(
                AutoModelForSequenceClassification, name, warn=_say_on_stderr, dtype=device.dtype, **options
            )
        except TrainingError as error:
            raise TrainingError(error.message, hint="name a reward model that was saved whole") from error
        if model.config.num_labels != 1:
            raise TrainingError(
                f"{name} gives {model.config.num_labels} numbers, a reward model gives one",
                hint="name a reward model, or use --judge-model for a model that talks",
            )
        limit_rendering()
        self.reward_model = (model.eval(), AutoTokenizer.from_pretrained(name, trust_remote_code=False))
        return {"device": device.description}


def _dpo_reward(loaded: LoadedRun, beta: float, item: dict[str, Any]) -> float:
    """Return β (log π − log π_ref) of an answer: the implicit reward of DPO (arXiv 2305.18290, equation 5)."""
    tokens = loaded.tokenizer(item["answer"], add_special_tokens=False)["input_ids"]
    # With the end-of-text token, as the pairs have it in training.
    ends = eos_token_ids(loaded.policy, loaded.tokenizer)[:1]
    sampled = [GeneratedAnswer(prompt_token_ids(loaded.tokenizer, item["messages"]), [*tokens, *ends])]
    with loaded.active_model("tuned") as policy:
        (policy_logps,) = answer_logps(policy, sampled)
    with loaded.active_model("base") as reference:
        (reference_logps,) = answer_logps(reference, sampled)
    return float(beta * (policy_logps - reference_logps))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _reward_model_score(reward_model: tuple[Any, Any], item: dict[str, Any]) -> float:
    """Return the output of a reward model (and its tokenizer) for a conversation that ends with the answer.

    Raises:
        TrainingError: the conversation is longer than the model can read.
    """
    model, tokenizer = reward_model
    conversation = [*item["messages"], {"role": "assistant", "content": item["answer"]}]
    if tokenizer.chat_template:
        # Not as text: the template has the special tokens, and the tokenizer would add them a second time.
        inputs = tokenizer.apply_chat_template(conversation, return_dict=True, return_tensors="pt")
    else:
        text = "\n\n".join(f"{message['role']}: {message['content']}" for message in conversation)
        inputs = tokenizer(text, return_tensors="pt")
    tokens, most = inputs["input_ids"].shape[1], _longest_text(model, tokenizer)
    if tokens > most:
        raise TrainingError(
            f"prompt {item['id']} with an answer of {len(item['answer']):,} characters has {tokens:,} tokens, and the "
            f"reward model reads at most {most:,}",
            hint="leave that prompt out, ask for shorter answers, or take a reward model that reads more",
        )
    return float(model(**inputs.to(model.device)).logits[0, 0])


def _longest_text(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a model can read, as its config and its tokenizer say."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(limit for limit in (positions, tokenizer.model_max_length, _UNLIMITED) if limit and limit > 0)


def _say_on_stderr(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(serve(Scorer().work))
