"""Child that verifies what a run or an export holds: files, checkpoints, result, merge. It changes nothing."""

import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from transformers import AutoTokenizer

from dpo_tui import paths
from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import DpoTuiError, TrainingError, UsageError
from dpo_tui.hub.safetensors_header import DamagedFileError, read_header
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.checkpoint_checksums import checksums_of, damaged_file
from dpo_tui.runs.complete_checkpoints import MARKER, all_checkpoints, is_complete, newest_complete
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_all
from dpo_tui.text.plain_documents import parse_json
from dpo_tui.train.export.base_record import other_base_files
from dpo_tui.train.export.liveness import Liveness, liveness_of
from dpo_tui.train.export.merge_check import check_merge, fits_in_memory, probe_texts
from dpo_tui.train.export.stored_tensors import ADAPTER_FILE
from dpo_tui.train.model.base_files import local_base_folder
from dpo_tui.train.model.checked_loading import load_checked, load_with_adapter
from dpo_tui.train.model.model_class import model_class, model_without_weights
from dpo_tui.train.model.verified_code import may_run_code_of, trust_code_of
from dpo_tui.train.tools.export_run import EXPORT_RECORD
from dpo_tui.train.tools.json_service import Send, serve


@dataclass(frozen=True)
class VerificationResult:
    """Result of one check.

    Attributes:
        name: of the check.
        status: ``ok``, ``failed``, or ``not checked`` where this machine lacks something that it takes.
        message: what was found, as a sentence.
    """

    name: str
    status: Literal["ok", "failed", "not checked"]
    message: str


class CannotCheckError(Exception):
    """Something that a check needs is not on this machine."""


