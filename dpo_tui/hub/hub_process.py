"""The process that asks the hub: a search of models, and a download with its bytes; see `dpo_tui.hub.hub_child`."""

from collections.abc import Iterator
from dataclasses import dataclass

from dpo_tui.errors import DpoTuiError
from dpo_tui.processes.json_child import ChildError, JsonChild, Message


class HubError(DpoTuiError):
    """The hub did not answer, or refused."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model that a search found.

    Attributes:
        name: hub id.
        downloads: of the last 30 days.
        gated: whether a token and an accepted licence are needed.
    """

    name: str
    downloads: int
    gated: bool


class HubProcess(JsonChild):
    """One process for any number of requests, one at a time; ended from any thread by `close`."""

    def __init__(self) -> None:
        super().__init__("dpo_tui.hub.hub_child", "the hub's client")

    def search(self, text: str, limit: int) -> list[HubModel]:
        """Models whose name has a text, the most downloaded first.

        Raises:
            HubError: there is no answer, for which the message says why.
        """
        self.send({"search": text, "limit": limit})
        answer = next(self._answers(), None)
        if answer is None:
            raise HubError(self.died().message)
        return [HubModel(one["name"], one["downloads"], one["gated"]) for one in answer["models"]]

    def download(self, name: str) -> Iterator[tuple[int, int]]:
        """Download the files of a model that a run reads into the hub's cache.

        Yields:
            Bytes that are there, and bytes in all.

        Raises:
            HubError: the hub refuses, cannot be reached, or the disk has no room.
        """
        self.send({"download": name})
        for answer in self._answers():
            if answer["event"] == "done":
                yield answer["total"], answer["total"]
                return
            yield answer["done"], answer["total"]
        raise HubError(self.died().message)

    def _answers(self) -> Iterator[Message]:
        try:
            for message in self.messages():
                if message["event"] == "error":
                    raise HubError(message["message"], hint=message["hint"] or None)
                yield message
        except ChildError as error:
            raise HubError(error.message, hint=error.hint) from error
