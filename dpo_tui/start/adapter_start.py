"""A config whose ``model_name`` is an adapter: it is merged into its base first, and the run starts from that model.

The merge is that of ``run:ID`` (the tool ``merge``, with its check), made once: its folder is named by the content of
adapter and base. So DPO's reference is base + adapter, frozen. What cannot be merged is refused here, without torch.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig, from_values, local_paths
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.errors import ConfigError
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.hub.cache import cached_config
from dpo_tui.hub.safetensors_header import DamagedFileError, StoredTensor, read_header
from dpo_tui.paths import expanded, make_private
from dpo_tui.processes.torch_tool import run_tool
from dpo_tui.runs.atomic_files import open_private, write_text_atomic
from dpo_tui.runs.file_digest import digest_of_file, digest_of_files
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.merged_start import MergedStart, start_folder
from dpo_tui.start.earlier_run_model import ProgressCallback, merge_run
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.quantised_weights import is_4_bit, quantisation_of

ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_BASE_KEY = "base_model_name_or_path"
_PREFIX = "base_model.model."
_NOT_MERGED = ("lora_bias", "layer_replication", "trainable_token_indices", "ensure_weight_tying")
"""Fields of PEFT's LoraConfig that the merge does not support; ``bias`` is another."""
_VOCABULARY = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_TOKENIZER = (
    *_VOCABULARY,
    *_TEMPLATES,
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_ELSEWHERE = "merge it with PEFT's merge_and_unload, and name the folder of the merged model"


@dataclass(frozen=True)
class AdapterOfBase:
    """An adapter that can be merged, as far as that is known without torch.

    Attributes:
        folder: of the adapter.
        base: files of its base model.
        base_name: folder or hub id of the base.
        base_revision: commit of the hub id.
    """

    folder: ModelFolder
    base: ModelFolder
    base_name: str
    base_revision: str | None

    def sentence(self) -> str:
        """Say what a run starts from."""
        return f"Starts from {self.base_name} with the adapter {self.folder.path} merged into it first"


def is_adapter(model_name: str) -> bool:
    """Whether a config's ``model_name`` is a folder with an adapter."""
    return (expanded(model_name) / ADAPTER_CONFIG).is_file()


def read_adapter(model_name: str, setting: str = "model_name") -> AdapterOfBase:
    """Read an adapter and find its base on this machine.

    Args:
        model_name: an absolute folder, in which :func:`is_adapter` finds an adapter.
        setting: which names it, for messages.

    Raises:
        ConfigError: it cannot be merged, or its base is not here.
    """
    folder = ModelFolder(Path(model_name), model_name, setting=setting)
    settings = folder.read_object(ADAPTER_CONFIG) or {}
    base, revision = _base_of(folder, settings)
    _require_mergeable(folder, settings)
    _require_mergeable_base(folder, base)
    _require_shapes(folder, base, _tensors(folder))
    return AdapterOfBase(folder, base, base.name, revision)


def require_mergeable(loaded: LoadedConfig) -> str:
    """Check, where the model of a config is an adapter, that a run can start from it.

    Returns:
        What the run starts from, in a sentence; empty where the model is no adapter.

    Raises:
        ConfigError: it cannot.
    """
    name = str(local_paths(loaded).get("model_name", loaded.config.model_name))
    return read_adapter(name).sentence() if is_adapter(name) else ""


def merged_model(config: Config, report: ProgressCallback, setting: str = "model_name") -> str:
    """Return the folder of base + adapter for a config whose ``model_name`` is an adapter; merge it first if need be.

    Args:
        config: its ``model_name`` is absolute, and ``bf16`` says in which precision weights are written.
        report: called with the progress of the merge.
        setting: which names the adapter, where it is not that of the start.

    Raises:
        ConfigError: it cannot be merged.
        ChildError: the merge has found that, such as an adapter of another model.
    """
    adapter = read_adapter(str(getattr(config, setting)), setting)
    path = adapter.folder.path
    if path.name == "adapter" and (path.parent / "state.json").is_file():
        # A run knows how its adapter was trained: on NF4 weights it is merged into those.
        return merge_run(RunFolder(path.parent), report)
    try:
        made_of = _digests(adapter)
    except OSError as error:
        raise adapter.folder.damaged(str(error.filename or "a file of it, or of its base,"), error) from None
    # In bf16 and fp32 the same parts give other weights.
    key = hashlib.sha256(f"{made_of.adapter_sha256}{made_of.base_sha256}{config.bf16}".encode()).hexdigest()[:24]
    folder = start_folder(key)
    with _lock(folder.path / "lock"):
        if not folder.merged.is_dir() or MergedStart.of(str(folder.merged)) is None:
            report({"kind": "progress", "message": f"{adapter.sentence()}: merging"})
            _stage(adapter, folder, config)
            result = run_tool("merge", {"run": str(folder.path)}, report, environment=tool_environment())
            made_of = replace(made_of, check=str(result["check"]))
            made_of.write(folder)
    return str(folder.merged)


def _base_of(folder: ModelFolder, settings: dict[str, Any]) -> tuple[ModelFolder, str | None]:
    """Return the base model's files and, of a hub id, the commit."""
    name = settings.get(_BASE_KEY)
    if not isinstance(name, str) or not name:
        raise folder.error(
            f"is an adapter, and its {ADAPTER_CONFIG} names no base model ({_BASE_KEY})",
            f"write the folder or hub id of the model that it was trained on into {_BASE_KEY}; it is merged into it",
        )
    local = expanded(name)
    here = f"is an adapter of {name} ({_BASE_KEY} in {ADAPTER_CONFIG})"
    if local.is_dir():
        base, commit = ModelFolder(local.absolute(), str(local.absolute())), None
    elif local.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise folder.error(
            f"{here}, and there is no such folder",
            f"write where that model is now into {_BASE_KEY}, a folder or a hub id; the adapter is merged into it",
        )
    else:
        revision = settings.get("revision")
        cached = cached_config(name, revision if isinstance(revision, str) and revision else None)
        base = ModelFolder(cached.parent, name, cached=True) if cached else ModelFolder(Path(), name)
        if cached is None or not all((base.path / file).is_file() for file in base.weight_files):
            raise folder.error(
                f"{here}, which is not on this machine",
                f"download it: hf download {name}; or write the folder of a copy into {_BASE_KEY}. "
                "The adapter is merged into it",
            )
        commit = cached.parent.name
    if (base.path / ADAPTER_CONFIG).is_file():
        raise folder.error(f"{here}, and that is an adapter too", f"{_ELSEWHERE}, of the first adapter into its base")
    return base, commit


def _require_mergeable(folder: ModelFolder, settings: dict[str, Any]) -> None:
    kind = str(settings.get("peft_type", "")).upper()
    if kind != "LORA":
        raise folder.error(
            f"is an adapter of type {kind or 'unknown'} (peft_type in {ADAPTER_CONFIG}), and only LoRA is merged",
            "name the base model, or one into which the adapter has been merged, if its type can be",
        )
    unsupported = [name for name in _NOT_MERGED if settings.get(name)]
    if settings.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        raise folder.error(f"is an adapter with {unsupported[0]}, which cannot be merged shard by shard", _ELSEWHERE)
    if (folder.path / _WEIGHTS).is_file():
        return
    if (folder.path / _PICKLE).is_file():
        raise folder.error(
            f"is an adapter with its weights in {_PICKLE}, a pickle, which can run code when it is read",
            f"if you trust it, load it with PEFT and save it again (save_pretrained), which writes {_WEIGHTS}",
        )
    raise folder.error(f"is an adapter without {_WEIGHTS}", "copy the whole folder of the adapter")


def _require_mergeable_base(folder: ModelFolder, base: ModelFolder) -> None:
    quantisation = quantisation_of(base)
    if quantisation is not None and not is_4_bit(quantisation):
        raise folder.error(
            f"is an adapter of {base.name}, whose weights are quantised: an adapter can be merged into those of "
            "bitsandbytes in 4 bits only",
            f"write the model as it was before it was quantised into {_BASE_KEY}",
        )
    if not any(base.path.glob("*.safetensors")):
        raise folder.error(
            f"is an adapter of {base.name}, whose weights are no safetensors, into which alone an adapter is merged",
            "save the base once with transformers (model.save_pretrained)",
        )


def _tensors(folder: ModelFolder) -> dict[str, StoredTensor]:
    try:
        return read_header(folder.path / _WEIGHTS)
    except (OSError, DamagedFileError) as error:
        raise folder.damaged(_WEIGHTS, error) from None


def _require_shapes(folder: ModelFolder, base: ModelFolder, tensors: dict[str, StoredTensor]) -> None:
    """Compare B·A with the base's weights where the files have the same names; the merge itself compares all."""
    if quantisation_of(base) is not None:  # weights in 4 bits are stored packed
        return
    for name, first in tensors.items():
        layer, found, _ = name.removeprefix(_PREFIX).partition(".lora_A.weight")
        second = tensors.get(f"{_PREFIX}{layer}.lora_B.weight")
        weight = base.tensors.get(f"{layer}.weight")
        if not found or second is None or weight is None:
            continue
        product = (second.shape[0], *first.shape[1:])
        # GPT-2's layers store their weights transposed.
        if sorted(product) != sorted(weight.shape):
            raise folder.error(
                f"is an adapter of another model than {base.name}: {layer} is {list(weight.shape)} there, and "
                f"{list(product)} in the adapter",
                f"write the model that it was trained on into {_BASE_KEY}",
            )


def _digests(adapter: AdapterOfBase) -> MergedStart:
    path, base = adapter.folder.path, adapter.base.path
    parts = [digest_of_file(file) for file in (path / ADAPTER_CONFIG, path / _WEIGHTS)]
    # By the names in the merged folder: the tokenizer goes with the model.
    parts += [f"{name} {digest_of_file(file)}" for name, file in sorted(_tokenizer_files(adapter).items())]
    return MergedStart(
        adapter=str(path),
        adapter_sha256=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        base=adapter.base_name,
        base_revision=adapter.base_revision,
        base_sha256=digest_of_files(
            [*base.glob("*.safetensors"), *base.glob("*.safetensors.index.json"), base / "config.json"]
        ),
    )


def _tokenizer_files(adapter: AdapterOfBase) -> dict[str, Path]:
    """Return the files of the adapter's own tokenizer; without one, those of the base, with the adapter's template."""
    path, base = adapter.folder.path, adapter.base.path
    own = any((path / name).is_file() for name in _VOCABULARY)
    found = {name: path / name for name in (_TOKENIZER if own else _TEMPLATES) if (path / name).is_file()}
    if own:
        return found
    return {name: base / name for name in _TOKENIZER if (base / name).is_file()} | found


def _stage(adapter: AdapterOfBase, folder: RunFolder, config: Config) -> None:
    """Write what the merge reads of a run: its config, and its adapter with a tokenizer."""
    values = {"model_name": adapter.base_name, "model_revision": adapter.base_revision, "bf16": config.bf16}
    write_text_atomic(folder.config, to_toml(from_values(values | {"dataset": "none"})))
    shutil.rmtree(folder.adapter, ignore_errors=True)
    folder.adapter.mkdir()
    # Copied, without what else lies in such folders, such as the state of an optimizer: the merge takes along all files
    # that it does not know.
    files = {name: adapter.folder.path / name for name in (ADAPTER_CONFIG, _WEIGHTS)} | _tokenizer_files(adapter)
    for name, file in files.items():
        shutil.copyfile(file, folder.adapter / name)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock while one process, and one thread of it, merges: the app checks in one and starts in another."""
    # flock, and not a record lock: that does not keep two threads of one process apart.
    try:
        make_private(path.parent)
        with open(path, "a", opener=open_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: the merged model cannot be written there: {error.strerror or error}",
            hint="see that the folder can be written and has room, or set DPO_TUI_HOME",
        ) from None
