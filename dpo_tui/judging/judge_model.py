"""A language model as the judge, asked about each pair in both orders.

Judge models favour an answer for its position (Zheng et al. 2023, arXiv 2306.05685): a verdict counts only if both
orders agree on it, and the disagreements are reported as position bias.
"""

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
JudgeModel = Callable[[str], str]
"""Answers a question: takes the text of one user's message, returns the model's reply."""
KEY_VARIABLE = "DPO_TUI_JUDGE_KEY"
"""Environment variable with the endpoint's API key."""
_TIMEOUT_SECONDS = 120.0
_MAX_REPLY_TOKENS = 512
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
_VERDICT_MARK = re.compile(r"\[\[\s*([ABC])\s*\]\]")


class JudgeModelError(DpoTuiError):
    """A judge model behind an endpoint did not answer, or not in the way that OpenAI's API does."""


@dataclass
class PositionBias:
    """Disagreements of a judge model with itself when the order of the answers is swapped.

    Attributes:
        asked: number of pairs judged.
        contradicted: pairs on which the two orders gave different winners.
        first: contradictions in which the answer shown first won both times.
        unread: replies without a verdict in them, of two a pair.
    """

    asked: int = 0
    contradicted: int = 0
    first: int = 0
    unread: int = 0

    def add(self, replies: list[str | None], verdict: Verdict) -> None:
        """Count one pair by the results of :func:`ask_twice`."""
        self.asked += 1
        self.unread += replies.count(None)
        if verdict == "tie" and None not in replies and replies != ["C", "C"]:
            self.contradicted += 1
            self.first += replies == ["A", "A"]

    def summary(self) -> str:
        """Return how far the judge model can be trusted, as a sentence."""
        if not self.asked:
            return "The judge model was asked nothing."
        return (
            f"Asked in both orders, the judge model contradicted itself on {self.contradicted} of {self.asked} pairs "
            f"(counted as ties), {self.first} times in favour of the answer shown first; {self.unread} replies had no "
            "verdict."
        )


def judge_by_model(session: Session, judge: JudgeModel, name: str) -> Iterator[PositionBias]:
    """Let a model judge every pair that has no verdict yet; each verdict is recorded at once.

    Args:
        session: with all its answers.
        judge: the model.
        name: of the model, for the records.

    Yields:
        The position bias so far, after each pair.
    """
    bias = PositionBias()
    while (pair := session.next()) is not None:
        verdict, replies = ask_twice(judge, pair.prompt, pair.left, pair.right)
        bias.add(replies, verdict)
        session.vote(pair, verdict, by=f"model {name}", orders=replies)
        yield bias


def ask_twice(judge: JudgeModel, prompt: Prompt, left: str, right: str) -> tuple[Verdict, list[str | None]]:
    """Ask which of two answers is better, in both orders.

    Returns:
        The verdict: left, right, or tie, also where the two orders contradict each other. And the two replies: A or B
        for the answer shown first or second, C for neither, None for no verdict.
    """
    left_first = read_verdict(judge(_question(prompt, left, right)))
    right_first = read_verdict(judge(_question(prompt, right, left)))
    if_left_first: dict[str | None, Verdict] = {"A": "left", "B": "right"}
    if_right_first: dict[str | None, Verdict] = {"A": "right", "B": "left"}
    verdict = if_left_first.get(left_first, "tie")
    agreed = if_right_first.get(right_first, "tie") == verdict
    return verdict if agreed else "tie", [left_first, right_first]


def read_verdict(reply: str) -> str | None:
    """Return A, B or C, the last verdict in a reply; None without any."""
    marks = _VERDICT_MARK.findall(reply)
    return str(marks[-1]) if marks else None


def endpoint_judge(url: str, model: str) -> JudgeModel:
    """Return a judge model behind an OpenAI-compatible endpoint; its API key, if any, is in ``$DPO_TUI_JUDGE_KEY``.

    Args:
        url: up to and including ``/v1``.
        model: its name at the endpoint.

    Returns:
        A function that raises JudgeModelError where the endpoint does not answer as expected.

    Raises:
        UsageError: the address is not an HTTP address.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint {url}: expected an address such as http://localhost:8000/v1")

    def ask(question: str) -> str:
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0}
        body["max_tokens"] = _MAX_REPLY_TOKENS
        key = os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            reply = post_json(f"{url.rstrip('/')}/chat/completions", body, headers=headers, timeout=_TIMEOUT_SECONDS)
            document: Any = json.loads(reply)
            return str(document["choices"][0]["message"]["content"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            raise JudgeModelError(
                f"{url}: the judge model did not answer: {error}",
                hint="verdicts so far are kept; the same command goes on with the rest",
            ) from error

    return ask


def local_judge(tool: TorchTool, model: str) -> JudgeModel:
    """Load a judge model into a child process on this machine, where it stays loaded.

    Args:
        tool: a ``generate`` child.
        model: hub id or folder.

    Raises:
        ChildError: the model cannot be loaded.
    """
    for _ in tool.ask({"do": "load-model", "model": model}):
        pass

    def ask(question: str) -> str:
        request = {
            "do": "reply",
            "messages": [{"role": "user", "content": question}],
            "max_new_tokens": _MAX_REPLY_TOKENS,
        }
        return next(str(message["text"]) for message in tool.ask(request) if message["kind"] == "result")

    return ask


def _question(prompt: Prompt, first: str, second: str) -> str:
    request = "\n\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt)
    return _QUESTION.format(prompt=request, first=first, second=second)
