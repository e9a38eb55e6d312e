"""`dpo-tui pairs`: sample answers to prompts, rank them, and write preference pairs."""

from collections.abc import Callable
from pathlib import Path

import click

from dpo_tui.cli.manual_ranking import read_key, show_answers
from dpo_tui.cli.output import is_terminal, narrate
from dpo_tui.errors import UsageError
from dpo_tui.groups.group_store import find_run
from dpo_tui.hardware.tool_gpu import tool_environment
from dpo_tui.judging.judge_model import JudgeModel, PositionBias, ask_twice, endpoint_judge, local_judge
from dpo_tui.judging.pair_collection import PairCollection, SamplingSettings
from dpo_tui.judging.preference_pairs import AnswerPair, write_pairs
from dpo_tui.judging.prompt_file import read_prompts
from dpo_tui.processes.torch_tool import TorchTool

_KEYS = {"l": "left", "r": "right", "s": "skip"}
_HELP = "l left is better · r right is better · s neither is of use · q quit, what is ranked is kept"


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Who answers: a hub id, a folder, or run:ID for what a run made.")
@click.option("-n", "--answers", type=click.IntRange(2, 64), default=4, show_default=True, help="Answers to a prompt.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The pairs, as JSON Lines.")
@click.option("--temperature", type=click.FloatRange(0.01, 2), default=1.0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0.01, 1), default=1.0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help="Longest answer.")
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--own-reward", is_flag=True, help="Rank by the DPO reward of the run that answers.")
@click.option("--reward-model", metavar="MODEL", help="Rank by a reward model's score.")
@click.option("--judge-model", metavar="MODEL", help="Rank by a model that is asked, in both orders.")
@click.option("--endpoint", "url", metavar="URL", help="Rank by a model behind an OpenAI-compatible endpoint.")
@click.option("--endpoint-model", metavar="NAME", help="What the endpoint calls the model.")
def pairs(
    *,
    prompts: Path,
    model: str,
    answers: int,
    output: Path,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
    own_reward: bool,
    reward_model: str | None,
    judge_model: str | None,
    url: str | None,
    endpoint_model: str | None,
) -> None:
    """Sample answers to prompts, rank them by hand or by a model, and write the best beside the worst.

    PROMPTS is a text file with one prompt a line, or .json/.jsonl rows. What is answered and ranked is kept in a folder
    beside the output; the same command goes on with it.
    """
    if output.exists():
        raise UsageError(f"{output}: exists already", hint="name another file, or remove it first")
    if bool(url) != bool(endpoint_model):
        raise UsageError("--endpoint and --endpoint-model go together")
    if sum(map(bool, (own_reward, reward_model, judge_model, url))) > 1:
        raise UsageError("choose one way to rank")
    if own_reward and not model.startswith("run:"):
        raise UsageError("--own-reward needs --model run:ID: only a run has a DPO reward")
    answering_model = f"run:{find_run(model.removeprefix('run:')).path}" if model.startswith("run:") else model
    sampling = SamplingSettings(answering_model, answers, temperature, top_p, max_new_tokens, seed)
    collection = PairCollection(output.with_name(f"{output.name}.work"), read_prompts(prompts), sampling)
    _generate(collection)
    if own_reward:
        _rank_by_score(
            collection, {"do": "load-run", "run": answering_model.removeprefix("run:")}, f"own reward of {model}"
        )
    elif reward_model:
        _rank_by_score(collection, {"do": "load-reward", "model": reward_model}, f"reward model {reward_model}")
    elif judge_model:
        with TorchTool("generate", environment=tool_environment()) as tool:
            _rank_by_judge_model(collection, local_judge(tool, judge_model), f"model {judge_model}")
    elif url and endpoint_model:
        _rank_by_judge_model(collection, endpoint_judge(url, endpoint_model), f"model {endpoint_model}")
    elif not _rank_by_hand(collection):
        narrate(f"  the same command goes on; {output} is written when all are ranked")
        return
    ranked_pairs = collection.pairs()
    write_pairs(output, ranked_pairs)
    narrate(f"{len(ranked_pairs)} pairs from {len(collection.prompts)} prompts")
    click.echo(str(output))


def _generate(collection: PairCollection) -> None:
    first = True
    for done, total in collection.generate():
        if first:
            narrate("The model answers the prompts")
            first = False
        if is_terminal():
            click.echo(f"\r\x1b[Kanswers {done}/{total}", nl=False, err=True)
    if is_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)


def _rank_by_score(collection: PairCollection, load: dict[str, str], name: str) -> None:
    """Score the answers that have no score yet, in a child process.

    Args:
        collection: of prompts and answers.
        load: the request that makes the child load its model.
        name: of what scores, as the collection's file names it.
    """
    unscored = collection.unscored()
    if not unscored:
        return
    items = [{"id": key, "messages": collection.prompts[key], "answer": answer} for key, answer in unscored]
    with TorchTool("score", environment=tool_environment()) as tool:
        for _ in tool.ask(load):
            pass
        for message in tool.ask({"do": "score", "items": items}):
            if message["kind"] == "score":
                collection.record_score(message["id"], message["answer"], float(message["value"]), name)


def _rank_by_judge_model(collection: PairCollection, judge: JudgeModel, name: str) -> None:
    """Let a judge model compare answers, each pair in both orders, until the collection is ranked."""
    bias = PositionBias()
    record: dict[str, Callable[[AnswerPair], None]] = {
        "left": lambda pair: collection.record_preference(pair, "left", by=name),
        "right": lambda pair: collection.record_preference(pair, "right", by=name),
        "tie": lambda pair: collection.record_tie(pair, name),
    }
    for pair in collection.uncompared_pairs():
        verdict, replies = ask_twice(judge, pair.prompt, pair.left, pair.right)
        bias.add(replies, verdict)
        record[verdict](pair)
    narrate(bias.summary())


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
