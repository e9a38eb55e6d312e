"""Model card of a run's result (README.md): data, settings, results, licence, and how to use and serve it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

import dpo_tui
from dpo_tui.config.schema import PASSTHROUGH, Config
from dpo_tui.config.toml_text import inline
from dpo_tui.runs.merged_start import MergedStart
from dpo_tui.strategies.registry import strategy_of
from dpo_tui.strategies.strategy import Strategy
from dpo_tui.text.printable import printable
from dpo_tui.train.export.serving_commands import ServedModel, commands
from dpo_tui.train.model.base_files import root_model

Kind = Literal["adapter", "merged", "model", "gguf"]
_WHAT = {
    "adapter": "A LoRA adapter",
    "merged": "A model with its LoRA adapter merged in",
    "model": "A model",
    "gguf": "A model as a GGUF file, for llama.cpp and Ollama,",
}
_LIBRARY = {"adapter": "peft", "gguf": "gguf"}
"""The hub's name of what loads it, where that is not transformers."""


@dataclass(frozen=True)
class CardDetails:
    """Parts of a card that only an export has.

    Attributes:
        licence: of the base model, as keys of a card's YAML head.
        curves: file name of the SVG of the training curves; empty without one.
        merge_check: result of the merge's check, in a sentence; empty without one.
        own_ends: whether an adapter has a generation_config.json, because its answers end with another token than those
            of its base.
        gguf_file: name of the GGUF file; empty where there is none.
        base: which base model it was, as :func:`~dpo_tui.train.export.base_record.base_record` says it.
    """

    licence: Mapping[str, str] = field(default_factory=dict)
    curves: str = ""
    merge_check: str = ""
    own_ends: bool = False
    gguf_file: str = ""
    base: Mapping[str, Any] = field(default_factory=dict)


def model_card(
    config: Config, data: Mapping[str, Any], results: Mapping[str, Any], kind: Kind, details: CardDetails | None = None
) -> str:
    """Return the card's Markdown, with the hub's YAML head.

    Args:
        config: of the run.
        data: the table ``data`` of the receipt.
        results: the table ``results`` of the receipt: steps and last metrics.
        kind: what the folder holds: an adapter, a merged model, a fully fine-tuned model, or a GGUF file of one.
        details: further parts, for an export.
    """
    details = details or CardDetails()
    model = printable(root_model(config.model_name), single_line=True)
    stage = "" if model == config.model_name else f" after a first stage ({_first_stage(config.model_name)})"
    if stage and kind == "adapter":
        stage += ", whose merged model it needs (`dpo-tui export --merge` makes one folder of both)"
    shown = model if "/" in model and not Path(model).is_absolute() else Path(model).name
    strategy = strategy_of(config)
    shape = f" (rank {config.lora_r}, alpha {config.alpha})" if config.use_lora else ""
    head: dict[str, Any] = {
        # The hub rejects a card whose base_model is not a model on the hub.
        **({} if Path(model).is_absolute() else {"base_model": shown}),
        "library_name": _LIBRARY.get(kind, "transformers"),
        "pipeline_tag": "text-generation",
        "tags": [strategy.name, "trl", "dpo-tui"],
        **details.licence,
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {printable(config.name or shown, single_line=True)}",
        f"{_WHAT[kind]}{shape} for `{shown}`{stage}, trained with {strategy.method}\n"
        f"([TRL](https://github.com/huggingface/trl)) by dpo-tui {dpo_tui.__version__}.",
        *([details.merge_check] if details.merge_check else []),
        *([text] if (text := _base_weights(details.base)) else []),
        f"## Licence\n\n{_licence(details.licence, shown)}",
        f"## Data\n\n{_data(config, data)}",
        f"## Settings\n\n{_settings(config, strategy, results)}",
        f"## Results\n\n{_results(strategy, results)}",
        *([f"![Curves of the run]({details.curves})"] if details.curves else []),
        *([f"## Use\n\n{_usage(kind, model, own_ends=details.own_ends)}"] if kind != "gguf" else []),
        f"## Serve\n\n{_serve(config, kind, shown, details)}",
    ]
    return "\n\n".join(parts) + "\n"


def _base_weights(base: Mapping[str, Any]) -> str:
    """Say which weights of the base these belong to; empty where that is not known."""
    revision = f" at revision `{printable(str(base['revision']), single_line=True)}`" if base.get("revision") else ""
    files = [f"- `{printable(name, single_line=True)}` `{digest}`" for name, digest in base.get("sha256", {}).items()]
    if not files and not revision:
        return ""
    listed = ", with the SHA-256 of its weights\n\n" + "\n".join(files) if files else "."
    return f"Its base is `{printable(str(base['model']), single_line=True)}`{revision}{listed}"


def _licence(licence: Mapping[str, str], model: str) -> str:
    name = licence.get("license_name") or licence.get("license")
    link = f" ({licence['license_link']})" if licence.get("license_link") else ""
    if name:
        return f"That of the base model: {printable(name, single_line=True)}{printable(link, single_line=True)}."
    return f"That of the base model `{model}`; its files here name none, so look at its page before you pass this on."


