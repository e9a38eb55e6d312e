"""Evaluation while a run trains: KL estimate, sampled answers, their time budget."""
