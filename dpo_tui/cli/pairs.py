"""`dpo-tui pairs`: sample answers to prompts, rank them, and write preference pairs."""

from pathlib import Path
from typing import Any

import click

from dpo_tui.cli.judge_options import chosen_judge, judge_options, model_or_run, rubric_of
from dpo_tui.cli.manual_ranking import read_key, show_answers
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.errors import DataError, UsageError
from dpo_tui.judging.endpoint.chat_endpoint import ANSWERS_KEY, ChatEndpoint
from dpo_tui.judging.judges.judge import JudgeChoice
from dpo_tui.judging.judges.open_judge import check_judge, open_judge
from dpo_tui.judging.judges.position_bias import PositionBias
from dpo_tui.judging.pair_collection import PairCollection, SamplingSettings
from dpo_tui.judging.preference_pairs import write_pairs
from dpo_tui.judging.prompt_file import read_prompts
from dpo_tui.judging.rank_answers import rank_by_judge

_KEYS = {"l": "left", "r": "right", "s": "skip"}
_HELP = "l left is better · r right is better · s neither is of use · q quit, what is ranked is kept"


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--model", help="Who answers: a hub id, a folder, or run:ID for what a run made.")
@click.option("--answers-from", metavar="URL", help="Who answers instead: an OpenAI-compatible endpoint.")
@click.option("--answers-model", metavar="NAME", help="What that endpoint calls the model.")
@click.option("-n", "--answers", type=click.IntRange(2, 64), default=4, show_default=True, help="Answers to a prompt.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The pairs, as JSON Lines.")
@click.option("--temperature", type=click.FloatRange(0.01, 2), default=1.0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0.01, 1), default=1.0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longest answer.")
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--own-reward", is_flag=True, help="Rank by the DPO reward of the run that answers.")
@judge_options
def pairs(
    *,
    prompts: Path,
    model: str | None,
    answers_from: str | None,
    answers_model: str | None,
    answers: int,
    output: Path,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
    own_reward: bool,
    **judge: Any,
) -> None:
    """Sample answers to prompts, rank them by hand or by a judge, and write the best beside the worst.

    PROMPTS is a text file with one prompt a line, or .json/.jsonl rows. What is answered and ranked is kept in a folder
    beside the output; the same command goes on with it.
    """
    if output.exists():
        raise UsageError(f"{output}: exists already", hint="name another file, or remove it first")
    who, url = _answering_model(model, answers_from, answers_model, allow_http=judge["allow_http"])
    if own_reward and not who.startswith("run:"):
        raise UsageError("--own-reward needs --model run:ID: only a run has a DPO reward")
    choice = chosen_judge(**judge, own_reward=who if own_reward else "")
    if choice is not None:
        check_judge(choice)
    sampling = SamplingSettings(who, answers, temperature, top_p, max_new_tokens, seed, url)
    collection = PairCollection(output.with_name(f"{output.name}.work"), read_prompts(prompts), sampling)
    _generate(collection, allow_http=judge["allow_http"])
    if collection.is_without_choice():
        raise DataError(
            f"{who} gave the same answer each time, to every prompt: there is nothing to compare",
            hint="raise --temperature; a server may also ignore it: transformers serve samples only where the model's "
            "generation_config.json has do_sample",
        )
    if choice is not None:
        _rank_by_judge(collection, choice)
    elif not _rank_by_hand(collection):
        narrate(f"  the same command goes on; {output} is written when all are ranked")
        return
    ranked_pairs = collection.pairs()
    write_pairs(output, ranked_pairs)
    narrate(f"{len(ranked_pairs)} pairs from {len(collection.prompts)} prompts")
    click.echo(str(output))


def _answering_model(model: str | None, url: str | None, name: str | None, *, allow_http: bool) -> tuple[str, str]:
    """Return the model that answers, of a run its folder, and the address of its endpoint; empty for this machine."""
    if bool(url) != bool(name):
        raise UsageError("--answers-from and --answers-model go together")
    if bool(model) == bool(url):
        raise UsageError("say who answers", hint="--model MODEL, or --answers-from URL with --answers-model NAME")
    if model:
        return model_or_run(model), ""
    # Refused before the address is written down: it may hold a password.
    with ChatEndpoint(url or "", name or "", key_variable=ANSWERS_KEY, option="--answers-from", allow_http=allow_http):
        return name or "", url or ""


def _generate(collection: PairCollection, *, allow_http: bool) -> None:
    first = True
    for done, total in collection.generate(allow_http=allow_http):
        if first:
            narrate("The model answers the prompts")
            first = False
        if is_terminal():
            click.echo(f"\r\x1b[Kanswers {done}/{total}", nl=False, err=True)
    if is_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)


def _rank_by_judge(collection: PairCollection, choice: JudgeChoice) -> None:
    comparisons = []
    with open_judge(choice) as judge:
        for count, said in enumerate(rank_by_judge(collection, judge, rubric_of(choice)), start=1):
            if said is not None:
                comparisons.append(said)
            if is_terminal():
                click.echo(f"\r\x1b[Kjudged {count}", nl=False, err=True)
        if is_terminal():
            click.echo("\r\x1b[K", nl=False, err=True)
        if not judge.gives_scores:
            narrate(PositionBias.of(comparisons).summary())


def _rank_by_hand(collection: PairCollection) -> bool:
    """Ask for the better of two answers until all are ranked; return False if the user quits before."""
    narrate(_HELP)
    while (pair := collection.next()) is not None:
        show_answers(f"prompt {pair.number} of {pair.total}", pair.prompt, pair.left, pair.right)
        key = read_key({*_KEYS, "q"}, _HELP)
        if key == "q":
            return False
        collection.record_preference(pair, _KEYS[key])
    return True
