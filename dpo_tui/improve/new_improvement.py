"""Make an improvement: check config, prompts and judge as far as that is possible before anything starts."""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpo_tui.config.files import LoadedConfig, load, with_changes
from dpo_tui.config.schema import Config
from dpo_tui.config.toml_text import to_toml
from dpo_tui.data.pairs.hold_out_by_prompt import held_out_rows, prompt_id
from dpo_tui.data.pairs.pair import Message
from dpo_tui.errors import ConfigError, DpoTuiError, UsageError
from dpo_tui.groups.sweep import Sweep, prepare_combinations
from dpo_tui.improve.improvement_plan import START, ImprovementPlan
from dpo_tui.improve.improvement_store import ImprovementPrompt, all_improvements, improvement_name
from dpo_tui.improve.rounds.round_pairs import LEAST_PAIRS
from dpo_tui.improve.rounds.round_work import WITHOUT_DATA
from dpo_tui.judging.answer_sources.answer_source import AnswerSource
from dpo_tui.judging.endpoint.chat_endpoint import ANSWERS_KEY, ChatEndpoint
from dpo_tui.judging.judges.judge import AnswerToScore, JudgeChoice
from dpo_tui.judging.judges.open_judge import open_judge
from dpo_tui.judging.preference_pairs import AnswerPair
from dpo_tui.judging.prompt_file import read_prompts
from dpo_tui.paths import expanded
from dpo_tui.processes.json_child import Message as ChildMessage
from dpo_tui.runs import naming, store
from dpo_tui.runs.atomic_files import json_line
from dpo_tui.start.earlier_run_model import PREVIOUS
from dpo_tui.start.model_check import model_files
from dpo_tui.start.prepare import Prepared
from dpo_tui.strategies.registry import strategy_of

LEAST_HELD_OUT = 10
"""Held-out prompts at least: of ten, all must be won for an interval above 0.7."""
MOST_HELD_OUT = 200
"""Held-out prompts at most where the number is not given: their interval is ± 7 points, and each costs answers."""
_HELD_OUT_SHARE = 0.2
_LONGEST_PROMPT = 500_000
"""Bytes of a prompt as JSON; longer ones fit no context, and readers of the files pass over lines of 1 MiB."""
_DATA_SETTINGS = ("dataset_weights", "eval_dataset")
_REFERENCE_SETTINGS = ("ref_model", "ref_adapter")
_MODEL_OPTIONS = {"reward-model": "--reward-model", "model": "--judge-model"}
"""Kinds of judges that are models on this machine, with the option that names one."""
_LOADING = (
    "model_revision",
    "use_4bit",
    "bf16",
    "fp16",
    "trust_remote_code",
    "attn_implementation",
    "chat_template",
    "chat_template_kwargs",
    "eos_token",
    "model_init",
)
"""Settings by which a model and its tokenizer are loaded, in training and for its answers."""


@dataclass(frozen=True)
class ImprovementRequest:
    """What the user asks for; see `dpo_tui.improve.improvement_plan.ImprovementPlan` for what is not explained here.

    Attributes:
        config: the config file, without data.
        prompts: the file of prompts.
        judge: of the sampled answers.
        changes: settings that override the file.
        held_out: how many prompts are held out; None for a fifth of them.
        second_judge: of held-out answers.
        source_of_answers: an endpoint that answers in the first round.
        options: fields of the plan, by name.
    """

    config: Path
    prompts: Path
    judge: JudgeChoice
    changes: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    held_out: int | None = None
    second_judge: JudgeChoice | None = None
    source_of_answers: AnswerSource | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedImprovement:
    """An improvement that is ready to start.

    Attributes:
        plan: the id comes with the folder.
        config: the text of its config.
        prompts: with those held out.
        prepared: the first combination of its first round, as far as it can be checked without the round's pairs.
    """

    plan: ImprovementPlan
    config: str
    prompts: tuple[ImprovementPrompt, ...]
    prepared: Prepared