def verify(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request to verify.

    Args:
        request: ``folder``, of a run, or of an adapter or a model such as an export.
        send: receives progress.

    Returns:
        ``target`` (the folder), ``what`` (run, adapter, model or gguf), ``ok``, and ``checks`` (`VerificationResult`).

    Raises:
        UsageError: the folder holds none of these.
    """
    folder = Path(request["folder"])
    if (folder / "config.toml").is_file() or (folder / "state.json").is_file():
        what, checks = "run", _run_checks(RunFolder(folder))
    elif (folder / "adapter_config.json").is_file() or (folder / ADAPTER_FILE).is_file():
        what, checks = "adapter", _export_checks(folder)
    elif (file := next(iter(sorted(folder.glob("*.gguf"))), None)) is not None:
        what, checks = "gguf", _gguf_checks(folder, file)
    elif (folder / "config.json").is_file() or any(folder.glob("*.safetensors")):
        what, checks = "model", _export_checks(folder)
    else:
        raise UsageError(
            f"{folder}: holds no run, no adapter and no model", hint="name a run or the folder of an export"
        )
    verdicts: list[VerificationResult] = []
    for name, check in checks:
        send("progress", {"message": f"Checking the {name}", "done": len(verdicts), "total": None})
        verdicts.append(_verdict(name, check))
    return {
        "target": str(folder),
        "what": what,
        "ok": all(verdict.status != "failed" for verdict in verdicts),
        "checks": [asdict(verdict) for verdict in verdicts],
    }


Checks = Iterator[tuple[str, Callable[[], str]]]
"""Names of checks with what does them: it returns a sentence or raises."""


def _run_checks(folder: RunFolder) -> Checks:
    yield "files", lambda: _check_run_files(folder)
    config = _config_of(folder) if folder.config.is_file() else None
    if folder.checkpoints.is_dir() and all_checkpoints(folder.checkpoints):
        yield "checkpoints", lambda: _check_checkpoints(folder)
        newest, _ = newest_complete(folder.checkpoints)
        if newest is not None and config is not None and any(newest.glob("*.safetensors")):
            trained = _learning_rate_sum(newest) > 0
            yield from _weight_checks(newest, f"weights of {newest.name}", _base(config), trained=trained)
    if config is None:
        return
    result = folder.adapter if config.use_lora else folder.merged
    if result.is_dir():
        what = "adapter" if config.use_lora else "model"
        yield from _weight_checks(result, what, _base(config), trained=_was_trained(folder))
        yield "tokenizer", lambda: _check_tokenizer(result)
    if config.use_lora and folder.merged.is_dir():
        yield "merged model", lambda: _check_loadable(folder.merged, None)
        yield "merge", lambda: _check_merge(config, folder, folder.merged)


def _config_of(folder: RunFolder) -> Config:
    config = load(folder.config).config
    trust_code_of(config)
    return config


def _export_checks(folder: Path) -> Checks:
    record = read_json(folder / EXPORT_RECORD) or {}
    yield "files", lambda: _check_export_files(folder, record)
    run = RunFolder(paths.runs() / str(record["run"])) if record.get("run") else None
    config = _config_of(run) if run is not None and run.config.is_file() else None
    settings = read_json(folder / "adapter_config.json")
    if config is not None:
        base = _base(config)
    else:
        named = str((settings or {}).get("base_model_name_or_path") or "")
        base = local_base_folder(named) if named else None
    if (folder / ADAPTER_FILE).is_file():
        if record.get("base"):  # not of an earlier version
            yield "base", lambda: _check_base(record["base"], base)
        yield from _weight_checks(folder, "adapter", base, trained=True)
    else:
        yield from _weight_checks(folder, "model", base, trained=record.get("what") != "merged")
    yield "tokenizer", lambda: _check_tokenizer(folder)
    if record.get("what") == "merged":
        yield "merge", lambda: _check_merge(config, run, folder)


def _gguf_checks(folder: Path, file: Path) -> Checks:
    record = read_json(folder / EXPORT_RECORD) or {}
    yield "files", lambda: _check_export_files(folder, record)
    yield "GGUF file", lambda: _check_gguf(file)


def _weight_checks(folder: Path, what: str, base: Path | None, *, trained: bool) -> Checks:
    yield what, lambda: _check_loadable(folder, base)
    yield f"change of the {what}", lambda: _check_change(folder, base, trained=trained)


def _verdict(name: str, check: Callable[[], str]) -> VerificationResult:
    try:
        return VerificationResult(name, "ok", check())
    except CannotCheckError as reason:
        return VerificationResult(name, "not checked", str(reason))
    except DpoTuiError as error:
        return VerificationResult(name, "failed", error.message)
    except Exception as error:  # whatever keeps a library from reading a file is what this looks for
        return VerificationResult(name, "failed", (str(error).strip().splitlines() or [type(error).__name__])[0])


def _check_run_files(folder: RunFolder) -> str:
    load(folder.config)
    state = read_json(folder.state)
    if state is None:
        raise TrainingError(f"{folder.state.name} is missing or is no JSON object")
    for path in (folder.metrics, folder.events, folder.samples):
        for number, line in enumerate(_whole_lines(path), start=1):
            try:
                parse_json(line)
            except ValueError as error:
                raise TrainingError(f"{path.name}: line {number} is not JSON: {error}") from None
    if state.get("status") == "done":
        config = load(folder.config).config
        for path in (folder.receipt, folder.adapter if config.use_lora else folder.merged):
            if not path.exists():
                raise TrainingError(f"the run is done, and {path.name} is not there")
    return "settings, state, metrics and events can be read"


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a log, without one at its end that is still being written."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n") and line.strip())


def _check_checkpoints(folder: RunFolder) -> str:
    found = all_checkpoints(folder.checkpoints)
    marked = [checkpoint for checkpoint in found if (checkpoint / MARKER).is_file()]
    damaged = [checkpoint.name for checkpoint in marked if not is_complete(checkpoint) or damaged_file(checkpoint)]
    if damaged:
        raise TrainingError(f"{', '.join(damaged)}: files are missing, or have changed since they were written")
    for checkpoint in marked:
        if read_json(checkpoint / "trainer_state.json") is None:
            raise TrainingError(f"{checkpoint.name}: trainer_state.json is missing or is no JSON object")
        for path in chain(checkpoint.glob("*.pt"), checkpoint.glob("*.pth")):
            _check_archive(path)
    unmarked = [checkpoint.name for checkpoint in found if checkpoint not in marked]
    note = f"; {', '.join(unmarked)}: interrupted, and not used" if unmarked else ""
    return f"{len(marked)} whole, with optimizer, schedule and random state{note}"


def _check_archive(path: Path) -> None:
    """Check a file of torch, which is a zip archive, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise TrainingError(f"{path.parent.name}/{path.name} cannot be read: {error}") from None
    if damaged is not None:
        raise TrainingError(f"{path.parent.name}/{path.name} is damaged")


def _check_export_files(folder: Path, record: dict[str, Any]) -> str:
    files = record.get("files")
    if not isinstance(files, dict):
        raise CannotCheckError(f"no {EXPORT_RECORD}: which files belong to it is not known")
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            raise TrainingError(f"{name} is not there")
        if path.stat().st_size != size:
            raise TrainingError(f"{name} has {path.stat().st_size:,} bytes, and had {size:,} when it was exported")
    checksums = record.get("crc32")
    if not isinstance(checksums, dict):  # of an earlier version
        return f"all {len(files)} files that were exported are there, in their sizes"
    now = dict(zip(checksums, checksums_of([folder / name for name in checksums]), strict=True))
    changed = [name for name in checksums if now[name] != checksums[name]]
    if changed:
        raise TrainingError(f"{', '.join(changed)}: not as exported, by the checksum (CRC-32)")
    return f"all {len(files)} files that were exported are there, as they were, by their checksums (CRC-32)"


def _check_base(record: dict[str, Any], base: Path | None) -> str:
    if base is None or not record["sha256"]:
        raise CannotCheckError(
            f"the base model {record['model']} is not on this machine, or was not when it was exported"
        )
    others = other_base_files(record, base)
    if others:
        raise TrainingError(f"{', '.join(others)} of {base}: other weights than when it was exported, by their SHA-256")
    return f"{len(record['sha256'])} files of weights are as when it was exported, by their SHA-256"


def _check_gguf(file: Path) -> str:
    try:
        import gguf
    except ImportError:
        raise CannotCheckError("the package gguf, which reads it, is not installed") from None
    reader = gguf.GGUFReader(file)
    tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    for tensor in reader.tensors:
        if not bool(torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).isfinite().all()):
            raise TrainingError(f"{tensor.name} holds values that are no numbers")
    return f"{len(reader.tensors)} tensors without NaN, {tokens:,} tokens"


