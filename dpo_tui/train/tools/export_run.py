"""Child that exports a run's result into a folder that can be loaded, served or published by itself."""

import shutil
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic, write_text_atomic
from dpo_tui.runs.checkpoint_checksums import checksums_of
from dpo_tui.runs.curves_svg import curves_svg
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics_reader import read_all
from dpo_tui.runs.naming import given_name
from dpo_tui.train.export.base_record import base_record
from dpo_tui.train.export.end_tokens import GENERATION_CONFIG, add_end_tokens
from dpo_tui.train.export.merged_model import write_merged_model
from dpo_tui.train.export.model_card import CardDetails, Kind, model_card
from dpo_tui.train.export.serving_commands import ServedModel, commands
from dpo_tui.train.model.base_files import licence_of
from dpo_tui.train.model.verified_code import trust_code_of
from dpo_tui.train.tools.json_service import Send, serve

if TYPE_CHECKING:
    from dpo_tui.train.export.gguf.gguf_export import GgufPlan
    from dpo_tui.train.export.gguf.gguf_file import GgufType

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_CURVES = "curves.svg"
EXPORT_RECORD = "dpo-tui-export.json"
"""In an export: which run it is of, what it is, which base it belongs to, and size and CRC-32 of each of its files, for
`dpo-tui verify`."""


def export(request: dict[str, Any], send: Send) -> dict[str, Any]:
    """Handle a request for an export.

    Args:
        request: ``run`` and ``target`` (folders), ``merge``, ``precision`` (bf16, fp16, fp32), ``check``, ``share``
            (whether it is to be published: then no file names a folder of this machine), ``gguf`` (f16, bf16 or q8_0
            for one GGUF file of the whole model; None otherwise).
        send: receives progress.

    Returns:
        ``target``, ``what`` (adapter, merged, model or gguf), ``check`` (the results of the checks in sentences, or
        None), ``serve`` (pairs of a program and its command lines).

    Raises:
        TrainingError: there is nothing to export, or the merged model does not agree with base and adapter.
        UsageError: no GGUF file can be written of such a model, or there is no room for one.
    """
    folder, target = RunFolder(Path(request["run"])), Path(request["target"])
    config = load(folder.config).config
    trust_code_of(config)
    config = config.model_copy(update={"name": given_name(folder) or config.name})
    # Everything that can be refused is refused before a weight is read.
    plan = _gguf_plan(config, folder, request["gguf"], target.parent) if request.get("gguf") else None
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    merge_check: str | None = None
    gguf_file = ""

    def report(what: str, done: int, total: int | None) -> None:
        send("progress", {"message": what, "done": done, "total": total})

    try:
        if plan is not None:
            kind: Kind = "gguf"
            written = plan.write(partial, report, check=request.get("check", True))
            gguf_file, merge_check = written.file, " ".join(written.sentences)
        elif not config.use_lora:
            kind = "model"
            _copy(folder.merged, partial, "the trained model")
        elif request["merge"]:
            kind = "merged"
            report("Merging the adapter into its base", 0, None)
            merge_check = write_merged_model(
                config,
                folder,
                partial,
                _DTYPES[request["precision"]],
                report,
                check=request.get("check", True),
            )
        else:
            kind = "adapter"
            _copy(folder.adapter, partial, "the adapter")
            add_end_tokens(partial, _base_files(config))
        _embed_chat_template(partial)
        base = base_record(config, _base_files(config))
        if kind == "adapter":
            _name_base(partial, base, share=bool(request.get("share")))
        _write_card(
            config, folder, partial, kind, CardDetails(merge_check=merge_check or "", gguf_file=gguf_file, base=base)
        )
        files = sorted(partial.iterdir())
        record = {
            "version": 1,
            "run": folder.id,
            "what": kind,
            "base": base,
            "files": {path.name: path.stat().st_size for path in files},
            "crc32": {path.name: checksum for path, checksum in zip(files, checksums_of(files), strict=True)},
        }
        write_json_atomic(partial / EXPORT_RECORD, record)
        if target.exists():
            target.rmdir()  # only an empty one is allowed
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    served = ServedModel.of(config, str(target), config.model_name if kind == "adapter" else "", gguf_file)
    served = replace(served, own_ends=kind == "adapter" and (target / GENERATION_CONFIG).is_file())
    return {"target": str(target), "what": kind, "check": merge_check, "serve": commands(served)}


def _copy(source: Path, target: Path, what: str) -> None:
    if not source.is_dir():
        raise TrainingError(
            f"{what} is not there: {source}",
            hint="It is saved when a run is done. `dpo-tui status RUN` shows whether this one is, or how it ended.",
        )
    for path in source.iterdir():
        if path.is_file():
            # Not copy2: a run's files are private, and the umask says who may read an export.
            shutil.copyfile(path, target / path.name)


def _gguf_plan(config: Config, folder: RunFolder, chosen: "GgufType", place: Path) -> "GgufPlan":
    # Here, because the package gguf need not be installed for any other export.
    from dpo_tui.train.export.gguf.gguf_export import plan_gguf

    return plan_gguf(config, folder, chosen, place)


def _write_card(config: Config, folder: RunFolder, target: Path, kind: Kind, details: CardDetails) -> None:
    """Write the model card, and the training curves that it shows."""
    receipt = read_json(folder.receipt) or {}
    metrics = list(chain.from_iterable(read_all(folder.metrics)))
    curves = ""
    if any("loss" in line for line in metrics):
        curves = _CURVES
        write_text_atomic(target / curves, curves_svg(metrics, config.name or folder.id))
    licence = licence_of(_base_files(config))
    ends = kind == "adapter" and (target / GENERATION_CONFIG).is_file()
    details = replace(details, licence=licence, curves=curves, own_ends=ends)
    card = model_card(config, receipt.get("data", {}), receipt.get("results", {}), kind, details)
    write_text_atomic(target / "README.md", card)


def _embed_chat_template(target: Path) -> None:
    """Copy the chat template into tokenizer_config.json: Ollama, and older readers, look only there."""
    template, settings = target / "chat_template.jinja", read_json(target / "tokenizer_config.json")
    if settings is None or not template.is_file() or "chat_template" in settings:
        return
    settings["chat_template"] = template.read_text(encoding="utf-8")
    write_json_atomic(target / "tokenizer_config.json", settings)


def _name_base(target: Path, base: dict[str, Any], *, share: bool) -> None:
    """Write the revision of the base into an adapter's settings, by which PEFT loads it.

    Before it is published, the absolute path of a local base model is replaced by its folder's name.
    """
    settings = read_json(target / "adapter_config.json")
    if settings is None:
        return
    if base["revision"] and not settings.get("revision"):
        settings["revision"] = base["revision"]
    if share and Path(str(settings.get("base_model_name_or_path", ""))).is_absolute():
        settings["base_model_name_or_path"] = Path(settings["base_model_name_or_path"]).name
    write_json_atomic(target / "adapter_config.json", settings)


def _base_files(config: Config) -> Path:
    """Return the base's folder, or a path that does not exist: its licence and settings are not worth a download."""
    local = Path(config.model_name)
    if local.is_dir():
        return local
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(config.model_name, revision=config.model_revision, local_files_only=True))
    except Exception:  # not in the cache; several exception types say so
        return Path("/nonexistent")


if __name__ == "__main__":
    sys.exit(serve(export))
