"""[sft]: which tokens of a demonstration are trained, and how sequences fill a batch."""

from dpo_tui.config.setting import Section, setting


class SftSection(Section):
    """Supervised fine-tuning on demonstrations."""

    completion_only_loss: bool = setting(
        False,
        "last answer only",
        "Train the last answer of each conversation alone. Off trains every token, questions included, as TRL does "
        "with conversations.",
        advanced=True,
    )
    assistant_only_loss: bool = setting(
        False,
        "answers only",
        "Train every answer of a conversation and nothing else. The chat template must mark answers with "
        "{% generation %}; for the templates that TRL knows it has such a one.",
        advanced=True,
    )
    packing: bool = setting(
        False,
        "pack",
        "Put several conversations into one sequence of max_seq_length: less padding, and fewer, fuller steps. TRL's "
        "packing_strategy and eval_packing can be set in [trl].",
        advanced=True,
    )
