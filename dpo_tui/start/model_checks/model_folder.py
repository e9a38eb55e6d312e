"""The files of a model on this machine, as the checks before a start read them: each once, with errors in words."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dpo_tui.errors import ConfigError
from dpo_tui.hub.safetensors_header import (
    DamagedFileError,
    StoredTensor,
    read_header,
    require_content,
)
from dpo_tui.text.printable import printable
from dpo_tui.text.whole_file import MOST_OF_A_MODEL, read_whole

_START = 64
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that should hold a language model.

    Attributes:
        path: of the folder.
        name: what the config calls the model.
        cached: whether it is a snapshot in the hub's cache.
        setting: which names it, for messages.
    """

    path: Path
    name: str
    cached: bool = False
    setting: str = "model_name"

    def error(self, what: str, hint: str) -> ConfigError:
        """Make the error of a fault: what is wrong with the model, and what to do."""
        return ConfigError(printable(f"{self.setting} = {self.name}: {what}", single_line=True), hint=hint)

    def damaged(self, file: str, error: Exception) -> ConfigError:
        """Make the error of a file that cannot be used, with how to get it again."""
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError):
            reason = f"cannot be read: {reason}"
        return self.error(f"{file} {reason}", self.download_again(file))

    def download_again(self, file: str = "") -> str:
        """Return how to get a file, or the whole model, again."""
        if self.cached:
            return f"download it again: hf download {self.name} {file}".rstrip() + " --force-download"
        what = file or "the whole model"
        return f"copy or download {what} again (in a clone of the hub's repository: git lfs pull)"

    def read_object(self, file: str) -> dict[str, Any] | None:
        """Read a JSON object; None where there is no such file.

        Raises:
            ConfigError: the file is torn, a pointer of Git LFS, or no object.
        """
        path = self.path / file
        if not path.is_file():
            if path.is_symlink():
                raise self.error(f"{file} is a link to a file that does not exist", self.download_again(file))
            return None
        try:
            content = read_whole(path, MOST_OF_A_MODEL)
            require_content(content[:_START], len(content))
            document = json.loads(content.decode("utf-8-sig"))
        except (OSError, DamagedFileError) as error:
            raise self.damaged(file, error) from None
        except (ValueError, RecursionError) as error:
            raise self.error(f"{file} is torn or no JSON: {error}", self.download_again(file)) from None
        if not isinstance(document, dict):
            raise self.error(f"{file} is no object of settings", self.download_again(file))
        return document

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        found = self.read_object("config.json")
        if found is None:
            raise self.error(
                "the folder has no config.json, so it is no model", "name the folder that holds config.json"
            )
        return found

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the config that describes the language model: the whole, or a wrapper's ``text_config``."""
        nested = self.config.get("text_config")
        return {**self.config, **nested} if isinstance(nested, dict) else self.config

    @property
    def weight_files(self) -> list[str]:
        """Names of the safetensors files that transformers loads, in its order of preference; empty without any."""
        explicit = self.config.get("transformers_weights")
        if isinstance(explicit, str) and not explicit.endswith(".index.json"):
            return [explicit]
        return sorted(set(self.weight_map(self.index_file).values())) if self.index_file else ["model.safetensors"]

    @property
    def index_file(self) -> str:
        """Name of the index by which transformers finds the weights; empty where they are in one file."""
        explicit = self.config.get("transformers_weights")
        if isinstance(explicit, str):
            return explicit if explicit.endswith(".index.json") else ""
        return "" if (self.path / "model.safetensors").is_file() else INDEX

    def weight_map(self, index: str) -> dict[str, str]:
        """Return the file of each weight by an index; empty where there is no such index.

        Raises:
            ConfigError: it is no index, or names files outside the folder.
        """
        document = self.read_object(index)
        if document is None:
            return {}
        found = document.get("weight_map")
        if (
            not isinstance(found, dict)
            or not found
            or not all(isinstance(file, str) and file == Path(file).name for file in found.values())
        ):
            raise self.error(f"{index} has no usable weight_map", self.download_again(index))
        return found

    @cached_property
    def headers(self) -> dict[str, dict[str, StoredTensor]]:
        """The tensors of each safetensors file that transformers loads.

        Raises:
            ConfigError: a file is missing, cut or damaged.
        """
        found = {}
        for file in self.weight_files:
            if not os.path.isfile(self.path / file):  # Path.is_file raises an error for a name that is too long
                raise self.error(f"{file} is missing, which the index of the weights names", self.download_again(file))
            try:
                found[file] = read_header(self.path / file)
            except (OSError, DamagedFileError) as error:
                raise self.damaged(file, error) from None
        return found

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors in the model's safetensors files, by name."""
        return {name: tensor for stored in self.headers.values() for name, tensor in stored.items()}