def _data(config: Config, data: Mapping[str, Any]) -> str:
    place = printable(str(data.get("location", "")), single_line=True)
    shown = Path(place).name if Path(place).is_absolute() else place
    return (
        f"`{shown}` ({data.get('format')}), sha256 `{data.get('sha256') or 'not one file'}`.\n"
        f"{data.get('rows', 0):,} rows; {data.get('train', 0):,} trained on, {data.get('held_out', 0):,} held out, "
        f"{data.get('unusable', 0):,} unusable,\n{data.get('too_long', 0):,} dropped because the prompt fills "
        f"{config.max_seq_length:,} tokens."
    )


def _settings(config: Config, strategy: Strategy, results: Mapping[str, Any]) -> str:
    loss = strategy.loss_summary(config.model_dump())
    loss = f"{loss} · " if loss else ""
    return (
        f"{loss}learning rate {config.learning_rate:g}, {config.lr_scheduler_type}, warm-up {_warmup(config)} ·\n"
        f"effective batch {config.effective_batch} · {results.get('steps', '?')} steps · seed {config.seed} · "
        f"{_precision_of_base(config)} ·\n"
        f"longest sequence {config.max_seq_length:,} tokens.{_passed_on(config)}"
    )


def _precision_of_base(config: Config) -> str:
    if "quantization_config" in config.model_init:
        return "base quantised as [model_init] says"
    return "NF4 4-bit base" if config.use_4bit else "16- or 32-bit base"


def _warmup(config: Config) -> str:
    return f"{config.warmup_ratio:g}" if config.warmup_steps is None else f"{config.warmup_steps:,} steps"


def _passed_on(config: Config) -> str:
    """The arguments of libraries that no setting names, which whoever uses the result has to know."""
    tables = {table: getattr(config, table) for table in PASSTHROUGH if getattr(config, table)}
    lines = [f"`[{table}]` `{printable(inline(values), single_line=True)}`" for table, values in tables.items()]
    return "".join(f"\n{line}" for line in lines)


def _results(strategy: Strategy, results: Mapping[str, Any]) -> str:
    # The loss, which every strategy has, comes first.
    names = ["loss", *(metric.name for metric in strategy.judged_metrics if metric.name != "loss")]
    shown = [*names, *(f"eval_{name}" for name in names), "eval_kl"]
    metrics = results.get("metrics", {})
    best = results.get("best") or {}
    which = f"value at step {best['step']}" if best else "last value"
    rows = [f"| {name} | {metrics[name]:.4g} |" for name in shown if isinstance(metrics.get(name), (int, float))]
    note = "\n\n`eval_kl` is an estimate from sampled answers, in nats an answer." if "eval_kl" in metrics else ""
    return f"{_best_step(best)}| metric | {which} |\n|---|---|\n" + "\n".join(rows) + note


def _best_step(best: Mapping[str, Any]) -> str:
    """Which step's weights these are, where they were chosen, as a paragraph."""
    if not best:
        return ""
    chosen = f"the best of {best['evaluations']} evaluations by `{best['metric']}` ({best['value']:.4g})"
    ended = f" {best['ended']}." if best.get("ended") else ""
    return f"The weights are those of step {best['step']} of {best['last_step']}, {chosen}.{ended}\n\n"


def _usage(kind: Kind, model: str, *, own_ends: bool) -> str:
    base = Path(model).name if Path(model).is_absolute() else model
    if kind == "adapter":
        code = (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{base}")\n'
            'model = PeftModel.from_pretrained(base, "THIS FOLDER")\n'
        )
    else:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("THIS FOLDER")\n'
        )
    code += 'tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")\n'
    if not own_ends:
        return f"```python\n{code}```"
    code = code.replace("AutoTokenizer\n", "AutoTokenizer, GenerationConfig\n")
    code += 'model.generation_config = GenerationConfig.from_pretrained("THIS FOLDER")\n'
    return (
        f"```python\n{code}```\n\nIts answers end with another token than those of the base model. "
        "`generation_config.json` names it, and has to be\nloaded as above: libraries read the settings of the base."
    )


def _first_stage(model_name: str) -> str:
    """Name what the model that a run started from was made by: an earlier run, or an adapter that was merged."""
    merged = MergedStart.of(model_name)
    if merged is None:
        return f"run {Path(model_name).parent.name}"
    return f"the adapter {printable(Path(merged.adapter).name, single_line=True)}, merged"


def _serve(config: Config, kind: Kind, base: str, details: CardDetails) -> str:
    served = ServedModel.of(config, "THIS_FOLDER", base if kind == "adapter" else "", details.gguf_file)
    served = replace(served, own_ends=details.own_ends)
    if root_model(config.model_name) != config.model_name:
        served = replace(served, obstacle="its base is the merged model of the first stage")
    return "\n\n".join(f"{program}:\n\n```sh\n" + "\n".join(lines) + "\n```" for program, lines in commands(served))
