"""A model as the judge: asked twice, with the sides changed, as models favour a place (arXiv 2306.05685)."""

import http.client
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dpo_tui.errors import DpoTuiError, UsageError
from dpo_tui.http_post import post_json
from dpo_tui.judging.judging_session import Session, Verdict
from dpo_tui.processes.torch_tool import TorchTool

Prompt = list[dict[str, Any]]
Ask = Callable[[str], str]
"""Put a question to a model and return what it says."""
KEY_VARIABLE = "DPO_TUI_JUDGE_KEY"
_SECONDS = 120.0
_LONGEST_VERDICT = 512
_QUESTION = """\
Two assistants answered the same request. Judge which answer serves the person better: correct, helpful, honest, to the
point. Length alone is no merit, and the order in which they are shown means nothing.

[Request]
{prompt}

[Answer A]
{first}

[Answer B]
{second}

Say in one sentence why, then end with exactly one of [[A]] if A is better, [[B]] if B is better, [[C]] if neither."""
_VERDICT = re.compile(r"\[\[\s*([ABC])\s*\]\]")


class JudgeModelError(DpoTuiError):
    """A judge model behind an endpoint did not answer, or not in the way that OpenAI's API does."""


@dataclass
class PositionBias:
    """What asking twice showed.

    Attributes:
        asked: pairs judged.
        contradicted: pairs on which the two orders gave different winners.
        first: contradictions in which the answer shown first won both times.
        unread: replies without a verdict.
    """

    asked: int = 0
    contradicted: int = 0
    first: int = 0
    unread: int = 0

    def note(self, replies: list[str | None], verdict: Verdict) -> None:
        """Count one pair, asked about in both orders."""
        self.asked += 1
        self.unread += replies.count(None)
        if verdict == "tie" and None not in replies and replies != ["C", "C"]:
            self.contradicted += 1
            self.first += replies == ["A", "A"]

    def words(self) -> str:
        """Say how far the judge can be trusted."""
        if not self.asked:
            return "The judge model was asked nothing."
        return (
            f"Asked in both orders, the judge model contradicted itself on {self.contradicted} of {self.asked} pairs "
            f"(counted as ties), {self.first} times in favour of the answer shown first; {self.unread} replies had no "
            "verdict."
        )


def judge_by_model(session: Session, ask: Ask, name: str) -> Iterator[PositionBias]:
    """Have a model judge every pair that has no verdict yet; verdicts are kept as they come.

    Args:
        session: with its answers.
        ask: puts a question to the model.
        name: of the model, for the records.

    Yields:
        What asking twice has shown so far.
    """
    bias = PositionBias()
    while (ballot := session.next()) is not None:
        verdict, replies = ask_twice(ask, ballot.prompt, ballot.left, ballot.right)
        bias.note(replies, verdict)
        session.vote(ballot, verdict, by=f"model {name}", orders=replies)
        yield bias


def ask_twice(ask: Ask, prompt: Prompt, left: str, right: str) -> tuple[Verdict, list[str | None]]:
    """Ask which of two answers is better, in both orders.

    Returns:
        left, right or tie (also when the two orders contradict each other), and what was said each time: A, B, C, None.
    """
    straight = read_verdict(ask(_question(prompt, left, right)))
    changed = read_verdict(ask(_question(prompt, right, left)))
    first: dict[str | None, Verdict] = {"A": "left", "B": "right"}
    second: dict[str | None, Verdict] = {"A": "right", "B": "left"}
    verdict = first.get(straight, "tie")
    return verdict if second.get(changed, "tie") == verdict else "tie", [straight, changed]


def read_verdict(reply: str) -> str | None:
    """Return A, B or C, the last one that a reply names; None without any."""
    found = _VERDICT.findall(reply)
    return str(found[-1]) if found else None


def endpoint(url: str, model: str) -> Ask:
    """Ask a model behind an OpenAI-compatible endpoint; its key, if it needs one, is in $DPO_TUI_JUDGE_KEY.

    Args:
        url: up to and with ``/v1``.
        model: as the endpoint calls it.

    Raises:
        UsageError: the address is no web address.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint {url}: expected an address such as http://localhost:8000/v1")

    def ask(question: str) -> str:
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
        body["max_tokens"] = _LONGEST_VERDICT
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            reply = post_json(f"{url.rstrip('/')}/chat/completions", body, headers=headers, timeout=_SECONDS)
            document: Any = json.loads(reply)
            return str(document["choices"][0]["message"]["content"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            raise JudgeModelError(
                f"{url}: the judge model did not answer: {error}",
                hint="verdicts so far are kept; the same command goes on with the rest",
            ) from error

    return ask


def local(tool: TorchTool, model: str) -> Ask:
    """Ask a model on this machine, in a child that stays loaded.

    Args:
        tool: a ``speak`` child.
        model: hub id or folder.

    Raises:
        ChildError: it cannot be loaded.
    """
    for _ in tool.ask({"do": "load-model", "model": model}):
        pass

    def ask(question: str) -> str:
        request = {
            "do": "reply",
            "messages": [{"role": "user", "content": question}],
            "max_new_tokens": _LONGEST_VERDICT,
        }
        return next(str(message["text"]) for message in tool.ask(request) if message["kind"] == "result")

    return ask


def _question(prompt: Prompt, first: str, second: str) -> str:
    request = "\n\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt)
    return _QUESTION.format(prompt=request, first=first, second=second)
