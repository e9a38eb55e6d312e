"""plan.json: what an improvement is asked to do, frozen when it was made. Standard library only."""

from dataclasses import dataclass, field, fields
from typing import Any

from dpo_tui.errors import RunError
from dpo_tui.improve.improvement_folder import CONTRACT_VERSION, ImprovementFolder
from dpo_tui.runs.atomic_files import read_json
from dpo_tui.runs.typed_documents import wrong_field

START, LAST = "start", "last"
"""What the trainings of later rounds take as reference: the start model, or the model of the round before."""


@dataclass(frozen=True)
class ImprovementPlan:
    """The contents of ``plan.json``; times are Unix seconds.

    Args:
        id: the improvement's id.
        name: given by the user; need not be unique.
        model: the start model: a folder, or a hub id.
        version: of the contract.
        model_settings: what else [model] says of the start model, such as its revision and its chat template: it
            answers as its trained successors do.
        created_at: when it was made.
        source: the config file that it was made from, as the user named it.
        prompts: the file of prompts, as the user named it.
        rounds: how many rounds at most.
        answers: how many answers are sampled to each training prompt.
        temperature: of the sampling, dividing the logits; that of the held-out answers is 0.
        top_p: nucleus of the distribution that is sampled from.
        max_new_tokens: longest answer.
        seed: of sampling, and of which answer is shown on which side.
        judge: of sampled answers, as `dpo_tui.judging.judges.judge.JudgeChoice` writes it.
        second_judge: of held-out answers as well, without a say; None for none.
        source_of_answers: an endpoint that serves the start model and answers in the first round; None for none.
        reference: `START` or `LAST`.
        margin: by how much the score of a chosen answer must exceed that of the rejected one.
        sweep: values of settings, each combination trained in each round; the best by held-out judgement goes on.
        target: share of held-out prompts won over the start model that ends it, 0 to 1; None for no target.
        kl_limit: nats per answer from the reference beyond which it ends; None for no limit.
        length_limit: factor by which held-out answers may become longer or shorter than the start model's.
        hours: of work after which it ends; None for no limit.
        tokens: sampled tokens after which it ends; None for no limit.
        argv: the command line, for the receipts of its runs.
        folder: in which the command was given: programs that judge, and names of models, are relative to it.
        prompts_sha256: of ``prompts.jsonl`` as it was written: what is held out must not change under way.
    """

    id: str
    name: str
    model: str
    version: int = CONTRACT_VERSION
    model_settings: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    source: str = ""
    prompts: str = ""
    rounds: int = 3
    answers: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 42
    judge: dict[str, Any] = field(default_factory=dict)
    second_judge: dict[str, Any] | None = None
    source_of_answers: dict[str, Any] | None = None
    reference: str = START
    margin: float = 0.0
    sweep: dict[str, Any] = field(default_factory=dict)
    target: float | None = None
    kl_limit: float | None = None
    length_limit: float = 2.0
    hours: float | None = None
    tokens: int | None = None
    argv: list[str] = field(default_factory=list)
    folder: str = ""
    prompts_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The object that ``plan.json`` holds."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


_FIELDS = frozenset(item.name for item in fields(ImprovementPlan))


def read_plan(folder: ImprovementFolder) -> ImprovementPlan:
    """Read an improvement's plan.

    Raises:
        RunError: it is missing, torn, of a newer version, or a value has a wrong type.
    """
    document = read_json(folder.plan)
    delete = f"Delete it: dpo-tui rm {folder.id}. Its runs stay."
    if document is None:
        raise RunError(f"improvement {folder.id}: {folder.plan.name} is missing or torn", hint=delete)
    version = document.get("version", CONTRACT_VERSION)
    if type(version) is int and version > CONTRACT_VERSION:
        raise RunError(
            f"improvement {folder.id}: its folder has version {version}, written by a newer dpo-tui; "
            f"this one reads up to version {CONTRACT_VERSION}",
            hint="Update dpo-tui, or look at it with the version that made it.",
        )
    known = {key: value for key, value in document.items() if key in _FIELDS}
    try:
        if wrong := wrong_field(ImprovementPlan, known):
            raise ValueError(wrong)
        return ImprovementPlan(**{**known, "id": folder.id})
    except (TypeError, ValueError) as error:
        raise RunError(
            f"improvement {folder.id}: plan.json is not a plan of an improvement: {error}", hint=delete
        ) from None