def prepare_improvement(
    request: ImprovementRequest, report: Callable[[ChildMessage], None] = lambda message: None
) -> PreparedImprovement:
    """Check what is asked for; nothing starts.

    The config is checked as that of a run on pairs of these prompts with two words as answers: model, template, memory
    and settings are those of every round.

    Args:
        request: what is asked for.
        report: called with the progress of a merge, where the start model is an adapter or that of a run.

    Raises:
        UsageError: options do not go together, or there are too few prompts.
        ConfigError: the config names data, or cannot be trained with.
        DataError: the prompts cannot be read, or do not fit the model.
        DpoTuiError: the judge does not answer as it should.
    """
    _refuse_no_numbers(request.options)
    plan = ImprovementPlan("", "", "", **request.options)
    loaded = load(request.config, request.changes | {"dataset": WITHOUT_DATA})
    _refuse_data(request, loaded)
    _refuse_reference_of_later_rounds(loaded, plan)
    if loaded.config.model_name == PREVIOUS:
        raise ConfigError(f'model_name = "{PREVIOUS}": there is no config before this one', hint='use "run:ID"')
    if request.source_of_answers is not None:
        _refuse_endpoint_of_later_rounds(plan)
    prompts = _split(read_prompts(request.prompts), request, loaded.config.seed)
    prepared, text = _checked(loaded, prompts, plan, report)
    _check_judges(request, prompts)
    taken = {improvement_name(one) for one in all_improvements()} | {store.name_of(run) for run in store.all_runs()}
    name = naming.numbered((request.name or loaded.config.name or "improve")[:40], taken)
    document = plan.to_dict() | {
        "name": name,
        "model": prepared.config.model_name,
        "folder": str(Path.cwd()),
        "model_settings": _model_settings(prepared.config),
        "source": str(request.config),
        "prompts": str(request.prompts),
        "seed": loaded.config.seed,
        "judge": request.judge.to_document(),
        "second_judge": request.second_judge.to_document() if request.second_judge else None,
        "source_of_answers": asdict(request.source_of_answers) if request.source_of_answers else None,
    }
    return PreparedImprovement(ImprovementPlan(**document), text, prompts, prepared)


def _refuse_no_numbers(options: dict[str, Any]) -> None:
    """Refuse NaN, which passes every limit, and infinity: neither can be read back from the plan."""
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value}: is no finite number")


def _refuse_data(request: ImprovementRequest, loaded: LoadedConfig) -> None:
    """Refuse a config that names data: rounds make their own, and what it names would not be trained on."""
    named = [name for name in _DATA_SETTINGS if name in loaded.origins]
    if _names_dataset(request):
        named.insert(0, "dataset")
    if named:
        raise ConfigError(
            f"{request.config}: names {', '.join(named)}, and improve makes its own data in each round",
            hint="remove it from the file; to train on data that is there: dpo-tui train",
        )


def _names_dataset(request: ImprovementRequest) -> bool:
    if "dataset" in request.changes:
        return True
    try:
        load(request.config, request.changes)
    except DpoTuiError:
        return False  # without a dataset it cannot be loaded, and any other fault has been told by now
    return True


def _refuse_reference_of_later_rounds(loaded: LoadedConfig, plan: ImprovementPlan) -> None:
    named = [name for name in _REFERENCE_SETTINGS if getattr(loaded.config, name) is not None]
    if plan.rounds > 1 and named:
        raise ConfigError(
            f"{loaded.path}: names {', '.join(named)}, and later rounds have the reference that --reference says",
            hint="remove it from the file, or use it with --rounds 1",
        )


def _model_settings(config: Config) -> dict[str, Any]:
    """What a config says of how its model is loaded, besides which one: the start model answers as the trained one."""
    values = config.model_dump(mode="json")
    fields = Config.model_fields
    return {name: values[name] for name in _LOADING if values[name] != fields[name].default}


def _refuse_endpoint_of_later_rounds(plan: ImprovementPlan) -> None:
    if plan.rounds > 1:
        raise UsageError(
            "--answers-from serves the start model, and later rounds sample answers of what was trained before",
            hint="leave it out: this machine then answers in all rounds; or use it with --rounds 1",
        )


