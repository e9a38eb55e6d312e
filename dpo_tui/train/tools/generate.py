"""Child that generates answers, for judging, chatting and making pairs: one load request, then any number of others.

Requests, by ``do``:

    load-run     run                  policy and reference of a run; result: device
    load-model   model, settings      any model, with settings of [model] as a training has them; result: device
    answers      prompts (id, messages, tools, number), who, max_new_tokens, n, temperature, top_p, seed,
                 batch_size
                                      sends {"kind": "answer", "id", "who", "number", "text", "tokens", "cut"};
                                      result: count. A prompt with a number gets one answer, which has that number
    reply        messages, who, max_new_tokens, temperature, seed
                                      sends {"kind": "text", "text"} while it generates; result: text, tokens, stopped

``who`` is ``tuned`` (the policy) or ``base`` (its reference); in ``answers`` a list of them.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TextStreamer

from dpo_tui.config.files import from_values
from dpo_tui.errors import TrainingError
from dpo_tui.runs.folder import RunFolder
from dpo_tui.train.evaluation.generation import (
    BATCH_SIZE,
    GeneratedAnswer,
    eos_token_ids,
    forked_rng,
    generate,
    prompt_token_ids,
)
from dpo_tui.train.model.device import choose_device
from dpo_tui.train.model.load import load_model, load_tokenizer
from dpo_tui.train.model.loaded_run import LoadedRun, load_run
from dpo_tui.train.tools.json_service import Send, serve


class Generator:
    """Holds the model that was loaded last, and handles the requests above."""

    def __init__(self) -> None:
        self.loaded: LoadedRun | None = None

    def work(self, request: dict[str, Any], send: Send) -> dict[str, Any]:
        """Handle a request.

        Raises:
            TrainingError: no model is loaded yet, or the request is unknown.
        """
        if request["do"] == "load-run":
            self.loaded = None  # frees the memory of the last model before the next is loaded
            self.loaded = load_run(RunFolder(Path(request["run"])))
        elif request["do"] == "load-model":
            self.loaded = None
            self.loaded = _load_model(request)
        elif self.loaded is None:
            raise TrainingError("no model is loaded yet")
        elif request["do"] == "answers":
            return {"count": _answers(self.loaded, request, send)}
        elif request["do"] == "reply":
            result: dict[str, Any] = _reply(self.loaded, request, send)
            return result
        else:
            raise TrainingError(f"unknown request: {request['do']}")
        return {"device": self.loaded.device.description}


def _load_model(request: dict[str, Any]) -> LoadedRun:
    settings = {"use_4bit": False, **request.get("settings", {})}
    config = from_values({**settings, "model_name": request["model"], "dataset": "-"})
    device = choose_device(config)
    tokenizer, _ = load_tokenizer(config)
    return LoadedRun(load_model(config, device).eval(), tokenizer, device)


def _answers(loaded: LoadedRun, request: dict[str, Any], send: Send) -> int:
    """Answer prompts batch by batch, each batch by every model, so that the first pairs of answers come early."""
    tokenizer, per_prompt = loaded.tokenizer, int(request.get("n", 1))
    seed = request.get("seed")
    options = {key: request[key] for key in ("temperature", "top_p") if request.get(key) is not None}
    wanted = [
        (prompt, number)
        for prompt in request["prompts"]
        for number in ([prompt["number"]] if "number" in prompt else range(per_prompt))
    ]
    most = int(request["max_new_tokens"])
    count, size = 0, int(request.get("batch_size", BATCH_SIZE))
    for start in range(0, len(wanted), size):
        batch = wanted[start : start + size]
        rows = [prompt_token_ids(tokenizer, prompt["messages"], prompt.get("tools")) for prompt, _ in batch]
        for who in request.get("who", ["tuned"]):
            with loaded.active_model(who) as model:
                answers = _generate_in_memory(
                    model,
                    tokenizer,
                    rows,
                    most,
                    seed=None if seed is None else _batch_seed(int(seed), start, *batch[0]),
                    options=options,
                )
                ends = eos_token_ids(model, tokenizer)
                for (prompt, number), sampled in zip(batch, answers, strict=True):
                    text = tokenizer.decode(sampled.answer, skip_special_tokens=True).strip()
                    cut = len(sampled.answer) >= most and sampled.answer[-1] not in ends
                    length = {"tokens": len(sampled.answer), "cut": cut}
                    send("answer", {"id": prompt["id"], "who": who, "number": number, "text": text, **length})
                    count += 1
    return count


def _generate_in_memory(
    model: Any, tokenizer: Any, rows: list[list[int]], most: int, *, seed: int | None, options: dict[str, Any]
) -> list[GeneratedAnswer]:
    """Answer prompts at once, or in smaller batches where the GPU's memory does not hold them all.

    Raises:
        torch.OutOfMemoryError: it does not hold one either.
    """
    size = len(rows)
    while True:
        try:
            return list(generate(model, tokenizer, rows, most, seed=seed, options=options, batch_size=size))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()


def _batch_seed(seed: int, start: int, prompt: dict[str, Any], number: int) -> int:
    """Return the seed of a batch: by its first answer where the caller numbers them, otherwise by its place.

    After an interruption the batches begin elsewhere, and by their place the same random state would sample answers
    again that are there already.
    """
    if "number" not in prompt:
        return seed + start
    digest = hashlib.blake2b(f"{seed} {prompt['id']} {number}".encode(), digest_size=6).digest()
    return int.from_bytes(digest)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _reply(loaded: LoadedRun, request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Answer one conversation, and send the text while it is generated."""
    tokenizer = loaded.tokenizer
    ids = torch.tensor([prompt_token_ids(tokenizer, request["messages"])])
    streamer = _SendingStreamer(tokenizer, send)
    temperature = request.get("temperature")
    sampling = {"do_sample": True, "temperature": float(temperature)} if temperature else {"do_sample": False}
    with (
        loaded.active_model(request.get("who", "tuned")) as model,
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
            **sampling,
        )
    answer = output[0, ids.shape[1] :].tolist()
    text = tokenizer.decode(answer, skip_special_tokens=True).strip()
    return {"text": text, "tokens": len(answer), "stopped": bool(answer) and answer[-1] in ends}


class _SendingStreamer(TextStreamer):  # type: ignore[misc]
    """Sends generated text in pieces that end at a word boundary, as TextStreamer cuts them."""

    def __init__(self, tokenizer: Any, send: Send) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._send = send

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Send a piece of text."""
        if text:
            self._send("text", {"text": text})


if __name__ == "__main__":
    sys.exit(serve(Generator().work))
