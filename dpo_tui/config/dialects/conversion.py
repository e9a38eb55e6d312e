"""The result of reading another tool's config file: our settings and the outcome of each key.

Also the conversions that several dialects need: numbers, lists and switches that a file holds as text, warm-up,
held-out parts, trackers, and data from several sources.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpo_tui.config.library_fields import trl_fields
from dpo_tui.config.passthrough_names import LOGIN, REFUSED, SECRETS, SETTING_FOR
from dpo_tui.config.problems import advice_on
from dpo_tui.config.schema import PASSTHROUGH, choices, fields
from dpo_tui.paths import expanded

OWN_FOLDER = "a run has a folder of its own; `dpo-tui paths` says where"
ONE_GPU = "[compute] gpus, gpu_count and distributed say which GPUs train together, and how (ddp, fsdp2)"
LONG_ROWS = "here an answer that is too long is cut, and a row whose prompt is too long is left out"
EXPORT = "use `dpo-tui export --push` when the run is done"
UNDECIDED = "undecided"
"""Name of the table in a converted file with the keys that need a decision; a run does not start from such a file."""

Outcome = Literal["taken", "renamed", "passed on", "dropped", "filled in", "undecided"]
Convert = Callable[["Conversion", str, Any, Mapping[str, Any]], None]
"""Converts one key: the conversion to write to, the key, its value, and the whole file."""


@dataclass(frozen=True)
class KeyOutcome:
    """One row of the table that `config convert` prints.

    Attributes:
        key: the key in the foreign file, or ours where the other tool's default was filled in.
        outcome: taken as it is, renamed, passed on to a library, dropped, filled in with the other tool's default, or
            left undecided: it would change the training, and what to do about it is for the user to say.
        to: our setting, or ``trl.NAME`` for one that is passed on; empty where it was dropped or is undecided.
        why: the reason, where the outcome needs one.
        value: as the file has it, for the undecided.
    """

    key: str
    outcome: Outcome
    to: str = ""
    why: str = ""
    value: Any = None


@dataclass
class Conversion:
    """Our settings made from a foreign file, with the outcome of every key, in the file's order.

    Attributes:
        values: our settings by name; those of a passthrough table are a mapping under its name.
        outcomes: of every key.
    """

    values: dict[str, Any] = field(default_factory=dict)
    outcomes: list[KeyOutcome] = field(default_factory=list)

    def take(self, key: str, to: str, value: Any, why: str = "") -> None:
        """Keep a value under our name."""
        self.values[to] = value
        self.outcomes.append(KeyOutcome(key, "taken" if key == to else "renamed", to, why, value))

    def drop(self, key: str, why: str) -> None:
        """Leave a key out, with the reason."""
        self.outcomes.append(KeyOutcome(key, "dropped", "", why))

    def leave_undecided(self, key: str, value: Any, why: str) -> None:
        """Carry a key over that the user has to decide about, since leaving it out would be another training."""
        self.outcomes.append(KeyOutcome(key, "undecided", "", why, value))

    def pass_on(self, key: str, table: str, name: str, value: Any) -> None:
        """Write an argument of a library into the table that is passed on to it."""
        self.values[table] = {**self.values.get(table, {}), name: value}
        self.outcomes.append(KeyOutcome(key, "passed on", f"{table}.{name}", f"[{table}] {name}", value))

    def other(self, name: str, value: Any, *, shown: str = "", arguments: str = "DPOConfig") -> None:
        """Convert a key that its dialect does not know: a setting, an argument of TRL, nothing, or a decision.

        Args:
            name: as TRL, or dpo-tui, calls it.
            value: its value.
            shown: the key in the file, where that is another.
            arguments: TRL's class of arguments, whose fields are passed on.
        """
        key = shown or name
        known = trl_fields(arguments) or {}
        if name in SECRETS:
            self.drop(key, LOGIN)
        elif name in PASSTHROUGH and isinstance(value, Mapping):
            for argument, item in value.items():
                self.pass_on(f"{key}.{argument}", name, str(argument), item)
        elif name in fields() and not isinstance(fields()[name].default, dict):
            if name in known and _beyond_choices(name, value):
                self.pass_on(key, "trl", name, value)
            else:
                self.take(key, name, _as_declared(name, value))
        elif name in known and name in REFUSED["trl"]:
            self.drop(key, REFUSED["trl"][name])
        elif name in known and name not in SETTING_FOR["trl"]:
            self.pass_on(key, "trl", name, plain(value))
        elif value in (None, False, "", 0) or value in ([], {}):
            self.drop(key, "is empty" if value is None else "is off")
        else:
            self.leave_undecided(key, value, advice_on(name) or "dpo-tui has no counterpart")

    def fill_in(self, defaults: Mapping[str, Any], tool: str) -> None:
        """Add the other tool's default for each setting that the file leaves out, so that the training is the same."""
        for name, value in defaults.items():
            if name == "warmup_ratio" and "warmup_steps" in self.values:
                continue
            if name == "save_steps" and self.values.get("save_strategy") == "epoch":
                continue
            if name not in self.values:
                self.values[name] = value
                self.outcomes.append(KeyOutcome(name, "filled in", name, f"{tool}'s default, {value!r}", value))