def _check_loadable(folder: Path, base: Path | None) -> str:
    """Load an adapter or a model in every respect but memory: on torch's meta device, which holds no numbers."""
    _require_whole_files(folder)
    if not (folder / ADAPTER_FILE).is_file():
        model = load_checked(model_class(folder), folder, warn=lambda _: None, device_map={"": "meta"})
        return f"transformers loads it: every one of its {len(model.state_dict())} weights is there"
    if base is None:
        settings = LoraConfig.from_pretrained(str(folder))
        raise CannotCheckError(f"its base model {settings.base_model_name_or_path} is not on this machine")
    load_with_adapter(model_without_weights(base, folder), folder)
    return "PEFT loads it into its base model: every one of its weights has a place and is there"


def _require_whole_files(folder: Path) -> None:
    """Check the headers first: of a cut file the loader says only that it cannot deserialize a header.

    Raises:
        TrainingError: a file is cut or damaged.
    """
    for file in sorted(folder.glob("*.safetensors")):
        try:
            read_header(file)
        except DamagedFileError as error:
            raise TrainingError(f"{file.name} {error}") from None


def _check_change(folder: Path, base: Path | None, *, trained: bool) -> str:
    _require_whole_files(folder)
    return _check_alive(liveness_of(folder, base, whole=True), trained=trained)


def _check_alive(found: Liveness, *, trained: bool) -> str:
    problem = found.problem(trained=trained)
    if problem:
        raise TrainingError(problem)
    if not found.parts:
        raise CannotCheckError(f"no NaN; {found.not_compared}")
    return ". ".join([found.sentence(), *found.doubts(trained=trained)])


def _check_tokenizer(folder: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=may_run_code_of(folder))
    return f"{len(tokenizer):,} tokens" + ("" if tokenizer.chat_template else "; it has no chat template")


def _check_merge(config: Config | None, run: RunFolder | None, merged: Path) -> str:
    if config is None or run is None or not run.adapter.is_dir():
        raise CannotCheckError("the run that it was merged from is not on this machine")
    base = _base(config)
    if base is None:
        raise CannotCheckError(f"the base model {config.model_name} is not on this machine")
    if not fits_in_memory(base):
        raise CannotCheckError("the model does not fit into this machine's memory in fp32")
    _require_whole_files(run.adapter)
    _require_whole_files(merged)
    settings = read_json(merged / "config.json") or {}
    dtype = getattr(torch, str(settings.get("dtype") or settings.get("torch_dtype") or "float32"))
    found = check_merge(base, run.adapter, merged, probe_texts(run), dtype=dtype, nf4=config.use_4bit)
    if not found.agrees:
        raise TrainingError(found.sentence())
    return found.sentence()


def _base(config: Config) -> Path | None:
    return local_base_folder(config.model_name, config.model_revision)


def _learning_rate_sum(checkpoint: Path) -> float:
    """Return the sum of the learning rates up to a checkpoint; of the logged steps where it says no more."""
    state = read_json(checkpoint / "trainer_state.json") or {}
    kept = (state.get("stateful_callbacks") or {}).get("RunCallback") or {}
    logged = sum(line.get("learning_rate", 0.0) for line in state.get("log_history") or [])
    return float((kept.get("attributes") or {}).get("learning_rate_sum", logged))


def _was_trained(folder: RunFolder) -> bool:
    """Whether a step of a run had a learning rate above zero, as far as its logs say."""
    rates = [line["learning_rate"] for line in chain.from_iterable(read_all(folder.metrics)) if "learning_rate" in line]
    return any(rates) or not rates


if __name__ == "__main__":
    sys.exit(serve(verify))
