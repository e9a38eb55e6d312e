"""Which method when, as a short table: shown in the guide, in the help of the setting, and in docs/methods.md."""

METHOD_CHOICE: tuple[tuple[str, str], ...] = (
    ("pairs, and nothing speaks against it", "dpo"),
    ("the chosen answers are longer, and answers should not grow", "dpo with sigmoid_norm, or simpo"),
    ("memory or time is short", "simpo or orpo: no reference"),
    ("a base model, and no fine-tuning before", "orpo, or sft first and then dpo"),
    ("labels are noisy", 'dpo with "robust" and label_smoothing'),
    ("the chosen answers lose probability", 'dpo with "sft" added, or orpo'),
    ("thumbs, ratings or labels on single answers", "kto"),
    ("demonstrations and no pairs", "sft"),
)
"""What one has or wants, and the method for it."""
