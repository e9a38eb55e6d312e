"""Evaluation during training: KL to the reference, answers to sample prompts, and the time budget of both."""