_ADDED = frozenset({"rpo_alpha", "pref_ftx"})
"""Keys that add a loss to those of other keys, and are converted after them wherever they stand in the file."""


def convert_keys(
    conversion: Conversion,
    raw: Mapping[str, Any],
    *,
    converted: Mapping[str, Convert],
    renamed: Mapping[str, str],
    dropped: Mapping[str, str],
    nulls: Mapping[str, Convert] | None = None,
    prefix: str = "",
    arguments: str = "DPOConfig",
) -> None:
    """Convert every key of a table: by a function, by another name, by leaving it out, or as :meth:`Conversion.other`.

    Args:
        conversion: receives the outcomes.
        raw: the table.
        converted: functions of the dialect by key.
        renamed: our names, or TRL's, of keys that mean the same.
        dropped: reasons for keys that have no effect here.
        nulls: functions for keys in which null is a value, and not the same as leaving them out.
        prefix: before the key in the outcome, for a table inside a file.
        arguments: TRL's class of arguments, whose fields are passed on.
    """
    for key, value in sorted(raw.items(), key=lambda item: item[0] in _ADDED):
        shown = f"{prefix}{key}"
        if value is None or value == "":
            if key in (nulls or {}):
                (nulls or {})[key](conversion, shown, value, raw)
            else:
                conversion.drop(shown, "is empty")
        elif key in converted:
            converted[key](conversion, shown, value, raw)
        elif key in renamed and renamed[key] not in fields():
            conversion.other(renamed[key], value, shown=shown, arguments=arguments)
        elif key in renamed:
            conversion.take(shown, renamed[key], _as_declared(renamed[key], value))
        elif key in dropped:
            conversion.drop(shown, dropped[key])
        else:
            conversion.other(key, value, shown=shown, arguments=arguments)


def _as_declared(name: str, value: Any) -> Any:
    """A value as its setting wants it: text stays text where that is what the setting holds."""
    annotation = str(fields()[name].annotation)
    if "list[" in annotation:
        return text_list(value) if "float" not in annotation else value
    text = "str" in annotation or "Literal" in annotation
    # A setting with a list of values may take true and false too, as precompute_ref_log_probs does.
    is_switch = bool(choices(fields()[name])) and isinstance(plain(value), bool)
    return value if text and not is_switch else plain(value)


def _beyond_choices(name: str, value: Any) -> bool:
    allowed = choices(fields()[name])
    return bool(allowed) and isinstance(value, str) and value not in allowed and name in {"optim", "lr_scheduler_type"}


def number(value: Any) -> Any:
    """Convert text such as ``5e-7``, which YAML 1.1 does not read as a number; return everything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def plain(value: Any) -> Any:
    """Convert a value that a file holds as text: numbers (``5e-7``, ``"8"``) and switches (``"true"``)."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return number(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else value


def switch(value: Any) -> bool:
    """Whether a switch is on, which a file may hold as text."""
    return bool(plain(value)) and str(value).strip().lower() not in {"false", "no", "off", "none", "null", "n"}


def text_list(value: Any) -> list[str]:
    """Convert a list that a file may hold as text with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[] ").split(",") if part.strip()]
    return [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]


def half_precision(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    """Take fp16, with bf16 off, which is on here unless it is set; a file that has both on is refused as such."""
    if not switch(value):
        conversion.drop(key, "is off")
        return
    conversion.take(key, "fp16", True)
    if raw.get("bf16") is None:
        conversion.values["bf16"] = False


def warmup_share(value: Any) -> float | None:
    """The share of the steps that a warm-up value means; None for a number of steps, or anything else.

    Transformers 5 reads ``warmup_steps`` below 1 as a share of all steps.
    """
    share = number(value)
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share < 1:
        return float(share)
    return None


def warmup(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any]) -> None:
    """Take a warm-up: a share below 1 as ``warmup_ratio``, a number of steps as ``warmup_steps``.

    Where a file has both, a number of steps above 0 wins, as in transformers' Trainer.
    """
    share, count = warmup_share(value), number(value)
    other = raw.get("warmup_ratio" if key.endswith("steps") else "warmup_steps")
    if key.endswith("ratio") and other is not None and number(other):
        conversion.drop(key, "warmup_steps is given too, and wins")
    elif key.endswith("steps") and other is not None and share == 0:
        conversion.drop(key, "is 0; warmup_ratio is given too")
    elif share is not None:
        conversion.take(key, "warmup_ratio", share)
    elif key.endswith("steps") and isinstance(count, int | float) and count == int(count) and count > 0:
        conversion.take(key, "warmup_steps", int(count))
    else:
        conversion.leave_undecided(key, value, "is neither a share of the steps below 1 nor a number of steps")


def held_out(conversion: Conversion, key: str, value: Any, default: float) -> None:
    """Take a held-out share; drop a number of rows, and use the default share.

    Args:
        conversion: receives the outcome.
        key: the foreign key.
        value: a share below 1, or a number of rows.
        default: of ``eval_split``.
    """
    share = number(value)
    if isinstance(share, int | float) and share >= 1:
        conversion.drop(key, f"a number of rows; eval_split is a part of them, and {default:g} is set")
        conversion.values["eval_split"] = default
    else:
        conversion.take(key, "eval_split", share or 0.0)


def adapter(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take the adapter that a training starts from as the model: it is merged into its base first."""
    names = text_list(value)
    if len(names) == 1:
        why = "it is merged into its base first; a new adapter is trained, and the merged model is the reference"
        conversion.take(key, "model_name", names[0], why)
    else:
        why = "one adapter can be model_name: merge the others into the base first, and name that in its config"
        conversion.leave_undecided(key, value, why)


