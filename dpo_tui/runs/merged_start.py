"""Folder of a model that was merged from an adapter for runs to start from, ``$DPO_TUI_HOME/starts/KEY``.

``merged/`` is the model, ``start.json`` says what it was made of. It is kept: the adapters of the runs that started
from it have it as their base.
"""

from dataclasses import dataclass
from pathlib import Path

from dpo_tui import paths
from dpo_tui.runs.atomic_files import read_json, write_json_atomic
from dpo_tui.runs.folder import RunFolder

_RECORD = "start.json"


@dataclass(frozen=True)
class MergedStart:
    """What a merged model was made of.

    Attributes:
        adapter: folder of the adapter.
        adapter_sha256: of its config and weights.
        base: folder or hub id of its base model.
        base_revision: commit of the hub id; None for a folder.
        base_sha256: of the base's config and weights.
        check: result of the merge check, in a sentence.
    """

    adapter: str
    adapter_sha256: str
    base: str
    base_revision: str | None
    base_sha256: str
    check: str = ""

    @classmethod
    def of(cls, model_name: str) -> "MergedStart | None":
        """Return what a model was made of; None for a model that is not the merged start of a run."""
        folder = Path(model_name)
        found = read_json(folder.parent / _RECORD) if folder.name == "merged" else None
        try:
            return cls(**found) if found is not None else None
        except TypeError:
            return None

    def write(self, folder: RunFolder) -> None:
        """Write the record into the folder of the merged model."""
        write_json_atomic(folder.path / _RECORD, vars(self))

    def sentence(self) -> str:
        """Say what a run starts from."""
        return f"Starts from {self.base} with the adapter {self.adapter} merged into it. {self.check}".strip()


def start_folder(key: str) -> RunFolder:
    """Return the folder of a merged start, which has the files of a run that ``merge`` reads."""
    return RunFolder(paths.home() / "starts" / key)
