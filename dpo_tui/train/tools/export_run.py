"""Write what a run made into a folder of its own, ready to load, to serve or to pass on."""

import shutil
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from dpo_tui.config.files import load
from dpo_tui.config.schema import Config
from dpo_tui.errors import TrainingError
from dpo_tui.runs.atomic_files import read_json, write_json_atomic, write_text_atomic
from dpo_tui.runs.folder import RunFolder
from dpo_tui.runs.metrics import read_all
from dpo_tui.runs.naming import given_name
from dpo_tui.train.export.curves_svg import curves_svg
from dpo_tui.train.export.merge_check import MAX_LOGIT_DIFFERENCE, MIN_SAME_TOP_TOKEN, check_merge, fits_in_memory
from dpo_tui.train.export.merged_model import write_merged_model
from dpo_tui.train.export.model_card import CardDetails, Kind, model_card
from dpo_tui.train.export.serving_commands import ServedModel, commands
from dpo_tui.train.model.base_files import licence_of
from dpo_tui.train.tools.json_service import Tell, serve

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_CURVES = "curves.svg"
_TEXTS = 4


def export(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Do one export.

    Args:
        request: ``run`` and ``target`` (folders), ``merge``, ``precision`` (bf16, fp16, fp32), ``check``, ``share``
            (whether others will get it: then no file names a folder of this machine).
        tell: how it goes.

    Returns:
        ``target``, ``what``, ``check`` (words, or None), ``serve`` (program and lines).

    Raises:
        TrainingError: there is nothing to export, or the merged model does not agree with its parts.
    """
    folder, target = RunFolder(Path(request["run"])), Path(request["target"])
    config = load(folder.config).config
    config = config.model_copy(update={"name": given_name(folder) or config.name})
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    words: str | None = None
    try:
        if not config.use_lora:
            kind: Kind = "model"
            _copy(folder.merged, partial, "the trained model")
        elif request["merge"]:
            kind = "merged"
            tell("progress", {"message": "Merging the adapter into its base", "done": 0, "total": None})
            base = write_merged_model(
                config,
                folder,
                partial,
                _DTYPES[request["precision"]],
                lambda done, total: tell("progress", {"message": "Merging", "done": done, "total": total}),
            )
            words = _check(config, folder, base, partial, request=request, tell=tell)
        else:
            kind = "adapter"
            _copy(folder.adapter, partial, "the adapter")
        _embed_template(partial)
        if request.get("share") and kind == "adapter":
            _name_base(partial)
        _describe(config, folder, partial, kind, words)
        if target.exists():
            target.rmdir()  # an empty folder was allowed
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    served = ServedModel.of(config, str(target), config.model_name if kind == "adapter" else "")
    return {"target": str(target), "what": kind, "check": words, "serve": commands(served)}


def _copy(source: Path, target: Path, what: str) -> None:
    if not source.is_dir():
        raise TrainingError(
            f"{what} is not there: {source}",
            hint="It is saved when a run is done. `dpo-tui status RUN` shows whether this one is, or how it ended.",
        )
    for path in source.iterdir():
        if path.is_file():
            shutil.copy2(path, target / path.name)


def _check(
    config: Config, folder: RunFolder, base: Path, merged: Path, *, request: Mapping[str, Any], tell: Tell
) -> str | None:
    """Compare the merged model with base and adapter; return what came of it in words, None when it was left out."""
    if not request.get("check", True):
        return None
    if not fits_in_memory(base):
        return "Not compared with its parts: the model does not fit into this machine's memory in fp32."
    tell("progress", {"message": "Comparing the logits with base + adapter", "done": 0, "total": None})
    found = check_merge(base, folder.adapter, merged, _texts(folder), nf4=config.use_4bit)
    words = (
        f"Compared with base + adapter in fp32 at {found.positions} positions: logits differ by at most "
        f"{found.max_logit_difference:.2g}, the likeliest token is the same in {found.same_top_token:.1%}."
    )
    exact = request["precision"] == "fp32"
    wrong = found.max_logit_difference > MAX_LOGIT_DIFFERENCE if exact else found.same_top_token < MIN_SAME_TOP_TOKEN
    if wrong:
        raise TrainingError(
            f"The merged model does not agree with its parts. {words}",
            hint="nothing was written; export without --merge, and report this with the base model's name",
        )
    return words


def _texts(folder: RunFolder) -> list[str]:
    """Prompts and answers of the run itself, else a sentence that any model knows."""
    found = []
    for sample in chain.from_iterable(read_all(folder.samples)):
        prompt = sample.get("prompt")
        if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
            found.append(f"{prompt[-1].get('content', '')}\n{sample.get('answer', '')}")
    return list(dict.fromkeys(text for text in found if text.strip()))[:_TEXTS] or ["The capital of France is Paris."]


def _describe(config: Config, folder: RunFolder, target: Path, kind: Kind, words: str | None) -> None:
    receipt = read_json(folder.receipt) or {}
    metrics = list(chain.from_iterable(read_all(folder.metrics)))
    curves = ""
    if any("loss" in line for line in metrics):
        curves = _CURVES
        write_text_atomic(target / curves, curves_svg(metrics, config.name or folder.id))
    local = Path(config.model_name)
    licence = licence_of(local if local.is_dir() else _cached(config))
    extras = CardDetails(licence, curves, words or "")
    card = model_card(config, receipt.get("data", {}), receipt.get("results", {}), kind, extras)
    write_text_atomic(target / "README.md", card)


def _embed_template(target: Path) -> None:
    """Write the chat template into tokenizer_config.json too: Ollama, and older readers, look only there."""
    template, settings = target / "chat_template.jinja", read_json(target / "tokenizer_config.json")
    if settings is None or not template.is_file() or "chat_template" in settings:
        return
    settings["chat_template"] = template.read_text(encoding="utf-8")
    write_json_atomic(target / "tokenizer_config.json", settings)


def _name_base(target: Path) -> None:
    """Leave of the base model's folder its name: others have no use for a path of this machine."""
    settings = read_json(target / "adapter_config.json")
    if settings is None or not Path(str(settings.get("base_model_name_or_path", ""))).is_absolute():
        return
    settings["base_model_name_or_path"] = Path(settings["base_model_name_or_path"]).name
    write_json_atomic(target / "adapter_config.json", settings)


def _cached(config: Config) -> Path:
    """Return the base's folder in the hub's cache, or a path that is not there: a licence is not worth a download."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(config.model_name, revision=config.model_revision, local_files_only=True))
    except Exception:  # not cached, in one of several ways
        return Path("/nonexistent")


if __name__ == "__main__":
    sys.exit(serve(export))
