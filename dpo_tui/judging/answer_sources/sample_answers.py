"""Sample answers to prompts, from whatever gives them."""

from collections.abc import Iterator, Sequence

from dpo_tui.errors import UsageError
from dpo_tui.judging.answer_sources.answer_source import AnswerRequest, AnswerSource, SampledAnswer
from dpo_tui.judging.answer_sources.endpoint_answers import endpoint_answers
from dpo_tui.judging.answer_sources.local_model import local_answers


def sample_answers(
    source: AnswerSource,
    requests: Sequence[AnswerRequest],
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
) -> Iterator[SampledAnswer]:
    """Sample one answer for each request.

    Which answer a seed gives depends on the machine, the batch and the server. Sampling that goes on after an
    interruption does not sample again what is there: the random state follows from ids and numbers too.

    Args:
        source: who answers.
        requests: the answers that are wanted.
        temperature: divides the logits; 0 for greedy answers.
        top_p: nucleus of the distribution that is sampled from.
        max_new_tokens: longest answer.
        seed: of the random state.

    Yields:
        Each answer as soon as it is there: from an endpoint in any order.

    Raises:
        UsageError: the source names no model or two, or its endpoint cannot be used.
        ChildError: the model cannot be loaded.
        EndpointError: an endpoint did not answer; what was yielded before counts.
    """
    if bool(source.model) == bool(source.url):
        raise UsageError("answers come from a model or from an endpoint: name one of them")
    if not requests:
        return
    sample = endpoint_answers if source.url else local_answers
    yield from sample(source, requests, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)
