"""Settings that cannot be swept, because all their values give the same model."""

from dpo_tui.config.schema import SECTIONS

WITHOUT_EFFECT = {
    **dict.fromkeys(SECTIONS["compute"].model_fields, "it says where and how fast a run trains, and not what"),
    **dict.fromkeys(SECTIONS["slurm"].model_fields, "it says what a job asks for"),
    **dict.fromkeys(
        ("name", "report_to", "task", "logging_steps", "save_steps", "save_total_limit", "merge_at_end"),
        "it says what is written down, and not what is trained",
    ),
    **dict.fromkeys(("sample_prompts", "sample_max_new_tokens", "looks_share"), "it changes only what is shown"),
    "dataset_num_proc": "it says how fast rows are read",
}
"""Settings whose values all give the same model, and why."""
