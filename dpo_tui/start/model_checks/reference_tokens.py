"""Check that a reference other than the start gives probabilities to the tokens that the policy is trained on."""

from dpo_tui.start.model_checks.input_embeddings import input_embeddings
from dpo_tui.start.model_checks.model_folder import ModelFolder
from dpo_tui.start.model_checks.tokenizer_check import added_tokens, token_ids

_SAME_TOKENS = (
    "take a reference of the same family, such as an earlier stage of model_name: log-probabilities compare only "
    "over the same tokens"
)


def check_reference_tokens(policy: ModelFolder, reference: ModelFolder) -> list[str]:
    """Compare the tokens of two models: the rows are tokenised once, by the policy's tokenizer.

    Args:
        policy: files of the model that is trained.
        reference: files of the other one.

    Returns:
        What is unusual, in sentences.

    Raises:
        ConfigError: a token of the policy has another id in the reference, or none.
    """
    tokenizer = policy.read_object("tokenizer.json") or {}
    others = token_ids(reference.read_object("tokenizer.json") or {})
    wanted, added = token_ids(tokenizer), added_tokens(tokenizer)
    rows = max((shape[0] for shape in input_embeddings(reference)), default=0)
    beyond = sorted(token for token, number in wanted.items() if rows and number >= rows)
    if beyond:
        raise reference.error(
            f"has {rows:,} embeddings, and the tokenizer of {policy.name} gives {beyond[0]!r} the id "
            f"{wanted[beyond[0]]:,}",
            _SAME_TOKENS,
        )
    if not wanted or not others:
        return [f"The tokens of {reference.name} and {policy.name} could not be compared: one has no tokenizer.json"]
    ordinary = wanted.keys() - added.keys()
    different = sorted(token for token in ordinary if others.get(token) != wanted[token])
    if different:
        raise reference.error(
            f"has other tokens than {policy.name}: {len(different):,} of {len(ordinary):,} have another id there or "
            f"none, such as {different[0]!r}",
            _SAME_TOKENS,
        )
    # Chat tokens that a fine-tuned model has added: the reference has embeddings for them that nobody trained.
    unknown = sorted(token for token in added if others.get(token) != wanted.get(token))
    if unknown:
        return [
            f"{reference.name} does not know {len(unknown)} added token{'s' * (len(unknown) > 1)} of {policy.name}, "
            f"such as {unknown[0]!r}: what it says of answers with them is a guess"
        ]
    return []
