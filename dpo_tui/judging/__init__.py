"""Blind comparison of answers by a person or a judge model: judging a run, and making preference pairs."""
