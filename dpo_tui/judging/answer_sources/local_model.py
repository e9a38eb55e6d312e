"""Answers of a model on this machine, batch by batch, from a ``generate`` child."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource, SampledAnswer
from dpo_tui.processes.torch_tool import TorchTool

_BATCH_SIZE = 32
"""Answers generated at once: a token costs little more for 32 than for 8, and the child halves it where memory ends."""


def load_generator(tool: TorchTool, model: str, settings: Mapping[str, Any] | None = None) -> None:
    """Load a model, or the result of a run for ``run:FOLDER``, into a ``generate`` child.

    Args:
        tool: the child.
        model: which one.
        settings: of a model, as the section [model] of a config has them; a run has its own.
    """
    run = model.removeprefix("run:")
    request: dict[str, Any] = {"do": "load-run", "run": run}
    if run == model:
        request = {"do": "load-model", "model": model, "settings": dict(settings or {})}
    for _ in tool.ask(request):
        pass


def local_answers(
    source: AnswerSource,
    requests: Sequence[AnswerRequest],
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
) -> Iterator[SampledAnswer]:
    """Yield the answers; see :func:`dpo_tui.judging.answer_sources.sample_answers.sample_answers`."""
    prompts = [{"id": one.id, "number": one.number, "messages": one.messages} for one in requests]
    request = {"do": "answers", "prompts": prompts, "max_new_tokens": max_new_tokens, "batch_size": _BATCH_SIZE}
    if temperature > 0:
        request |= {"temperature": temperature, "top_p": top_p, "seed": seed}
    with TorchTool("generate", environment=tool_environment()) as tool:
        load_generator(tool, source.model, source.settings)
        for message in tool.ask(request):
            if message["kind"] == "answer":
                yield SampledAnswer(
                    message["id"], message["number"], message["text"], message["cut"], message["tokens"]
                )
