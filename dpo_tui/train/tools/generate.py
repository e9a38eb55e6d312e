"""A model that answers: loaded once, then asked any number of times. For judging, chatting and making pairs.

Requests, by ``do``:

    load-run     run                  policy and reference of a run; result: device
    load-model   model, use_4bit      any model; result: device
    answers      prompts (id, messages), who, max_new_tokens, n, temperature, top_p, seed
                                      tells {"kind": "answer", "id", "who", "number", "text"}; result: count
    reply        messages, who, max_new_tokens, temperature, seed
                                      tells {"kind": "text", "text"} as it comes; result: text, tokens, stopped
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, TextStreamer

from dpo_tui.config.files import from_values
from dpo_tui.data.tokens.chat_template import DEFAULT_CHAT_TEMPLATE
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.evaluation.generation import BATCH_SIZE, eos_token_ids, forked_rng, generate, prompt_token_ids
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.load import load_model
from dpo_tui.train.model.trained import Trained, load_trained
from dpo_tui.train.tools.json_service import Tell, serve


class Generator:
    """Holds what was loaded last."""

    def __init__(self) -> None:
        self.trained: Trained | None = None

    def work(self, request: dict[str, Any], tell: Tell) -> dict[str, Any]:
        """Do what a request asks.

        Raises:
            TrainingError: nothing is loaded, or nobody knows the request.
        """
        if request["do"] == "load-run":
            self.trained = None  # one model at a time
            self.trained = load_trained(RunFolder(Path(request["run"])))
        elif request["do"] == "load-model":
            self.trained = None
            self.trained = _load_model(request)
        elif self.trained is None:
            raise TrainingError("no model is loaded yet")
        elif request["do"] == "answers":
            return {"count": _answers(self.trained, request, tell)}
        elif request["do"] == "reply":
            replied: dict[str, Any] = _reply(self.trained, request, tell)
            return replied
        else:
            raise TrainingError(f"unknown request: {request['do']}")
        return {"device": self.trained.device.words}


def _load_model(request: dict[str, Any]) -> Trained:
    values = {"model_name": request["model"], "dataset": "-", "use_4bit": bool(request.get("use_4bit"))}
    config = from_values(values)
    device = choose_device(config)
    tokenizer = AutoTokenizer.from_pretrained(config.model_name)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_CHAT_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Trained(load_model(config, device).eval(), tokenizer, device)


def _answers(trained: Trained, request: dict[str, Any], tell: Tell) -> int:
    """Answer prompts batch by batch, everyone in turn, so that the first pairs can be looked at early."""
    tokenizer, each = trained.tokenizer, int(request.get("n", 1))
    seed = request.get("seed")
    options = {key: request[key] for key in ("temperature", "top_p") if request.get(key) is not None}
    asked = [(prompt, number) for prompt in request["prompts"] for number in range(each)]
    count = 0
    for start in range(0, len(asked), BATCH_SIZE):
        part = asked[start : start + BATCH_SIZE]
        rows = [prompt_token_ids(tokenizer, prompt["messages"]) for prompt, _ in part]
        for who in request.get("who", ["tuned"]):
            with trained.active_model(who) as model:
                found = generate(
                    model,
                    tokenizer,
                    rows,
                    int(request["max_new_tokens"]),
                    seed=None if seed is None else int(seed) + start,
                    options=options,
                )
                for (prompt, number), sampled in zip(part, found, strict=True):
                    text = tokenizer.decode(sampled.answer, skip_special_tokens=True).strip()
                    tell("answer", {"id": prompt["id"], "who": who, "number": number, "text": text})
                    count += 1
    return count


@torch.no_grad()  # type: ignore[untyped-decorator]
def _reply(trained: Trained, request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    tokenizer = trained.tokenizer
    ids = torch.tensor([prompt_token_ids(tokenizer, request["messages"])])
    streamer = _ReportingStreamer(tokenizer, tell)
    temperature = request.get("temperature")
    manner = {"do_sample": True, "temperature": float(temperature)} if temperature else {"do_sample": False}
    with (
        trained.active_model(request.get("who", "tuned")) as model,
        forked_rng(model.device, int(request.get("seed") or 0)),
    ):
        ends = eos_token_ids(model, tokenizer)
        ids = ids.to(model.device)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=int(request["max_new_tokens"]),
            streamer=streamer,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=ends or None,
            **manner,
        )
    answer = output[0, ids.shape[1] :].tolist()
    text = tokenizer.decode(answer, skip_special_tokens=True).strip()
    return {"text": text, "tokens": len(answer), "stopped": bool(answer) and answer[-1] in ends}


class _ReportingStreamer(TextStreamer):  # type: ignore[misc]
    """Sends text as it comes, whole words at a time."""

    def __init__(self, tokenizer: Any, tell: Tell) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Send a piece."""
        if text:
            self._tell("text", {"text": text})


if __name__ == "__main__":
    sys.exit(serve(Generator().work))
