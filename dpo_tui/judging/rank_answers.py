"""A judge put to sampled answers: scores where it gives them, otherwise a comparison of every two."""

from collections.abc import Iterator

from dpo_tui.errors import UsageError
from dpo_tui.judging.judges.judge import AnswerToScore, Comparison, Judge
from dpo_tui.judging.pair_collection import PairCollection


def rank_by_judge(collection: PairCollection, judge: Judge, rubric: str = "") -> Iterator[Comparison | None]:
    """Let a judge rank the answers of a collection; what it says is recorded before the next is awaited.

    Args:
        collection: with its answers.
        judge: that ranks.
        rubric: hash of the rubric that it has, for the records; empty for none.

    Yields:
        What it says: a comparison, or None for a score.

    Raises:
        UsageError: there are scores by another judge, which are on another scale.
        DpoTuiError: the judge failed; what it said before is kept.
    """
    if judge.gives_scores:
        if others := collection.scored_by - {judge.name}:
            raise UsageError(
                f"{collection.folder}: holds scores by {', '.join(sorted(others))}, which cannot be set beside others",
                hint="go on with the same judge, or give another -o",
            )
        waiting = [AnswerToScore(key, collection.prompts[key], answer) for key, answer in collection.unscored()]
        for answer, value in judge.score(waiting):
            collection.record_score(answer.id, answer.answer, value, judge.name)
            yield None
        return
    about = {"rubric": rubric} if rubric else {}
    for pair, comparison in judge.compare(list(collection.uncompared_pairs())):
        if comparison.verdict == "tie":
            collection.record_tie(pair, judge.name, **comparison.details, **about)
        else:
            collection.record_preference(pair, comparison.verdict, by=judge.name, **comparison.details, **about)
        yield comparison