def _split(prompts: Sequence[list[Message]], request: ImprovementRequest, seed: int) -> tuple[ImprovementPrompt, ...]:
    total = len(prompts)
    wanted = request.held_out
    if wanted is None:
        wanted = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, round(total * _HELD_OUT_SHARE)))
    if wanted < LEAST_HELD_OUT or total - wanted < LEAST_PAIRS:
        raise UsageError(
            f"{request.prompts}: {total} different prompts are too few: at least {LEAST_HELD_OUT} are held out to "
            f"judge the result on, and {LEAST_PAIRS} trained on; asked for are {wanted} held out"
        )
    # Rows are held out as of any data: by a hash of seed and text, so that the same file gives the same split.
    held_out = held_out_rows(map(_without_case_and_space, prompts), wanted / total, seed)
    if not LEAST_HELD_OUT <= sum(held_out) <= total - LEAST_PAIRS:
        raise UsageError(
            f"{request.prompts}: so many prompts differ in case or white space alone, and stay together, that "
            f"{sum(held_out)} of {total} can be held out; at least {LEAST_HELD_OUT}, and {LEAST_PAIRS} to train on, "
            "are needed"
        )
    found = []
    for messages, out in zip(prompts, held_out, strict=True):
        if (size := len(json_line(messages))) > _LONGEST_PROMPT:
            raise UsageError(
                f"{request.prompts}: a prompt has {size:,} bytes, and at most {_LONGEST_PROMPT:,} are taken",
                hint=f"it begins: {str(messages[-1].get('content'))[:60]!r}",
            )
        found.append(ImprovementPrompt(prompt_id(messages), messages, out))
    return tuple(found)


def _without_case_and_space(messages: list[Message]) -> list[Message]:
    """A prompt as it is told from others where it is held out: the same question in capitals is no other one."""
    return [
        message | {"content": " ".join(message["content"].casefold().split())}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def _checked(
    loaded: LoadedConfig,
    prompts: Sequence[ImprovementPrompt],
    plan: ImprovementPlan,
    report: Callable[[ChildMessage], None],
) -> tuple[Prepared, str]:
    """Prepare all combinations of a round on stand-in answers; return the first, and the text of the config."""
    sweep = Sweep({name: tuple(values) for name, values in plan.sweep.items()})
    with tempfile.TemporaryDirectory(prefix="dpo-tui-improve-") as folder:
        pairs = Path(folder) / "pairs.jsonl"
        rows = (
            {"prompt": one.messages, "chosen": _answer("Yes."), "rejected": _answer("No.")}
            for one in prompts
            if not one.held_out
        )
        pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

        def read(values: dict[str, Any]) -> LoadedConfig:
            return with_changes(loaded, {"dataset": str(pairs), **values}, "command line")

        ready = prepare_combinations(read, sweep, source=str(loaded.path), report=report)
    prepared = ready.members[0]
    # As they were found from here: the driver has another folder, and a model that was merged has no revision.
    named = {"model_name": prepared.config.model_name, "model_revision": prepared.config.model_revision}
    if loaded.config.chat_template:
        named["chat_template"] = prepared.config.chat_template
    start = with_changes(loaded, named, "file")
    if plan.rounds > 1 and plan.reference == START and strategy_of(loaded.config).has_reference:
        # What later rounds are refused for, such as FSDP2, is known now.
        with_changes(start, {"ref_model": prepared.config.model_name}, "command line")
    omit = frozenset(name for name in Config.model_fields if name not in start.origins) | {"dataset"}
    return prepared, to_toml(start.config, omit=omit)


def _answer(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _check_judges(request: ImprovementRequest, prompts: Sequence[ImprovementPrompt]) -> None:
    """Ask a program or an endpoint about two answers, and look for a model's files.

    What cannot judge is found now, and not after an hour of sampling; and an address that holds a password before it is
    in a file.
    """
    if (source := request.source_of_answers) is not None:
        sample_from = ChatEndpoint(
            source.url,
            source.endpoint_model,
            key_variable=ANSWERS_KEY,
            option="--answers-from",
            allow_http=source.allow_http,
        )
        sample_from.close()  # whether it answers is seen at once, in the first step
    for choice in (request.judge, request.second_judge):
        if choice is None:
            continue
        if choice.kind in _MODEL_OPTIONS:
            folder = expanded(choice.target)
            name = str(folder.absolute()) if folder.is_dir() else choice.target
            model_files(name, None, setting=_MODEL_OPTIONS[choice.kind])
        if choice.kind not in ("program", "endpoint"):
            continue
        prompt = prompts[0]
        with open_judge(choice) as judge:
            if judge.gives_scores:
                asked = [AnswerToScore(prompt.id, prompt.messages, text) for text in ("Yes.", "No, it is not so.")]
                list(judge.score(asked))
            else:
                list(judge.compare([AnswerPair(prompt.id, prompt.messages, "Yes.", "No.", 1, 1)]))