def base_of_adapter(conversion: Conversion, key: str, value: Any, raw: Mapping[str, Any], *, adapter_key: str) -> None:
    """Take the model, or drop it where the file names one adapter, whose own config says what it was trained on."""
    if raw.get(adapter_key) and len(text_list(raw[adapter_key])) == 1:
        conversion.drop(
            key, f"{adapter_key} is given: its base is what base_model_name_or_path in its adapter_config.json names"
        )
    else:
        conversion.take(key, "model_name", str(value))


def trackers(conversion: Conversion, key: str, value: Any, _: Mapping[str, Any]) -> None:
    """Take the named trackers; "none" and "all" name none, and one that is not offered is named and left out."""
    names = [name for name in text_list(value) if name not in {"none", "all", "None"}]
    offered = choices(fields()["report_to"])
    others = [name for name in names if name not in offered]
    why = f"{', '.join(others)}: not offered; {', '.join(offered)} are" if others else ""
    conversion.take(key, "report_to", [name for name in names if name in offered], why)


@dataclass(frozen=True)
class DataSource:
    """One of the data sets that a foreign file trains on.

    Attributes:
        place: file, folder or hub id.
        subset: its config on the hub.
        split: its split.
        weight: part of its rows that is used; None where the file has none.
    """

    place: str
    subset: str = ""
    split: str = ""
    weight: float | None = None


def take_sources(conversion: Conversion, key: str, sources: Sequence[DataSource], why: str = "") -> None:
    """Take the data: one source with its subset and split, or several as a list.

    Until ``dataset`` takes a list, the first source is taken, and the others need a decision.
    """
    first, *others = sources
    lists = "dataset_weights" in fields()
    if others and lists:
        conversion.take(key, "dataset", [source.place for source in sources], why)
        weights = [1.0 if source.weight is None else source.weight for source in sources]
        if any(weight != 1.0 for weight in weights):
            meaning = "a part of each data set's rows; dataset_weights, in [data], are shares of the mix"
            conversion.leave_undecided(f"{key}_weights", weights, meaning)
    else:
        conversion.take(key, "dataset", first.place, why)
    for name, ours in (("subset", "dataset_config"), ("split", "dataset_split")):
        given = {getattr(source, name) for source in sources} - {""}
        if len(given) == 1 or (given and not lists):
            conversion.values[ours] = getattr(first, name) or None
            conversion.outcomes.append(KeyOutcome(f"{key}: {name}", "renamed", ours, "", conversion.values[ours]))
        elif given:
            conversion.leave_undecided(
                f"{key}_{name}s",
                [getattr(source, name) for source in sources],
                f"the sources have several; {ours} is one for all",
            )
    if others and not lists:
        conversion.leave_undecided(
            f"{key}_others",
            [_described(source) for source in others],
            "one dataset is trained on, and the first is set: join the files into one, or leave these out",
        )
    elif first.weight not in (None, 1.0) and not others:
        conversion.leave_undecided(
            f"{key}_weight", first.weight, "a part of the rows; max_samples, in [data], limits their number"
        )


def _described(source: DataSource) -> str:
    parts = [source.place, source.subset, source.split, "" if source.weight is None else f"weight {source.weight:g}"]
    return ", ".join(part for part in parts if part)


def beside(folder: Path, name: str) -> Path:
    """A path that a file names: from the current folder where it exists there, else from the file's own folder."""
    path = expanded(name)
    return path if path.exists() or path.is_absolute() or not (folder / path).exists() else folder / path
